import { setTimeout } from 'node:timers/promises';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { GatepostError } from '../../../lib/errors.ts';
import { type DeviceRecord, InvalidScopeError, type NewDevice, type Registry } from '../../../lib/identity/registry.ts';
import { hubToken, problemOf, startTestHub, type TestHub } from '../../support/hub.ts';

let bench: TestHub;
let registry: Registry;
let serial = 0;

beforeAll(async () => {
  bench = await startTestHub();
  registry = await bench.registry();
});

afterEach(() => {
  bench.faults.clear();
  bench.hub.setErrorBody('A');
});

afterAll(() => bench.close());

const newId = () => `device-${++serial}`;

const sas: NewDevice['authentication'] = { type: 'sas', primaryKey: undefined, secondaryKey: undefined };

async function made(options: Partial<NewDevice> = {}): Promise<DeviceRecord> {
  const deviceId = newId();
  const device: NewDevice = { deviceId, status: 'enabled', isEdge: false, authentication: sas, ...options };
  const record = await registry.createDevice(device);
  if (record === 'exists') throw new Error(`${deviceId} exists`);
  return record;
}

const keysOf = (device: DeviceRecord | undefined) =>
  device?.authentication.type === 'sas'
    ? [device.authentication.primaryKey?.reveal(), device.authentication.secondaryKey?.reveal()]
    : [];

describe.each(['A', 'B'] as const)('with error bodies of shape %s, the registry', (shape) => {
  it('makes a device once, with keys of the hub, and says that it exists the second time', async () => {
    bench.hub.setErrorBody(shape);
    const device = await made();
    expect(keysOf(device).map((key) => Buffer.from(key ?? '', 'base64').byteLength)).toEqual([32, 32]);
    expect(device).toMatchObject({ status: 'enabled', isEdge: false, parentScopes: [] });
    expect(await registry.createDevice({ ...device, authentication: sas })).toBe('exists');
  });

  it('answers undefined for what is not there', async () => {
    bench.hub.setErrorBody(shape);
    const { deviceId } = await made();
    expect(await registry.device('nobody')).toBeUndefined();
    expect(await registry.twin('nobody')).toBeUndefined();
    expect(await registry.module(deviceId, 'nothing')).toBeUndefined();
    expect(await registry.createModule('nobody', 'm')).toBe('no_device');
    expect(await registry.deleteDevice('nobody')).toBe(false);
    expect(await registry.deleteModule(deviceId, 'nothing')).toBe(false);
  });

  it('replaces an identity only by the etag that was read', async () => {
    bench.hub.setErrorBody(shape);
    const device = await made();
    const changed = await registry.replaceDevice({ ...device, status: 'disabled' });
    expect(changed).toMatchObject({ status: 'disabled', generationId: device.generationId });
    expect(keysOf(changed)).toEqual(keysOf(device));
    expect(await problemOf(registry.replaceDevice({ ...device, status: 'enabled' }))).toBe('precondition_failed');
    expect((await registry.device(device.deviceId))?.status).toBe('disabled');
  });

  it('deletes by an etag only what still has it', async () => {
    bench.hub.setErrorBody(shape);
    const device = await made();
    await registry.replaceDevice(device);
    expect(await problemOf(registry.deleteDevice(device.deviceId, device.etag))).toBe('precondition_failed');
    const { etag } = (await registry.device(device.deviceId)) ?? { etag: '' };
    expect(await registry.deleteDevice(device.deviceId, etag)).toBe(true);
    expect(await registry.device(device.deviceId)).toBeUndefined();
  });

  it('tells a scope that the hub does not know from other refusals', async () => {
    bench.hub.setErrorBody(shape);
    const deviceScope = 'ms-azure-iot-edge://gone-1234';
    const asked = { deviceId: newId(), status: 'enabled', isEdge: false, authentication: sas, deviceScope } as const;
    await expect(registry.createDevice(asked)).rejects.toBeInstanceOf(InvalidScopeError);
  });
});

it('keeps all three ways to authenticate', async () => {
  const thumbprint = 'AB'.repeat(20);
  const selfSigned = { type: 'selfSigned', primaryThumbprint: thumbprint, secondaryThumbprint: undefined } as const;
  for (const authentication of [selfSigned, { type: 'certificateAuthority' } as const]) {
    const device = await made({ authentication });
    expect(device.authentication).toEqual(authentication);
    expect((await registry.twin(device.deviceId))?.authentication).toEqual(authentication);
  }
});

