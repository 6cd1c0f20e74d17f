import { afterEach, beforeEach, describe, expect, it } from 'vitest';
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
} from './support.ts';

let under: HubUnderTest;

beforeEach(async () => {
  under = await startHubUnderTest();
});

afterEach(() => under.stop());

describe('device scopes', () => {
  it('an Edge device gets a scope of its id and generation, and no parent', async () => {
    const edge = await createEdge(under.registry, 'gate-way-1');
    expect(edge.deviceScope).toBe(`ms-azure-iot-edge://gate-way-1-${edge.generationId}`);
    expect(edge.parentScopes).toEqual([]);
  });

  it('the scope of an Edge device cannot be changed, nor given', async () => {
    const edge = await createEdge(under.registry, 'gateway');
    const deviceScope = 'ms-azure-iot-edge://gateway-1';
    expect(await refusal(under.registry.update({ ...edge, deviceScope }))).toMatchObject({ error: 'ArgumentError' });
    expect(await refusal(createEdge(under.registry, 'other', { deviceScope }))).toMatchObject({
      error: 'ArgumentError',
    });
    await under.registry.update({ ...edge, statusReason: 'sent back as it was read' });
    expect((await getDevice(under.registry, 'gateway')).deviceScope).toBe(edge.deviceScope);
  });

  it('a leaf is linked by deviceScope, which parentScopes echo, when it is made and later', async () => {
    const first = await createEdge(under.registry, 'gateway-1');
    const second = await createEdge(under.registry, 'gateway-2');
    const leaf = await createDevice(under.registry, 'leaf', { deviceScope: first.deviceScope });
    expect(leaf).toMatchObject({ deviceScope: first.deviceScope, parentScopes: [first.deviceScope] });
    // parentScopes go back stale, as az iot hub sends them.
    await under.registry.update({ ...leaf, deviceScope: second.deviceScope });
    expect(await getDevice(under.registry, 'leaf')).toMatchObject({
      deviceScope: second.deviceScope,
      parentScopes: [second.deviceScope],
    });
  });

  it.each([[''], [undefined]])('a leaf is unlinked by the deviceScope %j', async (deviceScope) => {
    const gateway = await createEdge(under.registry, 'gateway');
    const leaf = await createDevice(under.registry, 'leaf', { deviceScope: gateway.deviceScope });
    await under.registry.update({ ...leaf, deviceScope });
    expect(await getDevice(under.registry, 'leaf')).not.toHaveProperty('deviceScope');
  });

  it('a leaf is refused the scope of a device that is no Edge device, is gone or never was', async () => {
    const gone = await createEdge(under.registry, 'gone');
    await under.registry.delete('gone');
    const leaf = await createDevice(under.registry, 'other-leaf');
    const scopes = [
      gone.deviceScope,
      `ms-azure-iot-edge://other-leaf-${leaf.generationId}`,
      'gateway',
      'ms-azure-iot-edge://x-1',
    ];
    for (const deviceScope of scopes) {
      const refused = createDevice(under.registry, 'leaf', { deviceScope });
      expect(await refusal(refused)).toMatchObject({ error: 'ArgumentError', code: 'InvalidDeviceScope' });
    }
    expect(await refusal(under.registry.get('leaf'))).toMatchObject({ error: 'DeviceNotFoundError' });
  });

  it('a leaf that exists is refused such a scope as well, and keeps its link', async () => {
    const gateway = await createEdge(under.registry, 'gateway');
    const leaf = await createDevice(under.registry, 'leaf', { deviceScope: gateway.deviceScope });
    const moved = under.registry.update({ ...leaf, deviceScope: 'ms-azure-iot-edge://gateway-1' });
    expect(await refusal(moved)).toMatchObject({ status: 400, code: 'InvalidDeviceScope' });
    expect(await getDevice(under.registry, 'leaf')).toEqual(leaf);
  });

  it('a gateway that is made again opens another scope, and its children keep the dead one', async () => {
    const old = await createEdge(under.registry, 'gateway');
    const leaf = await createDevice(under.registry, 'leaf', { deviceScope: old.deviceScope });
    await under.registry.delete('gateway');
    const again = await createEdge(under.registry, 'gateway');
    expect(again.deviceScope).not.toBe(old.deviceScope);
    const orphan = await getDevice(under.registry, 'leaf');
    expect(orphan).toMatchObject({ deviceScope: old.deviceScope, parentScopes: [old.deviceScope] });
    expect(orphan.etag).toBe(leaf.etag);
    const late = createDevice(under.registry, 'late', { deviceScope: old.deviceScope });
    expect(await refusal(late)).toMatchObject({ code: 'InvalidDeviceScope' });
    // It can still be changed, and linked again.
    await under.registry.update({ ...orphan, statusReason: 'orphaned' });
    await under.registry.update({ ...orphan, deviceScope: again.deviceScope });
    expect((await getDevice(under.registry, 'leaf')).parentScopes).toEqual([again.deviceScope]);
  });

  it('an Edge child is linked by parentScopes and keeps its own scope', async () => {
    const parent = await createEdge(under.registry, 'parent');
    const child = await createEdge(under.registry, 'child', { parentScopes: [parent.deviceScope] });
    expect(child.parentScopes).toEqual([parent.deviceScope]);
    expect(child.deviceScope).not.toBe(parent.deviceScope);
    await under.registry.update({ ...child, parentScopes: [] });
    expect((await getDevice(under.registry, 'child')).parentScopes).toEqual([]);
  });

  it('an Edge child has one parent, and it lives', async () => {
    const one = await createEdge(under.registry, 'one');
    const two = await createEdge(under.registry, 'two');
    for (const parentScopes of [[one.deviceScope, two.deviceScope], ['ms-azure-iot-edge://gone-1'], 'one']) {
      const refused = createEdge(under.registry, 'child', { parentScopes });
      expect(await refusal(refused)).toMatchObject({ error: 'ArgumentError', code: 'InvalidDeviceScope' });
    }
  });

  it('a device may become an Edge device, and then has a scope and its modules, but not the other way', async () => {
    const device = await createDevice(under.registry, 'box');
    await under.registry.update({ ...device, capabilities: { iotEdge: true } });
    const edge = await getDevice(under.registry, 'box');
    expect(edge.deviceScope).toBe(`ms-azure-iot-edge://box-${edge.generationId}`);
    expect((await under.registry.getModulesOnDevice('box')).responseBody).toHaveLength(2);
    const back = under.registry.update({ ...edge, deviceScope: '', capabilities: { iotEdge: false } });
    expect(await refusal(back)).toMatchObject({ error: 'ArgumentError' });
  });
});

