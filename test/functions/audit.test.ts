import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { allRoutes } from '../../functions/routes.ts';
import { createServices } from '../../functions/services.ts';
import { fieldOf, newId, sasOf, startTestCloud, type TestCloud } from '../support/cloud.ts';

let test: TestCloud;
let gateway: string;

beforeAll(async () => {
  test = await startTestCloud({ apiEnv: { GATEPOST_UPSTREAM_TIMEOUT_MS: '1000' } });
  gateway = await test.newGateway();
});
afterEach(() => test.cloud.faults.clear());
afterAll(() => test?.close());

const rowsOf = async (query: string) => (await test.call('GET', `/api/v1/audit?${query}`)).json.value;
const onboard = (id: string, json: object = {}) =>
  test.call('POST', `/api/v1/devices/${id}/onboard`, { json: { gateway, ...json } });
const brief = (rows: { action: string; outcome: string; credential: string | null }[]) =>
  rows.map(({ action, outcome, credential }) => [action, outcome, credential]);
const keyOf = (answer: { json: { connectionString: string } }) =>
  fieldOf(answer.json.connectionString, 'SharedAccessKey') ?? '';

it('every route that changes something or gives a credential out is recorded, and no other', () => {
  const routes = allRoutes(
    createServices({
      GATEPOST_HUB_HOSTNAME: 'plant.azure-devices.net',
      GATEPOST_VAULT_URL: 'https://plant.vault.azure.net',
      GATEPOST_ENTRA_ISSUER: 'https://login.microsoftonline.com/tenant/v2.0',
      GATEPOST_ENTRA_AUDIENCE: 'api://gatepost',
      AzureWebJobsStorage: 'UseDevelopmentStorage=true',
    }),
  );
  const reads = (methods: readonly string[]) => methods.every((method) => method === 'GET' || method === 'HEAD');
  const expected = routes.filter(({ methods, access }) => !reads(methods) || access.plane === 'device');
  const recorded = routes.filter(({ audit }) => audit !== undefined);
  expect(recorded.map(({ name }) => name).sort()).toEqual(expected.map(({ name }) => name).sort());
  expect(recorded.length).toBeGreaterThan(14);
});

describe('GET /audit', () => {
  it('tells of a device who did what, with what outcome, and where to find it in the logs', async () => {
    const id = newId();
    const answer = await onboard(id);
    const [row] = await rowsOf(`device=${id}`);
    expect(row).toMatchObject({
      action: 'device.onboard',
      outcome: 'succeeded',
      status: 201,
      code: null,
      caller: { plane: 'operator' },
      device: id,
      gateway,
      credential: 'key',
      correlationId: answer.headers.get('gatepost-correlation-id'),
      requestId: answer.headers.get('x-ms-request-id'),
    });
  });

  it('has every credential, of its kind, and whoever got it', async () => {
    const id = newId();
    const key = keyOf(await onboard(id));
    await test.call('POST', `/api/v1/devices/${id}/connection-string`, { json: { credential: 'sas' } });
    const issued = await test.call('POST', `/api/v1/devices/${id}/join-token`, { json: {} });
    await test.call('POST', '/api/v1/join', { json: { token: issued.json.token }, authorization: null });
    const authorization = sasOf({ hub: test.cloud.hub.hostname, deviceId: id, key });
    await test.call('GET', `/api/v1/devices/${id}/onboarding`, { authorization });
    await test.call('POST', `/api/v1/devices/${id}/sas-token`, { authorization });
    const rows = await rowsOf(`device=${id}`);
    expect(brief(rows)).toEqual([
      ['credential.refresh', 'succeeded', 'sas'],
      ['credential.refresh', 'succeeded', 'sas'],
      ['join_token.redeem', 'succeeded', 'key'],
      ['join_token.issue', 'succeeded', null],
      ['credential.issue', 'succeeded', 'sas'],
      ['device.onboard', 'succeeded', 'key'],
    ]);
    expect(rows.map(({ caller }: { caller: { plane: string } }) => caller.plane)).toEqual([
      'device',
      'device',
      'join',
      'operator',
      'operator',
      'operator',
    ]);
    expect((await rowsOf(`caller=device:${id}`)).length).toBe(2);
    expect((await rowsOf(`caller=join:${id}`)).length).toBe(1);
  });

  it('tells of a caller what it did, to devices, gateways and roots, and what it was refused', async () => {
    const authorization = await test.tokenWith('Fleet.Provision', 'Trust.Manage');
    const oid = JSON.parse(Buffer.from(authorization.split('.')[1] ?? '', 'base64url').toString()).oid;
    const id = newId();
    await test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway }, authorization });
    await test.call('DELETE', `/api/v1/devices/${id}`, { authorization });
    await test.call('DELETE', `/api/v1/devices/${id}`, { authorization });
    await test.call('POST', '/api/v1/roots', { json: { name: 'no-root', pem: 'x' }, authorization });
    const rows = await rowsOf(`caller=${oid}`);
    expect(rows.map(({ action, outcome, code }: Record<string, string>) => [action, outcome, code])).toEqual([
      ['root.import', 'refused', 'root_not_pem'],
      ['device.delete', 'refused', 'device_not_found'],
      ['device.delete', 'succeeded', null],
      ['device.put', 'succeeded', null],
    ]);
    expect((await rowsOf('root=no-root')).length).toBe(1);
    expect((await rowsOf(`device=${id}&caller=${oid}`)).length).toBe(3);
    expect((await rowsOf(`device=${gateway}`))[0]).toMatchObject({ action: 'gateway.put', gateway });
  });

  it('answers in pages that end, and within times', async () => {
    const id = newId();
    for (let n = 0; n < 5; n += 1) await onboard(id);
    let path: string | undefined = `/api/v1/audit?device=${id}&pageSize=2`;
    const times: string[] = [];
    for (let pages = 0; path !== undefined && pages < 10; pages += 1) {
      const { json } = await test.call('GET', path);
      times.push(...json.value.map(({ at }: { at: string }) => at));
      path = json.nextLink;
    }
    expect(path).toBeUndefined();
    expect(times).toHaveLength(5);
    expect(times).toEqual([...times].sort().reverse());
    expect(await rowsOf(`device=${id}&to=2020-01-01T00:00:00Z`)).toEqual([]);
    expect(await rowsOf(`device=${id}&from=${times.at(1)}`)).toHaveLength(2);
  });

  it('is for those with the role, and wants to know what of', async () => {
    const authorization = await test.tokenWith('Fleet.Provision', 'Credential.Issue', 'Trust.Manage', 'Fleet.Read');
    expect(await test.outcome('GET', '/api/v1/audit?device=d', { authorization })).toBe('403 role_missing');
    const own = await test.tokenWith('Audit.Read');
    expect(await test.outcome('GET', '/api/v1/audit?device=d', { authorization: own })).toBe('200');
    const place = (text: string) => Buffer.from(JSON.stringify(['audit ["d",null,null]', text])).toString('base64url');
    const wrong = [
      '',
      'device=d&root=r',
      'device=%00',
      'from=yesterday&device=d',
      `device=d&continuation=${place("x' or")}`,
    ];
    for (const query of wrong) {
      expect(await test.outcome('GET', `/api/v1/audit?${query}`)).toBe('400 invalid_request');
    }
  });
});

