import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createDevice, createEdge, getDevice, type HubUnderTest, refusal, startHubUnderTest } from './support.ts';

describe('error bodies', () => {
  let under: HubUnderTest;
  beforeEach(async () => {
    under = await startHubUnderTest();
  });
  afterEach(() => under.stop());

  it('of shape A are read by azure-iothub', async () => {
    const refused = await refusal(under.registry.get('nobody'));
    expect(refused).toMatchObject({ error: 'DeviceNotFoundError', status: 404 });
    expect(refused).toMatchObject({ body: expect.stringMatching(/"ErrorCode:DeviceNotFound;.*"Tracking ID:/) });
  });

  it('of shape B are what azure-iothub does not understand: a plain error for the same 404', async () => {
    under.hub.setErrorBody('B');
    const refused = await refusal(under.registry.get('nobody'));
    expect(refused).toMatchObject({ error: 'Error', status: 404 });
    const outer = JSON.parse(refused === 'no error' ? '{}' : (refused.body ?? '{}'));
    expect(JSON.parse(outer.Message)).toMatchObject({ errorCode: 404001, message: expect.any(String) });
  });
});

describe('throttling', () => {
  let now: Date;
  let under: HubUnderTest;
  beforeEach(async () => {
    now = new Date();
    under = await startHubUnderTest({ now: () => now });
  });
  afterEach(() => under.stop());

  it('is off until a tier is set', async () => {
    for (let count = 0; count < 120; count += 1) await createDevice(under.registry, `d${count}`);
  });

  it('lets 100 registry operations a minute through for each unit of S1, then answers 429 with Retry-After', async () => {
    under.hub.setThrottle({ tier: 'S1', units: 1 });
    for (let count = 0; count < 100; count += 1) await createDevice(under.registry, `d${count}`);
    const error = await under.registry.get('d1').then(
      () => undefined,
      (caught: { name: string; response: { headers: Record<string, string> } }) => caught,
    );
    expect(error?.name).toBe('ThrottlingError');
    expect(error?.response.headers['retry-after']).toBe('1');
    // 100 a minute is one each 0.6 s.
    now = new Date(now.getTime() + 600);
    await under.registry.get('d1');
    expect(await refusal(under.registry.get('d1'))).toMatchObject({ status: 429 });
    under.hub.setThrottle(undefined);
    await under.registry.get('d1');
  });

  it('counts a bulk request once, and queries and twins apart', async () => {
    under.hub.setThrottle({ tier: 'S2', units: 1 });
    const devices = Array.from({ length: 100 }, (_, index) => ({ deviceId: `d${index}` }));
    await under.registry.addDevices(devices);
    for (let count = 0; count < 99; count += 1) await under.registry.get('d1');
    expect(await refusal(under.registry.get('d1'))).toMatchObject({ status: 429 });
    await under.registry.getTwin('d1');
    for (let count = 0; count < 20; count += 1) await under.registry.createQuery('select * from devices').next();
    expect(await refusal(under.registry.createQuery('select * from devices').next())).toMatchObject({ status: 429 });
  });

  it('lets more units through', async () => {
    under.hub.setThrottle({ tier: 'S3', units: 2 });
    await createDevice(under.registry, 'd');
    for (let count = 0; count < 150; count += 1) await under.registry.get('d');
  });
});

describe('faults', () => {
  let under: HubUnderTest;
  beforeEach(async () => {
    under = await startHubUnderTest();
  });
  afterEach(() => under.stop());

  it('answer 503 with Retry-After, as often as asked', async () => {
    under.faults.add({ target: 'hub', match: { method: 'PUT' }, fault: { status: 503, retryAfter: 7 }, times: 1 });
    const refused = await refusal(under.registry.create({ deviceId: 'pump' }));
    expect(refused).toMatchObject({ error: 'ServiceUnavailableError', status: 503 });
    expect(refused).toMatchObject({ body: expect.stringContaining('ErrorCode:ServiceUnavailable') });
    await createDevice(under.registry, 'pump');
  });

  it('cut the connection after the work was done: the device is there', async () => {
    under.faults.add({
      target: 'hub',
      match: { method: 'PUT', path: '^/devices/pump' },
      fault: { cut: 'after' },
      times: 1,
    });
    expect(await refusal(under.registry.create({ deviceId: 'pump' }))).toMatchObject({ status: undefined });
    expect((await getDevice(under.registry, 'pump')).deviceId).toBe('pump');
  });

  it('count what was called by its template', async () => {
    await createDevice(under.registry, 'pump');
    await under.registry.get('pump');
    await under.registry.get('pump');
    expect(under.faults.calls().hub).toEqual({ 'PUT /devices/{id}': 1, 'GET /devices/{id}': 2 });
  });
});

describe('a restart', () => {
  it('after a crash finds nobody connected', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'hub-'));
    const stateFile = join(directory, 'hub.json');
    const first = await startHubUnderTest({ stateFile });
    try {
      await createDevice(first.registry, 'pump');
      const sink = { desired: () => {}, method: () => Promise.reject(new Error()), cloudToDevice: async () => false };
      first.hub.devices.attach({ deviceId: 'pump', moduleId: null }, sink);
      expect(await getDevice(first.registry, 'pump')).toMatchObject({ connectionState: 'Connected' });
      await vi.waitFor(() => expect(readFileSync(stateFile, 'utf8')).toContain('"Connected"'));
      const second = await startHubUnderTest({ stateFile });
      expect(await getDevice(second.registry, 'pump')).toMatchObject({ connectionState: 'Disconnected' });
      await second.stop();
    } finally {
      await first.stop();
      rmSync(directory, { recursive: true });
    }
  });

  it('finds identities, scopes, twins, modules, configurations, messages and keys again', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'hub-'));
    const stateFile = join(directory, 'hub.json');
    try {
      const first = await startHubUnderTest({ stateFile });
      const { deviceScope } = await createEdge(first.registry, 'gateway');
      await createDevice(first.registry, 'leaf', { deviceScope });
      await first.registry.updateTwin('leaf', { tags: { site: 'north' } }, '*');
      await first.registry.addConfiguration({ id: 'c', content: {} } as never);
      first.hub.sendCloudToDevice('leaf', { body: Buffer.from('x') });
      const leaf = await getDevice(first.registry, 'leaf');
      await first.stop();
      expect(statSync(stateFile).mode & 0o777).toBe(0o600);

      const second = await startHubUnderTest({ stateFile });
      // The connection string of before still opens it.
      const registry = second.registryOf(first.hub.connectionString);
      expect(await getDevice(registry, 'leaf')).toEqual(leaf);
      expect(leaf).toMatchObject({ cloudToDeviceMessageCount: 1 });
      expect((await registry.getTwin('leaf')).responseBody.tags).toEqual({ site: 'north' });
      expect((await registry.getModulesOnDevice('gateway')).responseBody).toHaveLength(2);
      expect((await registry.getConfigurations()).responseBody).toHaveLength(1);
      const etag = (await createDevice(registry, 'other')).etag;
      expect(readFileSync(stateFile, 'utf8')).not.toContain(etag);
      await second.stop();
      expect(readFileSync(stateFile, 'utf8')).toContain(etag);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