describe('what edgeHub asks', () => {
  interface Scope {
    devices: DeviceAnswer[];
    modules: { deviceId: string; moduleId: string; authentication: DeviceAnswer['authentication'] }[];
    continuationLink: string | null;
  }
  let edge: DeviceAnswer & { deviceScope: string };
  const base = '/devices/gateway/modules/%24edgeHub';
  const version = 'api-version=2018-08-30-preview';

  beforeEach(async () => {
    edge = await createEdge(under.registry, 'gateway');
    await createDevice(under.registry, 'leaf', { deviceScope: edge.deviceScope });
    await under.registry.addModule({ deviceId: 'leaf', moduleId: 'filter' });
    await createDevice(under.registry, 'stranger');
    await createEdge(under.registry, 'child', { parentScopes: [edge.deviceScope] });
  });

  async function moduleToken(): Promise<string> {
    const { responseBody } = await under.registry.getModule('gateway', '$edgeHub');
    const { authentication } = responseBody as unknown as DeviceAnswer;
    const resource = encodeURIComponent(`${under.hub.hostname}/devices/gateway/modules/$edgeHub`);
    return sasToken(resource, authentication.symmetricKey.primaryKey ?? '');
  }

  function deviceToken(): string {
    const key = edge.authentication.symmetricKey.secondaryKey ?? '';
    return sasToken(`${under.hub.hostname}/devices/gateway`, key);
  }

  it('answers the Edge device, its children and their modules with their keys', async () => {
    const answer = await request(under, 'GET', `${base}/devicesAndModulesInDeviceScope?${version}`, {
      authorization: await moduleToken(),
    });
    const scope = answer.json() as unknown as Scope;
    expect(scope.devices.map((device) => device.deviceId)).toEqual(['gateway', 'leaf', 'child']);
    expect(scope.modules.map((module) => `${module.deviceId}/${module.moduleId}`)).toEqual([
      'gateway/$edgeAgent',
      'gateway/$edgeHub',
      'leaf/filter',
      'child/$edgeAgent',
      'child/$edgeHub',
    ]);
    const leaf = await getDevice(under.registry, 'leaf');
    expect(scope.devices[1]?.authentication).toEqual(leaf.authentication);
    expect(scope.continuationLink).toBeNull();
  });

  it('answers in pages', async () => {
    const authorization = deviceToken();
    const seen: string[] = [];
    let path: string | null = `${base}/devicesAndModulesInDeviceScope?deviceCount=2&${version}`;
    for (let page = 0; path !== null && page < 5; page += 1) {
      const scope = (await request(under, 'GET', path, { authorization })).json() as unknown as Scope;
      seen.push(...scope.devices.map((device) => device.deviceId));
      path = scope.continuationLink;
    }
    expect(seen).toEqual(['gateway', 'leaf', 'child']);
  });

  it('answers one device, and 400 for one that is not in the scope', async () => {
    const one = (id: string, module = '') =>
      request(
        under,
        'GET',
        `${base}/deviceAndModuleInDeviceScope?targetDeviceId=${id}&targetModuleId=${module}&${version}`,
        {
          authorization: deviceToken(),
        },
      );
    const leaf = (await one('leaf')).json() as unknown as Scope;
    expect(leaf.devices.map((device) => device.deviceId)).toEqual(['leaf']);
    expect(leaf.modules).toEqual([]);
    const filter = (await one('leaf', 'filter')).json() as unknown as Scope;
    expect(filter.modules.map((module) => module.moduleId)).toEqual(['filter']);
    expect((await one('stranger')).status).toBe(400);
    expect((await one('nobody')).status).toBe(400);
    expect((await one('leaf', 'pump')).status).toBe(400);
  });

  it('has no answer for a leaf, nor for another module than $edgeHub', async () => {
    const leaf = await getDevice(under.registry, 'leaf');
    const leafToken = sasToken(`${under.hub.hostname}/devices/leaf`, leaf.authentication.symmetricKey.primaryKey ?? '');
    const ask = (path: string, authorization: string) =>
      request(under, 'GET', `${path}/devicesAndModulesInDeviceScope?${version}`, { authorization });
    expect((await ask('/devices/leaf/modules/%24edgeHub', leafToken)).status).toBe(400);
    expect((await ask('/devices/gateway/modules/%24edgeAgent', deviceToken())).status).toBe(400);
  });

  it('is refused to other devices, to policies and to a disabled Edge device', async () => {
    const path = `${base}/devicesAndModulesInDeviceScope?${version}`;
    const leaf = await getDevice(under.registry, 'leaf');
    const leafKey = leaf.authentication.symmetricKey.primaryKey ?? '';
    const owner = keyIn(under.hub.connectionString);
    const tokens = [
      sasToken(`${under.hub.hostname}/devices/leaf`, leafKey),
      sasToken(`${under.hub.hostname}/devices/gateway`, leafKey),
      sasToken(under.hub.hostname, owner, { policy: 'iothubowner' }),
    ];
    for (const authorization of tokens) {
      expect((await request(under, 'GET', path, { authorization })).status).toBe(401);
    }
    const authorization = deviceToken();
    expect((await request(under, 'GET', path, { authorization })).status).toBe(200);
    await under.registry.update({ ...edge, status: 'disabled' });
    expect((await request(under, 'GET', path, { authorization })).status).toBe(401);
  });
});
