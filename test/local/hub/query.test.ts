import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createDevice,
  createEdge,
  type HubUnderTest,
  keyIn,
  refusal,
  request,
  sasToken,
  startHubUnderTest,
} from './support.ts';

type Query = ReturnType<HubUnderTest['registry']['createQuery']>;

let under: HubUnderTest;
let scope: string;

beforeAll(async () => {
  under = await startHubUnderTest();
  const { registry } = under;
  scope = (await createEdge(registry, 'gateway')).deviceScope;
  await createEdge(registry, 'child', { parentScopes: [scope] });
  await createDevice(registry, 'leaf-1', { deviceScope: scope });
  await createDevice(registry, 'leaf-2', { deviceScope: scope, status: 'disabled' });
  await createDevice(registry, 'stranger');
  await registry.addModule({ deviceId: 'leaf-1', moduleId: 'filter' });
  await registry.updateTwin('leaf-1', { tags: { gatepost: { batch: 7, line: 'A' } } }, '*');
  await registry.updateTwin('leaf-2', { tags: { gatepost: { batch: 9, line: "B'1" } } }, '*');
  await registry.updateTwin('stranger', { tags: { gatepost: { batch: null, ready: true } } }, '*');
});

afterAll(() => under.stop());

/** The promise form of `next()` never sends the token of the page before by itself: it would answer the first for ever. */
async function nextPage(query: Query): Promise<Record<string, unknown>[]> {
  return (await query.next(query.continuationToken)).result as Record<string, unknown>[];
}

async function rows(sql: string, size?: number): Promise<Record<string, unknown>[]> {
  const query = under.registry.createQuery(sql, size);
  const all: Record<string, unknown>[] = [];
  do {
    all.push(...(await nextPage(query)));
  } while (query.hasMoreResults);
  return all;
}

const ids = async (condition: string) =>
  (await rows(`select deviceId from devices where ${condition}`)).map((row) => row.deviceId);

