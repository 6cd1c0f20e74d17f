import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  createDevice,
  createEdge,
  getDevice,
  type HubUnderTest,
  keyIn,
  refusal,
  request,
  sasToken,
  startHubUnderTest,
} from './support.ts';

let under: HubUnderTest;

beforeEach(async () => {
  under = await startHubUnderTest();
});

afterEach(() => under.stop());

/** A request with the owner's token, for headers that azure-iothub never sends. */
function asOwner(method: string, path: string, options: { headers?: Record<string, string>; body?: unknown } = {}) {
  const { hub } = under;
  const authorization = sasToken(hub.hostname, keyIn(hub.connectionString), { policy: 'iothubowner' });
  return request(under, method, path, { ...options, authorization });
}

describe('azure-iothub Registry: create', () => {
  it('makes a device with generated keys, a generation and an ETag', async () => {
    const device = await createDevice(under.registry, 'pump-1');
    const { primaryKey, secondaryKey } = device.authentication.symmetricKey;
    expect(Buffer.from(primaryKey ?? '', 'base64')).toHaveLength(32);
    expect(Buffer.from(secondaryKey ?? '', 'base64')).toHaveLength(32);
    expect(primaryKey).not.toBe(secondaryKey);
    expect(device).toMatchObject({ deviceId: 'pump-1', status: 'enabled', connectionState: 'Disconnected' });
    expect(device.generationId).toMatch(/^\d+$/);
    expect(device.etag).not.toBe('');
    expect(device).not.toHaveProperty('deviceScope');
  });

  it('keeps the keys it is given', async () => {
    const symmetricKey = {
      primaryKey: randomBytes(32).toString('base64'),
      secondaryKey: randomBytes(16).toString('base64'),
    };
    const device = await createDevice(under.registry, 'pump', { authentication: { type: 'sas', symmetricKey } });
    expect(device.authentication.symmetricKey).toEqual(symmetricKey);
  });

  it.each([
    ['no base64', 'not base64!', randomBytes(32).toString('base64')],
    ['15 bytes', randomBytes(15).toString('base64'), randomBytes(32).toString('base64')],
    ['65 bytes', randomBytes(65).toString('base64'), randomBytes(32).toString('base64')],
    ['one of two', randomBytes(32).toString('base64'), ''],
  ])('refuses keys that are %s', async (_what, primaryKey, secondaryKey) => {
    const authentication = { type: 'sas', symmetricKey: { primaryKey, secondaryKey } };
    expect(await refusal(createDevice(under.registry, 'pump', { authentication }))).toMatchObject({
      error: 'ArgumentError',
    });
    expect(await refusal(under.registry.get('pump'))).toMatchObject({ error: 'DeviceNotFoundError' });
  });

  it('stores thumbprints of SHA-1 and SHA-256 and no keys for a self-signed device', async () => {
    const x509Thumbprint = { primaryThumbprint: 'a'.repeat(40), secondaryThumbprint: 'B'.repeat(64) };
    const device = await createDevice(under.registry, 'pump', {
      authentication: { type: 'selfSigned', x509Thumbprint },
    });
    expect(device.authentication).toEqual({
      type: 'selfSigned',
      symmetricKey: { primaryKey: null, secondaryKey: null },
      x509Thumbprint,
    });
  });

  it.each([
    [{ type: 'selfSigned' }],
    [{ type: 'selfSigned', x509Thumbprint: { primaryThumbprint: 'a'.repeat(41) } }],
    [{ type: 'password' }],
    [{ type: 'none' }],
  ])('refuses the authentication %j', async (authentication) => {
    expect(await refusal(createDevice(under.registry, 'pump', { authentication }))).toMatchObject({
      error: 'ArgumentError',
    });
  });

  it('makes a device of the certificate authority kind without keys', async () => {
    const device = await createDevice(under.registry, 'pump', { authentication: { type: 'certificateAuthority' } });
    expect(device.authentication).toMatchObject({
      type: 'certificateAuthority',
      symmetricKey: { primaryKey: null, secondaryKey: null },
    });
  });

  it('refuses an id that exists, and keeps what is there', async () => {
    const first = await createDevice(under.registry, 'pump');
    const again = createDevice(under.registry, 'pump');
    expect(await refusal(again)).toMatchObject({ error: 'DeviceAlreadyExistsError' });
    expect(await getDevice(under.registry, 'pump')).toEqual(first);
  });

  it('tells ids apart by case', async () => {
    await createDevice(under.registry, 'Pump');
    await createDevice(under.registry, 'pump');
    expect(await refusal(under.registry.get('PUMP'))).toMatchObject({ error: 'DeviceNotFoundError' });
  });

  it.each(['d 1', 'ä', 'a'.repeat(129), 'a/b'])('refuses the id %s', async (deviceId) => {
    expect(await refusal(createDevice(under.registry, deviceId))).toMatchObject({ error: 'ArgumentError' });
  });

  it("takes every character that the identity registry's document allows", async () => {
    const deviceId = "A-z.9+%_#*?!(),=@$'";
    await createDevice(under.registry, deviceId);
    expect((await getDevice(under.registry, deviceId)).deviceId).toBe(deviceId);
  });

  it('refuses a body whose id is another than that of the address', async () => {
    const answer = await asOwner('PUT', '/devices/pump?api-version=2021-04-12', { body: { deviceId: 'valve' } });
    expect(answer.status).toBe(400);
  });

  it('refuses a body that is no JSON object', async () => {
    const answer = await asOwner('PUT', '/devices/pump?api-version=2021-04-12', { body: ['pump'] });
    expect(answer.status).toBe(400);
    expect(answer.headers['iothub-errorcode']).toBe('DeserializationError');
  });

  it('ignores tags: only a bulk request may bring them', async () => {
    await createDevice(under.registry, 'pump', { tags: { site: 'x' } });
    expect((await under.registry.getTwin('pump')).responseBody.tags).toEqual({});
  });
});