it('makes, reads, lists and deletes modules', async () => {
  const { deviceId } = await made();
  expect(await registry.createModule(deviceId, 'meter')).toMatchObject({ moduleId: 'meter', managedBy: null });
  expect(await registry.createModule(deviceId, 'meter')).toBe('exists');
  expect((await registry.modules(deviceId)).map((module) => module.moduleId)).toEqual(['meter']);
  expect(await registry.deleteModule(deviceId, 'meter')).toBe(true);
  expect(await registry.modules(deviceId)).toEqual([]);
});

it('merges tags, under the etag of the twin where one is given', async () => {
  const { deviceId } = await made();
  const first = await registry.patchTags(deviceId, { plant: 'north', line: { number: 4 } });
  const second = await registry.patchTags(deviceId, { plant: null, line: { hall: 'b' } }, first.etag);
  expect(second.tags).toEqual({ line: { number: 4, hall: 'b' } });
  expect(await problemOf(registry.patchTags(deviceId, { plant: 'south' }, first.etag))).toBe('precondition_failed');
});

it('pages through a query and counts in one call', async () => {
  const group = newId();
  for (let each = 0; each < 5; each += 1) {
    const { deviceId } = await made();
    await registry.patchTags(deviceId, { group });
  }
  const seen: string[] = [];
  let continuation: string | undefined;
  let pages = 0;
  do {
    const page = await registry.queryTwins(`tags.group = '${group}'`, {
      size: 2,
      ...(continuation === undefined ? {} : { continuation }),
    });
    seen.push(...page.rows.map((row) => row.deviceId));
    continuation = page.continuation;
    pages += 1;
  } while (continuation !== undefined);
  expect([new Set(seen).size, seen.length, pages]).toEqual([5, 5, 3]);
  bench.calls();
  expect(await registry.count(`tags.group = '${group}'`)).toBe(5);
  expect(bench.calls()).toEqual({ 'POST /devices/query': 1 });
});