describe('azure-iothub Registry: queries', () => {
  it.each([
    ['array_contains(parentScopes, SCOPE)', ['child', 'leaf-1', 'leaf-2']],
    ['deviceScope = SCOPE', ['gateway', 'leaf-1', 'leaf-2']],
    ['deviceScope = SCOPE and capabilities.iotEdge = false', ['leaf-1', 'leaf-2']],
    ['capabilities.iotEdge = true', ['child', 'gateway']],
    ["status = 'disabled'", ['leaf-2']],
    ["status != 'enabled'", ['leaf-2']],
    ["tags.gatepost.line = 'A'", ['leaf-1']],
    ["tags.gatepost.line = 'B\\'1'", ['leaf-2']],
    ['tags.gatepost.line = "A"', ['leaf-1']],
    ['tags.gatepost.batch > 7', ['leaf-2']],
    ['tags.gatepost.batch >= 7 and tags.gatepost.batch <= 9', ['leaf-1', 'leaf-2']],
    ['is_defined(tags.gatepost.batch)', ['leaf-1', 'leaf-2']],
    ['not is_defined(tags.gatepost)', ['child', 'gateway']],
    ["deviceId in ['leaf-1', 'stranger', 'nobody']", ['leaf-1', 'stranger']],
    ["deviceId NIN ['leaf-1', 'stranger']", ['child', 'gateway', 'leaf-2']],
    ["startswith(deviceId, 'leaf') and endswith(deviceId, '2')", ['leaf-2']],
    ["(deviceId = 'leaf-1' or deviceId = 'child') and status = 'enabled'", ['child', 'leaf-1']],
    ["deviceId = 'leaf-1' or deviceId = 'child' and status = 'disabled'", ['leaf-1']],
    ["connectionState = 'Disconnected' AND tags.gatepost.ready = TRUE", ['stranger']],
  ])('selects by %s', async (condition, expected) => {
    expect(await ids(condition.replace('SCOPE', `'${scope}'`))).toEqual(expected);
  });

  it('leaves out what lacks the property, also for !=', async () => {
    expect(await ids("tags.gatepost.line != 'A'")).toEqual(['leaf-2']);
    expect(await ids("not (tags.gatepost.line = 'A')")).toEqual(['leaf-2']);
  });

  it('answers whole twins for *', async () => {
    const [twin] = await rows("SELECT * FROM devices WHERE deviceId = 'leaf-1'");
    expect(twin).toMatchObject({ deviceId: 'leaf-1', deviceScope: scope, tags: { gatepost: { batch: 7 } } });
  });

  it('answers the select list, by the last name or by AS, without what is not there', async () => {
    const sql =
      "select deviceId, tags.gatepost.batch, status as state, tags.none from devices where status = 'disabled'";
    expect(await rows(sql)).toEqual([{ deviceId: 'leaf-2', batch: 9, state: 'disabled' }]);
  });

  it('counts', async () => {
    const sql = `select COUNT() as children from devices where array_contains(parentScopes, '${scope}')`;
    expect(await rows(sql)).toEqual([{ children: 3 }]);
  });

  it('selects modules', async () => {
    const sql = "select deviceId, moduleId from devices.modules where moduleId = 'filter'";
    expect(await rows(sql)).toEqual([{ deviceId: 'leaf-1', moduleId: 'filter' }]);
    expect(await rows('select * from devices.modules')).toHaveLength(5);
  });

  it('answers in pages that join without a gap', async () => {
    const query = under.registry.createQuery('select deviceId from devices', 2);
    const pages: unknown[][] = [];
    do pages.push(await nextPage(query));
    while (query.hasMoreResults);
    expect(pages.map((page) => page.length)).toEqual([2, 2, 1]);
    expect(pages.flat()).toEqual(
      ['child', 'gateway', 'leaf-1', 'leaf-2', 'stranger'].map((deviceId) => ({ deviceId })),
    );
  });

  it('stops at TOP, over the pages', async () => {
    expect(await rows('select top 3 deviceId from devices', 2)).toHaveLength(3);
  });

  it('hands twins to nextAsTwin', async () => {
    const query = under.registry.createQuery("select * from devices where deviceId = 'leaf-1'");
    const { result } = await query.nextAsTwin();
    expect(result[0]?.deviceId).toBe('leaf-1');
  });

  it.each([
    'select deviceId',
    'select from devices',
    'select * from jobs',
    'select * from devices where',
    "select * from devices where deviceId = 'a",
    'select * from devices where deviceId ==',
    "select * from devices where (deviceId = 'a'",
    'select * from devices where soundex(deviceId)',
    'select * from devices where array_contains(parentScopes)',
    'select COUNT() from devices',
    'select status, COUNT() as n from devices group by status',
    'drop table devices',
  ])('refuses %s', async (sql) => {
    expect(await refusal(rows(sql))).toMatchObject({ error: 'ArgumentError', status: 400 });
  });

  it('refuses a continuation that belongs to another query, or to none', async () => {
    const { hub } = under;
    const authorization = sasToken(hub.hostname, keyIn(hub.connectionString), { policy: 'iothubowner' });
    const ask = (query: string, headers: Record<string, string>) =>
      request(under, 'POST', '/devices/query?api-version=2021-04-12', { authorization, headers, body: { query } });
    const first = await ask('select * from devices', { 'x-ms-max-item-count': '2' });
    expect(first.headers['x-ms-item-type']).toBe('Twin');
    const continuation = String(first.headers['x-ms-continuation']);
    const other = await ask('select deviceId from devices', { 'x-ms-continuation': continuation });
    expect(other.status).toBe(400);
    expect((await ask('select * from devices', { 'x-ms-continuation': 'x' })).status).toBe(400);
    expect((await ask('select * from devices', { 'x-ms-max-item-count': '0' })).status).toBe(400);
  });
});