describe('azure-iothub Registry: update', () => {
  it('replaces the whole object: without authentication the keys are made anew', async () => {
    const before = await createDevice(under.registry, 'pump');
    await under.registry.update({ deviceId: 'pump', status: 'disabled' });
    const after = await getDevice(under.registry, 'pump');
    expect(after.status).toBe('disabled');
    expect(after.authentication.symmetricKey).not.toEqual(before.authentication.symmetricKey);
    expect(after.etag).not.toBe(before.etag);
    expect(after.generationId).toBe(before.generationId);
  });

  it('keeps the keys where the object that was read is sent back', async () => {
    const before = await createDevice(under.registry, 'pump');
    await under.registry.update({ ...before, status: 'disabled', statusReason: 'stolen' });
    const after = await getDevice(under.registry, 'pump');
    expect(after).toMatchObject({ status: 'disabled', statusReason: 'stolen' });
    expect(after.authentication).toEqual(before.authentication);
  });

  it('refuses a device that does not exist', async () => {
    expect(await refusal(under.registry.update({ deviceId: 'pump' }))).toMatchObject({ error: 'DeviceNotFoundError' });
  });

  it.each([[{ status: 'paused' }], [{ statusReason: 'x'.repeat(129) }], [{ capabilities: { iotEdge: 'yes' } }]])(
    'refuses %j',
    async (change) => {
      const device = await createDevice(under.registry, 'pump');
      expect(await refusal(under.registry.update({ ...device, ...(change as object) }))).toMatchObject({
        error: 'ArgumentError',
      });
      expect(await getDevice(under.registry, 'pump')).toEqual(device);
    },
  );

  it('takes the ETag that is current and refuses one that is not', async () => {
    const device = await createDevice(under.registry, 'pump');
    const path = '/devices/pump?api-version=2021-04-12';
    const headers = { 'if-match': `"${device.etag}"` };
    const first = await asOwner('PUT', path, { headers, body: { ...device, statusReason: 'a' } });
    expect(first.status).toBe(200);
    expect(first.headers.etag).toBe(`"${first.json().etag}"`);
    const second = await asOwner('PUT', path, { headers, body: { ...device, statusReason: 'b' } });
    expect(second.status).toBe(412);
    expect((await asOwner('GET', path)).json()).toMatchObject({ statusReason: 'a' });
  });

  it('refuses an ETag without its quotes', async () => {
    const device = await createDevice(under.registry, 'pump');
    const headers = { 'if-match': device.etag };
    expect((await asOwner('PUT', '/devices/pump?api-version=1', { headers, body: device })).status).toBe(400);
  });
});

