import iothub from 'azure-iothub';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { RoleName } from '../../../local/hub/access.ts';
import {
  createDevice,
  createEdge,
  type DeviceAnswer,
  getDevice,
  type HubUnderTest,
  keyIn,
  refusal,
  request,
  sasToken,
  startHubUnderTest,
  useAgent,
} from './support.ts';

let under: HubUnderTest;
const version = 'api-version=2021-04-12';
const roleOf: Record<string, RoleName> = {
  contributor: 'IoT Hub Data Contributor',
  reader: 'IoT Hub Data Reader',
  registrar: 'IoT Hub Registry Contributor',
  twinner: 'IoT Hub Twin Contributor',
};

beforeEach(async () => {
  under = await startHubUnderTest({
    // A verifier in the place of the Entra double: a token is its object id, for the audience of the hub.
    tokens: async (token, audience) =>
      audience === 'https://iothubs.azure.net' && token !== 'forged' ? { oid: token } : undefined,
    roleAssignments: Object.entries(roleOf).map(([objectId, role]) => ({ objectId, role })),
  });
  await createEdge(under.registry, 'gateway');
});

afterEach(() => under.stop());

function statusOf(authorization: string | undefined, path = '/devices/gateway', method = 'GET'): Promise<number> {
  const options = authorization === undefined ? {} : { authorization };
  return request(under, method, `${path}?${version}`, options).then((answer) => answer.status);
}

/** What a caller is let in to: the status of one call of each kind. 401 where it is not. */
async function reach(authorization: string): Promise<Record<string, boolean>> {
  const ask = async (method: string, path: string, body?: unknown) => {
    const answer = await request(under, method, `${path}?${version}`, { authorization, body });
    return answer.status !== 401;
  };
  const query = { query: 'select * from devices' };
  return {
    'read a device': await ask('GET', '/devices/gateway'),
    'write a device': await ask('PUT', '/devices/new', { deviceId: 'new' }),
    'delete a device': await ask('DELETE', '/devices/gone'),
    'read a twin': await ask('GET', '/twins/gateway'),
    'write a twin': await ask('PATCH', '/twins/gateway', { tags: { a: 1 } }),
    query: await ask('POST', '/devices/query', query),
    'bulk write': await ask('POST', '/devices', [{ id: 'bulk', importMode: 'create' }]),
    statistics: await ask('GET', '/statistics/devices'),
    'read configurations': await ask('GET', '/configurations'),
    'write configurations': await ask('PUT', '/configurations/c', { id: 'c' }),
    'call a method': await ask('POST', '/twins/gateway/methods', { methodName: 'x' }),
  };
}

const allowed = async (authorization: string) =>
  Object.entries(await reach(authorization))
    .filter(([, isAllowed]) => isAllowed)
    .map(([name]) => name);

describe('shared access policies', () => {
  it.each([
    ['registryRead', ['read a device', 'query', 'statistics', 'read configurations']],
    [
      'registryReadWrite',
      [
        'read a device',
        'write a device',
        'delete a device',
        'query',
        'bulk write',
        'statistics',
        'read configurations',
        'write configurations',
      ],
    ],
    ['service', ['read a twin', 'write a twin', 'call a method']],
    ['device', []],
  ] as const)('%s reaches what it has the right to', async (policy, expected) => {
    const key = keyIn(under.hub.connectionStringOf(policy));
    expect(await allowed(sasToken(under.hub.hostname, key, { policy }))).toEqual(expected);
  });

  it('iothubowner reaches everything', async () => {
    const key = keyIn(under.hub.connectionString);
    const reached = await reach(sasToken(under.hub.hostname, key, { policy: 'iothubowner' }));
    expect(Object.values(reached)).not.toContain(false);
  });

  it('tells azure-iothub that it is not authorized', async () => {
    const reader = under.registryOf(under.hub.connectionStringOf('registryRead'));
    expect((await reader.get('gateway')).responseBody.deviceId).toBe('gateway');
    expect(await refusal(reader.create({ deviceId: 'new' }))).toMatchObject({
      error: 'UnauthorizedError',
      status: 401,
      code: 'IotHubUnauthorized',
    });
  });

  it('are refused without a token, with a broken one, an expired one, a wrong key or an unknown name', async () => {
    const { hostname, connectionString } = under.hub;
    const key = keyIn(connectionString);
    const good = { policy: 'iothubowner' };
    const wrong = Buffer.alloc(32, 1).toString('base64');
    expect(await statusOf(sasToken(hostname, key, good))).toBe(200);
    const refused: (string | undefined)[] = [
      undefined,
      'SharedAccessSignature',
      'Basic eDp5',
      sasToken(hostname, key, { ...good, seconds: -1 }),
      sasToken(hostname, wrong, good),
      sasToken(hostname, key, { policy: 'nobody' }),
      sasToken(hostname, key, { policy: 'registryRead' }),
      sasToken(hostname, key),
      sasToken(hostname, key, good).replace(/se=\d+/, 'se=99999999999'),
    ];
    for (const authorization of refused) expect(await statusOf(authorization)).toBe(401);
  });

  it('take the resource as a prefix by segment, the host without case', async () => {
    const { hostname, connectionString } = under.hub;
    const key = keyIn(connectionString);
    const policy = { policy: 'iothubowner' };
    const good = [hostname.toUpperCase(), `${hostname}/devices`, encodeURIComponent(`${hostname}/devices/gateway`)];
    for (const resource of good) expect(await statusOf(sasToken(resource, key, policy))).toBe(200);
    const bad = [
      `${hostname}/dev`,
      `${hostname}/twins`,
      `${hostname}/devices/gate`,
      'other.azure-devices.net',
      `${hostname}.x`,
    ];
    for (const resource of bad) expect(await statusOf(sasToken(resource, key, policy))).toBe(401);
  });

  it('do not help a request without api-version', async () => {
    const { hostname, connectionString } = under.hub;
    const authorization = sasToken(hostname, keyIn(connectionString), { policy: 'iothubowner' });
    expect((await request(under, 'GET', '/devices/gateway', { authorization })).status).toBe(400);
    expect((await request(under, 'GET', '/devices/gateway')).status).toBe(401);
  });
});