describe('when the hub is in trouble, the registry', () => {
  it('waits as long as a 429 says, and goes on', async () => {
    const { deviceId } = await made();
    bench.faults.add({ target: 'hub', fault: { status: 429, retryAfter: 1 }, times: 1 });
    const started = performance.now();
    expect((await registry.device(deviceId))?.deviceId).toBe(deviceId);
    expect(performance.now() - started).toBeGreaterThan(950);
  });

  it('does not wait for a 429 beyond its time, and passes the wait on', async () => {
    const hurried = await bench.registry({ timeoutMs: 2000 });
    bench.faults.add({ target: 'hub', fault: { status: 429, retryAfter: 30 } });
    const started = performance.now();
    const error = await hurried.device('any').catch((thrown: GatepostError) => thrown);
    expect(error).toMatchObject({ code: 'upstream_throttled', status: 503, retryAfterSeconds: 30 });
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it('gives up on 429s without end within its time', async () => {
    const hurried = await bench.registry({ timeoutMs: 2500 });
    bench.faults.add({ target: 'hub', fault: { status: 429, retryAfter: 1 } });
    const started = performance.now();
    expect(await problemOf(hurried.device('any'))).toBe('upstream_throttled');
    expect(performance.now() - started).toBeLessThan(2600);
  });

  it('gets over two 500s but not over three', async () => {
    const { deviceId } = await made();
    bench.faults.add({ target: 'hub', fault: { status: 500 }, times: 2 });
    expect((await registry.device(deviceId))?.deviceId).toBe(deviceId);
    bench.faults.add({ target: 'hub', fault: { status: 500 }, times: 3 });
    expect(await problemOf(registry.device(deviceId))).toBe('upstream_unavailable');
  });

  it('does not wait for an answer beyond its time', async () => {
    const hurried = await bench.registry({ timeoutMs: 600 });
    bench.faults.add({ target: 'hub', fault: { hang: true } });
    const started = performance.now();
    expect(await problemOf(hurried.device('any'))).toBe('upstream_timeout');
    expect(performance.now() - started).toBeLessThan(1500);
  });

  it('gets over a connection that is cut before or after the work', async () => {
    for (const cut of ['before', 'after'] as const) {
      const { deviceId } = await made();
      bench.faults.add({ target: 'hub', fault: { cut }, times: 1 });
      expect((await registry.device(deviceId))?.deviceId).toBe(deviceId);
    }
  });

  it('finds its own device when the answer to making it was lost', async () => {
    const deviceId = newId();
    bench.faults.add({ target: 'hub', match: { method: 'PUT' }, fault: { cut: 'after' }, times: 1 });
    const asked = { deviceId, status: 'enabled', isEdge: false, authentication: sas } as const;
    expect(await registry.createDevice(asked)).toBe('exists');
    expect(await registry.device(deviceId)).toBeDefined();
  });

  it('takes a replacement for done when its answer was lost', async () => {
    const device = await made();
    bench.faults.add({ target: 'hub', match: { method: 'PUT' }, fault: { cut: 'after' }, times: 1 });
    const changed = await registry.replaceDevice({ ...device, status: 'disabled' });
    expect(changed.status).toBe('disabled');
    expect(keysOf(changed)).toEqual(keysOf(device));
  });

  it('takes tags for written and a device for deleted when the answer was lost', async () => {
    const { deviceId } = await made();
    const twin = await registry.twin(deviceId);
    bench.faults.add({ target: 'hub', fault: { cut: 'after' }, times: 1 });
    const patched = await registry.patchTags(deviceId, { plant: 'north', old: null }, twin?.etag);
    expect(patched.tags).toEqual({ plant: 'north' });
    bench.faults.add({ target: 'hub', match: { method: 'DELETE' }, fault: { cut: 'after' }, times: 1 });
    expect(await registry.deleteDevice(deviceId)).toBe(true);
  });

  it('asks for a fresh token once when the hub refuses the one it has', async () => {
    let asked = 0;
    const credential = {
      getToken: async () => {
        asked += 1;
        return { token: asked === 1 ? 'stale' : hubToken, expiresOnTimestamp: Date.now() + 3_600_000 };
      },
    };
    const second = await bench.registry({ credential });
    expect(await second.device('nobody')).toBeUndefined();
    expect(await second.device('nobody')).toBeUndefined();
    expect(asked).toBe(2);
  });

  it('asks for one token for many concurrent calls, and again when the credential failed', async () => {
    let asked = 0;
    const credential = {
      getToken: async () => {
        asked += 1;
        await setTimeout(20);
        if (asked === 1) throw new Error('not yet');
        return { token: hubToken, expiresOnTimestamp: Date.now() + 3_600_000 };
      },
    };
    const another = await bench.registry({ credential });
    const read = () => problemOf(another.device('nobody'));
    expect(new Set(await Promise.all([read(), read(), read()]))).toEqual(new Set(['upstream_unavailable']));
    expect(new Set(await Promise.all([read(), read(), read()]))).toEqual(new Set(['no problem']));
    expect(asked).toBe(2);
  });

  it('says whose role is missing when the hub refuses every token', async () => {
    const credential = {
      getToken: async () => ({ token: 'never-good', expiresOnTimestamp: Date.now() + 3_600_000 }),
    };
    const refused = await bench.registry({ credential });
    const error = await refused.device('any').catch((thrown: GatepostError) => thrown);
    expect(error).toMatchObject({
      code: 'upstream_refused',
      detail: expect.stringMatching(/IoT Hub Data Contributor/),
    });
  });

  it('says so when Entra ID gives no token in time', async () => {
    const credential = { getToken: () => new Promise<never>(() => {}) };
    const stuck = await bench.registry({ credential, timeoutMs: 300 });
    expect(await problemOf(stuck.device('any'))).toBe('upstream_unavailable');
  });

  it('shows neither token nor keys in what it throws', async () => {
    const device = await made();
    const errors: unknown[] = [];
    const collect = (error: unknown) => errors.push(error);
    bench.faults.add({ target: 'hub', fault: { status: 500 }, times: 3 });
    await registry.replaceDevice(device).catch(collect);
    await registry.replaceDevice({ ...device, etag: 'AAAA' }).catch(collect);
    await registry
      .createDevice({ ...device, deviceId: newId(), deviceScope: 'ms-azure-iot-edge://x-1' })
      .catch(collect);
    expect(errors).toHaveLength(3);
    const shown = errors.map((error) => inspect(error, { depth: 10, showHidden: true })).join('\n');
    for (const secret of [hubToken, 'Bearer', ...keysOf(device)]) expect(shown).not.toContain(secret);
  });
});

it('a list that cannot be continued from where the caller says is a fault of the caller', async () => {
  const page = { size: 2, continuation: 'made-up' };
  expect(await problemOf(registry.queryTwins('capabilities.iotEdge = false', page))).toBe('invalid_request');
});
