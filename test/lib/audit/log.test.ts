import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type AuditEvent, type AuditLog, auditLog } from '../../../lib/audit/log.ts';
import { purgeRecords } from '../../../lib/audit/purge.ts';
import { tableClient } from '../../../lib/azure/tables.ts';
import { joinTokens } from '../../../lib/enrollment/join-tokens.ts';
import { type Doubles, startDoubles } from '../../support/doubles.ts';
import { uniqueTable } from '../../support/tables.ts';

let doubles: Doubles;
let audit: AuditLog;
let count = 0;

beforeAll(async () => {
  doubles = await startDoubles({ environment: { GATEPOST_UPSTREAM_TIMEOUT_MS: '1000' } });
  audit = auditLog(tableClient(doubles));
});
afterEach(() => doubles.faults.clear());
afterAll(() => doubles.close());

const operator = { plane: 'operator', id: 'o-1', name: 'factory' };
const year = { from: new Date('2025-12-01T00:00:00Z'), to: new Date('2026-12-01T00:00:00Z') };

function event(at: string, about: Partial<AuditEvent> = {}): AuditEvent {
  count += 1;
  return {
    id: count.toString(16).padStart(12, '0'),
    at: new Date(at),
    action: 'device.put',
    caller: operator,
    subject: { deviceId: 'd' },
    correlationId: 'c',
    requestId: 'r',
    ...about,
  };
}

async function record(at: string, about: Partial<AuditEvent> = {}): Promise<void> {
  const made = event(at, about);
  await audit.append(made);
  await audit.append(made, { outcome: 'succeeded', status: 200 });
}

/** All pages, and how many there were. */
async function all(query: { device?: string; caller?: string; root?: string }, size: number, times = year) {
  const found: { at: string; outcome: string; action: string }[] = [];
  let pages = 0;
  let continuation: string | undefined;
  do {
    const page = await audit.query({ ...query, ...times, size, continuation });
    found.push(...page.rows);
    continuation = page.continuation;
    pages += 1;
  } while (continuation !== undefined && pages < 100);
  return { found, pages };
}

describe('the audit log', () => {
  it('answers the events of a device and of a caller over months, latest first, each once, in pages of any size', async () => {
    const times = [
      '2026-01-31T23:59:59.999Z',
      '2026-02-01T00:00:00.000Z',
      '2026-02-01T00:00:00.000Z',
      '2026-05-09T08:00:00Z',
    ];
    for (const at of times)
      await record(at, { subject: { deviceId: 'over-months' }, caller: { ...operator, id: 'o-2' } });
    const expected = times.map((at) => new Date(at).toISOString()).reverse();
    for (const size of [1, 2, 3, 4, 100]) {
      for (const query of [{ device: 'over-months' }, { caller: 'o-2' }]) {
        const { found } = await all(query, size);
        expect(found.map(({ at }) => at)).toEqual(expected);
        expect(new Set(found.map(({ outcome }) => outcome))).toEqual(new Set(['succeeded']));
      }
    }
  });

  it('answers what lies between two instants, both included', async () => {
    const subject = { deviceId: 'between' };
    for (const minute of [1, 2, 3, 4]) await record(`2026-03-01T00:0${minute}:00Z`, { subject });
    const times = { from: new Date('2026-03-01T00:02:00Z'), to: new Date('2026-03-01T00:03:00Z') };
    const { found } = await all({ device: 'between' }, 10, times);
    expect(found.map(({ at }) => at)).toEqual(['2026-03-01T00:03:00.000Z', '2026-03-01T00:02:00.000Z']);
  });

  it('shows of a device only what one caller did, where both are asked for', async () => {
    const subject = { deviceId: 'shared' };
    for (let n = 0; n < 5; n += 1) {
      await record(`2026-03-02T00:00:0${n}Z`, { subject, caller: { ...operator, id: n % 2 ? 'odd' : 'even' } });
    }
    expect((await all({ device: 'shared', caller: 'odd' }, 2)).found).toHaveLength(2);
    expect((await all({ device: 'shared', caller: 'even' }, 2)).found).toHaveLength(3);
  });

  it('shows what was begun and never ended, as that', async () => {
    await audit.append(event('2026-03-03T00:00:00Z', { subject: { deviceId: 'half' } }));
    expect((await all({ device: 'half' }, 10)).found).toMatchObject([{ outcome: 'unknown' }]);
  });

  it('keeps ids apart that hold what a key may not, or look alike', async () => {
    const ids = ['a#b', 'a?b', 'a%23b', 'a=23b', "a'b", 'a+b', 'A#b'];
    for (const [n, deviceId] of ids.entries()) await record(`2026-03-04T00:00:0${n}Z`, { subject: { deviceId } });
    for (const [n, device] of ids.entries()) {
      const { found } = await all({ device }, 10);
      expect(found.map(({ at }) => at)).toEqual([`2026-03-04T00:00:0${n}.000Z`]);
    }
    await record('2026-03-04T00:01:00Z', { subject: { root: 'd' }, action: 'root.import' });
    expect((await all({ root: 'd' }, 10)).found.map(({ action }) => action)).toEqual(['root.import']);
  });

  it('has one event where the answer to writing it was lost', async () => {
    doubles.faults.add({ target: 'storage', match: { method: 'POST' }, fault: { cut: 'after' }, times: 1 });
    await record('2026-03-05T00:00:00Z', { subject: { deviceId: 'lost' } });
    expect((await all({ device: 'lost' }, 10)).found).toHaveLength(1);
  });

  it('is read in one call a month, whatever it holds, and none for a month without any', async () => {
    for (let n = 10; n < 40; n += 1) await record(`2026-04-01T00:00:${n}Z`, { subject: { deviceId: 'many' } });
    await audit.query({ device: 'many', ...year, size: 1 });
    doubles.faults.resetCalls();
    const times = { from: new Date('2025-06-20T00:00:00Z'), to: new Date('2026-05-20T00:00:00Z') };
    const page = await audit.query({ device: 'many', ...times, size: 100 });
    expect(page.rows).toHaveLength(30);
    const calls = Object.values(doubles.faults.calls().storage).reduce((sum, each) => sum + each, 0);
    expect(calls).toBeLessThanOrEqual(6);
  });
});