describe('azure-iothub Registry: get, list, delete, statistics', () => {
  it('lists the devices, as many as asked for', async () => {
    for (const deviceId of ['a', 'b', 'c']) await createDevice(under.registry, deviceId);
    const { responseBody } = await under.registry.list();
    expect(responseBody.map((device) => device.deviceId)).toEqual(['a', 'b', 'c']);
    expect((await asOwner('GET', '/devices?top=2&api-version=2021-04-12')).json()).toHaveLength(2);
  });

  it('deletes a device once', async () => {
    await createDevice(under.registry, 'pump');
    expect((await under.registry.delete('pump')).httpResponse.statusCode).toBe(204);
    expect(await refusal(under.registry.delete('pump'))).toMatchObject({ error: 'DeviceNotFoundError' });
  });

  it('keeps a device whose ETag is another than the one to delete', async () => {
    await createDevice(under.registry, 'pump');
    const headers = { 'if-match': '"bm90IGl0"' };
    expect((await asOwner('DELETE', '/devices/pump?api-version=1', { headers })).status).toBe(412);
    expect((await getDevice(under.registry, 'pump')).deviceId).toBe('pump');
  });

  it('gives a device that is made again another generation, other keys and another ETag', async () => {
    const first = await createDevice(under.registry, 'pump');
    await under.registry.delete('pump');
    const second = await createDevice(under.registry, 'pump');
    expect(second.generationId).not.toBe(first.generationId);
    expect(second.etag).not.toBe(first.etag);
    expect(second.authentication.symmetricKey).not.toEqual(first.authentication.symmetricKey);
  });

  it('counts devices by their status', async () => {
    await createDevice(under.registry, 'a');
    await createDevice(under.registry, 'b', { status: 'disabled' });
    expect((await under.registry.getRegistryStatistics()).responseBody).toEqual({
      totalDeviceCount: 2,
      enabledDeviceCount: 1,
      disabledDeviceCount: 1,
    });
  });

  it('refuses more devices than the hub may have', async () => {
    const small = await startHubUnderTest({ maxDevices: 1 });
    try {
      await createDevice(small.registry, 'a');
      expect(await refusal(createDevice(small.registry, 'b'))).toMatchObject({ error: 'TooManyDevicesError' });
    } finally {
      await small.stop();
    }
  });
});