describe('Entra roles', () => {
  it.each([
    ['registrar', ['read a device', 'write a device', 'delete a device', 'bulk write']],
    ['twinner', ['read a twin', 'write a twin', 'query']],
    ['reader', ['read a device', 'read a twin', 'query', 'statistics', 'read configurations']],
    ['nobody', []],
    ['forged', []],
  ])('%s reaches what its role has the data actions for', async (oid, expected) => {
    expect(await allowed(`Bearer ${oid}`)).toEqual(expected);
  });

  it('the contributor reaches everything', async () => {
    expect(Object.values(await reach('Bearer contributor'))).not.toContain(false);
  });

  it('are checked for the real client with its token credential', async () => {
    const asked: unknown[] = [];
    const credential = (oid: string) => ({
      getToken: async (scopes: string | string[]) => {
        asked.push(scopes);
        return { token: oid, expiresOnTimestamp: Date.now() + 3_600_000 };
      },
    });
    const registryFor = (oid: string) => {
      const registry = iothub.Registry.fromTokenCredential(under.hub.hostname, credential(oid));
      useAgent(registry, under.agent);
      return registry;
    };
    expect((await registryFor('reader').get('gateway')).responseBody.deviceId).toBe('gateway');
    expect(asked.flat()).toEqual(['https://iothubs.azure.net/.default']);
    const refused = await refusal(registryFor('reader').create({ deviceId: 'new' }));
    expect(refused).toMatchObject({ error: 'UnauthorizedError', status: 401 });
    expect(refused).toMatchObject({
      body: expect.stringContaining('is not authorized for PUT on /devices/new due to no assigned permissions'),
    });
  });
});

describe("a device's own key", () => {
  it('manages its own modules, as aziot-identityd does, and nothing else', async () => {
    const device = await createDevice(under.registry, 'Box');
    const key = device.authentication.symmetricKey.primaryKey ?? '';
    // It writes the audience in lower case.
    const authorization = sasToken(`${under.hub.hostname}/devices/box`, key);
    const path = `/devices/Box/modules/agent?${version}`;
    const body = { moduleId: 'agent', deviceId: 'Box' };
    expect((await request(under, 'PUT', path, { authorization, body })).status).toBe(200);
    expect((await request(under, 'PUT', path, { authorization, body, headers: { 'if-match': '*' } })).status).toBe(200);
    expect(await statusOf(authorization, '/devices/Box/modules')).toBe(200);
    expect(await statusOf(authorization, '/devices/Box/modules/agent', 'DELETE')).toBe(204);
    expect(await statusOf(authorization, '/devices/Box')).toBe(401);
    expect(await statusOf(authorization, '/twins/Box')).toBe(401);
    expect(await statusOf(authorization, '/devices/gateway/modules')).toBe(401);
  });

  it("is not replaced by a module's key", async () => {
    await createDevice(under.registry, 'box');
    const { responseBody } = await under.registry.addModule({ deviceId: 'box', moduleId: 'agent' });
    const { authentication } = responseBody as unknown as DeviceAnswer;
    const resource = `${under.hub.hostname}/devices/box/modules/agent`;
    const authorization = sasToken(resource, authentication.symmetricKey.primaryKey ?? '');
    expect(await statusOf(authorization, '/devices/box/modules/agent')).toBe(401);
  });

  it('may change the keys of its $edgeHub, but not remove it', async () => {
    const gateway = await getDevice(under.registry, 'gateway');
    const key = gateway.authentication.symmetricKey.secondaryKey ?? '';
    const authorization = sasToken(`${under.hub.hostname}/devices/gateway`, key);
    const path = `/devices/gateway/modules/%24edgeHub?${version}`;
    const symmetricKey = {
      primaryKey: Buffer.alloc(32, 1).toString('base64'),
      secondaryKey: Buffer.alloc(32, 2).toString('base64'),
    };
    const body = { moduleId: '$edgeHub', deviceId: 'gateway', authentication: { type: 'sas', symmetricKey } };
    const put = await request(under, 'PUT', path, { authorization, body, headers: { 'if-match': '*' } });
    expect(put.json()).toMatchObject({ authentication: { symmetricKey } });
    expect((await request(under, 'DELETE', path, { authorization, headers: { 'if-match': '*' } })).status).toBe(401);
  });

  it('is good for nothing once the device is disabled', async () => {
    const device = await createDevice(under.registry, 'box');
    const authorization = sasToken(
      `${under.hub.hostname}/devices/box`,
      device.authentication.symmetricKey.primaryKey ?? '',
    );
    expect(await statusOf(authorization, '/devices/box/modules')).toBe(200);
    await under.registry.update({ ...device, status: 'disabled' });
    expect(await statusOf(authorization, '/devices/box/modules')).toBe(401);
  });
});