describe('while the audit log cannot be written', () => {
  const noAppends = { target: 'storage', match: { method: 'POST' } } as const;

  it('nothing is changed and no credential is given to operators', async () => {
    const id = newId();
    await onboard(id);
    const other = newId();
    test.cloud.faults.add({ ...noAppends, fault: { status: 503 } });
    test.hubCalls();
    expect(await test.outcome('PUT', `/api/v1/devices/${other}`, { json: { gateway } })).toBe(
      '503 upstream_unavailable',
    );
    expect(await test.outcome('DELETE', `/api/v1/devices/${id}`)).toBe('503 upstream_unavailable');
    expect(test.hubCalls()).toEqual({});
    const issue = await test.call('POST', `/api/v1/devices/${id}/connection-string`, { json: { credential: 'key' } });
    expect([issue.status, issue.json.code]).toEqual([503, 'upstream_unavailable']);
    expect(issue.text).not.toContain('SharedAccess');
    test.cloud.faults.clear();
    expect((await test.call('GET', `/api/v1/devices/${id}`)).status).toBe(200);
    expect((await test.call('GET', `/api/v1/devices/${other}`)).status).toBe(404);
  });

  it('a join costs no token', async () => {
    const id = newId();
    await onboard(id);
    const { json } = await test.call('POST', `/api/v1/devices/${id}/join-token`, { json: {} });
    const join = () => test.outcome('POST', '/api/v1/join', { json: { token: json.token }, authorization: null });
    test.cloud.faults.add({ ...noAppends, fault: { status: 503 } });
    expect(await join()).toBe('503 upstream_unavailable');
    test.cloud.faults.clear();
    expect(await join()).toBe('200');
    expect(await join()).toBe('401 join_token_invalid');
  });

  it('a device renews its credential, and the log has what the row would have had', async () => {
    const id = newId();
    const key = keyOf(await onboard(id));
    test.cloud.faults.add({ ...noAppends, fault: { status: 503 } });
    const authorization = sasOf({ hub: test.cloud.hub.hostname, deviceId: id, key });
    expect(await test.outcome('POST', `/api/v1/devices/${id}/sas-token`, { authorization })).toBe('200');
    const find = () => test.cloud.host.logs().find((line) => line.includes('"audit_row_lost"') && line.includes(id));
    await expect.poll(find).toMatch(/"action":"credential\.refresh".*"kind":"sas".*"outcome":"succeeded"/);
    expect(find()).not.toContain('SharedAccess');
  });

  it('only afterwards, what was done is answered, and its first row stays', async () => {
    const id = newId();
    await onboard(newId());
    // Two rows before, and then none any more, whatever is tried.
    test.cloud.faults.add({ ...noAppends, fault: { delayMs: 1 }, times: 2 });
    test.cloud.faults.add({ ...noAppends, fault: { status: 403 } });
    expect(await test.outcome('PUT', `/api/v1/devices/${id}`, { json: { gateway } })).toBe('201');
    test.cloud.faults.clear();
    expect(brief(await rowsOf(`device=${id}`))).toEqual([['device.put', 'unknown', null]]);
  });
});

it('what is kept no longer is deleted once a day', async () => {
  await test.cloud.host.invoke('purgeRecords');
  const purged = () =>
    test.cloud.host
      .logs()
      .map((line) => /\{"event":"records_purged".*\}/.exec(line)?.[0])
      .filter((line) => line !== undefined)
      .map((line) => JSON.parse(line));
  await expect.poll(purged).toHaveLength(3);
  expect(purged().map(({ kind, count }) => [kind, count])).toEqual([
    ['months', 0],
    ['joinTokens', 0],
    ['limits', 0],
  ]);
});

it('costs the hub nothing', async () => {
  await onboard(newId());
  test.hubCalls();
  await onboard(newId());
  expect(test.hubCalls()).toEqual({ 'PUT /devices/{id}': 1 });
});