describe('the daily purge', () => {
  it('deletes the months that are kept no longer, expired join tokens and idle limits, and nothing else', async () => {
    const tables = tableClient(doubles);
    const clock = { now: new Date('2024-01-10T00:00:00Z') };
    const tokens = joinTokens({
      table: tables(uniqueTable()),
      clock: () => clock.now,
      randomBytes,
    });
    const limits = tables(uniqueTable());
    const grant = { hubHostname: 'h', deviceId: 'd', generationId: 'g', moduleId: null, credential: 'key' as const };
    const old = await tokens.issue(grant, 600);
    await limits.insert({ partitionKey: 'a', rowKey: 'old', permits: 1, at: clock.now });
    for (const month of ['2023-11', '2023-12', '2024-01'])
      await record(`${month}-15T00:00:00Z`, { subject: { deviceId: 'kept' } });
    clock.now = new Date('2024-01-20T00:00:00Z');
    const fresh = await tokens.issue(grant, 600);
    await limits.insert({ partitionKey: 'a', rowKey: 'fresh', permits: 1, at: clock.now });
    const purge = () => purgeRecords({ audit, joinTokens: tokens, limits, retentionDays: 30, now: clock.now });
    expect(await purge()).toEqual({ months: 1, joinTokens: 1, limits: 1 });
    expect(await purge()).toEqual({ months: 0, joinTokens: 0, limits: 0 });
    const times = { from: new Date('2023-10-01T00:00:00Z'), to: clock.now };
    expect((await all({ device: 'kept' }, 10, times)).found.map(({ at }) => at.slice(0, 7))).toEqual([
      '2024-01',
      '2023-12',
    ]);
    await expect(tokens.look(old.token.reveal())).rejects.toMatchObject({ reason: 'unknown' });
    expect(await tokens.look(fresh.token.reveal())).toMatchObject({ deviceId: 'd' });
    expect(await limits.get('a', 'fresh')).toBeDefined();
    expect(await limits.get('a', 'old')).toBeUndefined();
  });

  it('has no trouble with tables that were never made', async () => {
    const tables = tableClient(doubles);
    const tokens = joinTokens({ table: tables(uniqueTable()), clock: () => new Date(), randomBytes });
    expect(await tokens.purge(new Date(), 10)).toBe(0);
    expect(await tables(uniqueTable()).before('at', new Date(), 10)).toEqual([]);
  });

  it('deletes as many at once as it is told, and the rest the next time', async () => {
    const table = tableClient(doubles)(uniqueTable());
    const tokens = joinTokens({
      table,
      clock: () => new Date('2024-01-10T00:00:00Z'),
      randomBytes,
    });
    const grant = { hubHostname: 'h', deviceId: 'd', generationId: 'g', moduleId: null, credential: 'key' as const };
    for (let n = 0; n < 20; n += 1) await tokens.issue(grant, 600);
    const now = new Date('2024-02-01T00:00:00Z');
    expect([await tokens.purge(now, 12), await tokens.purge(now, 12), await tokens.purge(now, 12)]).toEqual([12, 8, 0]);
  });
});