describe('azure-iothub Registry: modules', () => {
  beforeEach(() => createDevice(under.registry, 'pump'));

  it('adds, reads, lists, updates and removes a module', async () => {
    const added = await under.registry.addModule({ deviceId: 'pump', moduleId: 'filter' });
    const module = added.responseBody as unknown as { etag: string; moduleId: string; managedBy: string };
    expect(module.moduleId).toBe('filter');
    expect((await under.registry.getModulesOnDevice('pump')).responseBody).toHaveLength(1);
    const managed = { ...module, deviceId: 'pump', managedBy: 'me' };
    await new Promise<void>((resolve, reject) => {
      under.registry.updateModule(managed, false, (error) => (error ? reject(error) : resolve()));
    });
    const read = await under.registry.getModule('pump', 'filter');
    expect(read.responseBody).toMatchObject({ managedBy: 'me', moduleId: 'filter', deviceId: 'pump' });
    await new Promise<void>((resolve, reject) => {
      under.registry.removeModule('pump', 'filter', (error) => (error ? reject(error) : resolve()));
    });
    const gone = under.registry.getModule('pump', 'filter');
    expect(await refusal(gone)).toMatchObject({ error: 'Error', status: 404, code: 'ModuleNotFound' });
  });

  it('refuses to update a module by an ETag that is old', async () => {
    const { responseBody } = await under.registry.addModule({ deviceId: 'pump', moduleId: 'filter' });
    const old = { ...(responseBody as object), deviceId: 'pump', moduleId: 'filter', etag: 'b2xk' };
    const update = new Promise((resolve, reject) => {
      under.registry.updateModule(old, false, (error) => (error ? reject(error) : resolve(undefined)));
    });
    expect(await refusal(update)).toMatchObject({ error: 'InvalidEtagError' });
  });

  it('refuses a module that exists, and one of a device that does not', async () => {
    await under.registry.addModule({ deviceId: 'pump', moduleId: 'filter' });
    const again = under.registry.addModule({ deviceId: 'pump', moduleId: 'filter' });
    expect(await refusal(again)).toMatchObject({ error: 'DeviceAlreadyExistsError' });
    const lost = under.registry.addModule({ deviceId: 'valve', moduleId: 'filter' });
    expect(await refusal(lost)).toMatchObject({ error: 'DeviceNotFoundError' });
  });

  it('takes 50 modules and refuses the next with 413', async () => {
    for (let count = 0; count < 50; count += 1) {
      await under.registry.addModule({ deviceId: 'pump', moduleId: `m${count}` });
    }
    const answer = await asOwner('PUT', '/devices/pump/modules/m50?api-version=2021-04-12', {
      body: { deviceId: 'pump', moduleId: 'm50' },
    });
    expect(answer.status).toBe(413);
    expect(answer.headers['iothub-errorcode']).toBe('TooManyModulesOnDevice');
  });

  it('goes with its device', async () => {
    await under.registry.addModule({ deviceId: 'pump', moduleId: 'filter' });
    await under.registry.delete('pump');
    await createDevice(under.registry, 'pump');
    expect((await under.registry.getModulesOnDevice('pump')).responseBody).toEqual([]);
  });

  it('is born with an Edge device as $edgeAgent and $edgeHub, which nobody may change or remove', async () => {
    await createEdge(under.registry, 'gateway');
    const { responseBody } = await under.registry.getModulesOnDevice('gateway');
    expect(responseBody.map((module) => module.moduleId)).toEqual(['$edgeAgent', '$edgeHub']);
    const removal = await asOwner('DELETE', '/devices/gateway/modules/%24edgeHub?api-version=1');
    expect(removal.status).toBe(401);
    expect(removal.headers['iothub-errorcode']).toBe('SystemModuleModifyUnauthorizedAccess');
    const body = { deviceId: 'gateway', moduleId: '$edgeOther' };
    expect((await asOwner('PUT', '/devices/gateway/modules/%24edgeOther?api-version=1', { body })).status).toBe(401);
  });
});

describe('azure-iothub Registry: bulk', () => {
  it('adds, updates and removes devices', async () => {
    const added = await under.registry.addDevices([{ deviceId: 'a' }, { deviceId: 'b' }]);
    expect(added.responseBody).toEqual({ isSuccessful: true, errors: [], warnings: [] });
    const updates = [{ ...(await getDevice(under.registry, 'a')), status: 'disabled' }];
    await under.registry.updateDevices(updates as never, true);
    expect((await getDevice(under.registry, 'a')).status).toBe('disabled');
    await under.registry.removeDevices([{ deviceId: 'a' }, { deviceId: 'b' }] as never, true);
    expect((await under.registry.list()).responseBody).toEqual([]);
  });

  it('does what it can and tells the rest apart, in a 400 with the result', async () => {
    await createDevice(under.registry, 'a');
    const add = under.registry.addDevices([{ deviceId: 'a' }, { deviceId: 'b' }, { deviceId: 'c c' }]);
    const refused = await refusal(add);
    expect(refused).toMatchObject({ error: 'ArgumentError', status: 400 });
    const result = JSON.parse(refused === 'no error' ? '{}' : (refused.body ?? '{}'));
    expect(result.isSuccessful).toBe(false);
    expect(result.errors).toEqual([
      { deviceId: 'a', errorCode: 409001, errorStatus: expect.any(String) },
      { deviceId: 'c c', errorCode: 400004, errorStatus: expect.any(String) },
    ]);
    expect((await getDevice(under.registry, 'b')).deviceId).toBe('b');
  });

  it('removes only what has not changed, unless forced', async () => {
    const device = await createDevice(under.registry, 'a');
    await under.registry.update({ ...device, statusReason: 'changed' });
    expect(await refusal(under.registry.removeDevices([device] as never, false))).toMatchObject({
      error: 'ArgumentError',
    });
    const current = await getDevice(under.registry, 'a');
    await under.registry.removeDevices([current] as never, false);
    expect(await refusal(under.registry.get('a'))).toMatchObject({ error: 'DeviceNotFoundError' });
  });

  it('links leaves to their gateway and brings tags', async () => {
    const { deviceScope } = await createEdge(under.registry, 'gateway');
    const item = { deviceId: 'leaf', deviceScope, tags: { site: 'north' } };
    await under.registry.addDevices([item] as never);
    expect(await getDevice(under.registry, 'leaf')).toMatchObject({ deviceScope, parentScopes: [deviceScope] });
    expect((await under.registry.getTwin('leaf')).responseBody.tags).toEqual({ site: 'north' });
  });

  it('refuses more than 100 devices', async () => {
    const body = Array.from({ length: 101 }, (_, index) => ({ id: `d${index}`, importMode: 'create' }));
    const answer = await asOwner('POST', '/devices?api-version=2021-04-12', { body });
    expect(answer.status).toBe(413);
    expect((await under.registry.list()).responseBody).toEqual([]);
  });
});

describe('azure-iothub Registry: configurations', () => {
  const configuration = {
    id: 'first',
    content: { deviceContent: { 'properties.desired.x': 1 } },
    targetCondition: "tags.site='north'",
    priority: 10,
  };

  it('stores, lists, changes and removes', async () => {
    const added = await under.registry.addConfiguration(configuration as never);
    const { etag } = added.responseBody as unknown as { etag: string };
    expect((await under.registry.getConfigurations()).responseBody).toHaveLength(1);
    const changed = { ...configuration, priority: 20, etag };
    await under.registry.updateConfiguration(changed as never, false);
    expect((await under.registry.getConfiguration('first')).responseBody).toMatchObject({
      priority: 20,
      schemaVersion: '1.0',
    });
    const stale = under.registry.updateConfiguration(changed as never, false);
    expect(await refusal(stale)).toMatchObject({ error: 'InvalidEtagError' });
    await under.registry.removeConfiguration('first');
    expect((await under.registry.getConfigurations()).responseBody).toEqual([]);
  });

  it('refuses an id that exists and content that changes', async () => {
    await under.registry.addConfiguration(configuration as never);
    const again = under.registry.addConfiguration(configuration as never);
    expect(await refusal(again)).toMatchObject({ error: 'DeviceAlreadyExistsError' });
    const other = { ...configuration, content: {} };
    expect(await refusal(under.registry.updateConfiguration(other as never, true))).toMatchObject({
      error: 'ArgumentError',
    });
  });

  it('is applied to an Edge device only', async () => {
    await createEdge(under.registry, 'gateway');
    await createDevice(under.registry, 'leaf');
    const content = {
      modulesContent: { $edgeHub: { 'properties.desired': { routes: { up: 'FROM /* INTO $upstream' } } } },
    };
    await under.registry.applyConfigurationContentOnDevice('gateway', content);
    const twin = (await under.registry.getModuleTwin('gateway', '$edgeHub')).responseBody;
    expect(twin.properties.desired).toMatchObject({ routes: { up: 'FROM /* INTO $upstream' }, $version: 2 });
    const leaf = under.registry.applyConfigurationContentOnDevice('leaf', content);
    expect(await refusal(leaf)).toMatchObject({ error: 'ArgumentError' });
  });
});
