import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DeviceInput } from '../../../lib/identity/device-record.ts';
import { deleteDevice, getDevice, listDevices, putDevice } from '../../../lib/identity/devices.ts';
import type { Fleet } from '../../../lib/identity/fleet.ts';
import { deleteGateway, putGateway } from '../../../lib/identity/gateways.ts';
import { problemOf, startTestHub, type TestHub } from '../../support/hub.ts';

let bench: TestHub;
let fleet: Fleet;
let gateway: string;
let serial = 0;

beforeAll(async () => {
  bench = await startTestHub();
});

beforeEach(async () => {
  fleet = await bench.fleet();
  gateway = newId('gateway');
  await putGateway(fleet, gateway, { hostname: 'gw.example.com' }, {});
});

afterEach(() => bench.faults.clear());

afterAll(() => bench.close());

const newId = (name = 'device') => `${name}-${++serial}`;
const put = (id: string, input: Partial<DeviceInput> = {}, conditions = {}) =>
  putDevice(fleet, id, { gateway, ...input }, conditions);
const sas = { type: 'sas', primaryKey: undefined, secondaryKey: undefined } as const;
const keysOf = async (id: string) => {
  const device = await fleet.registry.device(id);
  if (device?.authentication.type !== 'sas') throw new Error('no keys');
  return [device.authentication.primaryKey?.reveal(), device.authentication.secondaryKey?.reveal()];
};

async function otherGateway(input = {}): Promise<string> {
  const id = newId('gateway');
  await putGateway(fleet, id, { hostname: 'other.example.com', ...input }, {});
  return id;
}

describe('a device that is put', () => {
  it('is made behind its gateway', async () => {
    const id = newId();
    const { view, created, etag } = await put(id, { tags: { plant: 'north' } });
    expect(created).toBe(true);
    expect(view).toEqual({
      id,
      gateway,
      auth: { type: 'sas' },
      enabled: true,
      tags: { plant: 'north' },
      connection: { state: 'disconnected', lastActivity: null },
    });
    const scope = (await fleet.registry.device(gateway))?.deviceScope;
    expect(await fleet.registry.device(id)).toMatchObject({ deviceScope: scope, parentScopes: [scope] });
    expect(await getDevice(fleet, id)).toEqual({ view, etag });
  });

  it('costs one registry write when its gateway is remembered, and one read when it is repeated', async () => {
    await put(newId());
    bench.calls();
    const id = newId();
    const first = await put(id);
    expect(bench.calls()).toEqual({ 'PUT /devices/{id}': 1 });
    expect(await put(id)).toEqual({ ...first, created: false });
    expect(bench.calls()).toEqual({ 'GET /twins/{id}': 1 });
  });

  it('costs no more than a refused write and a read when another instance made it', async () => {
    const id = newId();
    await put(id);
    const other = await bench.fleet();
    await putDevice(other, newId(), { gateway }, {});
    bench.calls();
    expect((await putDevice(other, id, { gateway }, {})).created).toBe(false);
    expect(bench.calls()).toEqual({ 'PUT /devices/{id}': 1, 'GET /twins/{id}': 1 });
  });

  it('moves to another gateway with its keys, tags and authentication', async () => {
    const id = newId();
    await put(id, { tags: { plant: 'north' } });
    const keys = await keysOf(id);
    const target = await otherGateway();
    expect((await put(id, { gateway: target })).view).toMatchObject({ gateway: target, tags: { plant: 'north' } });
    expect(await keysOf(id)).toEqual(keys);
    const scope = (await fleet.registry.device(target))?.deviceScope;
    expect(await fleet.registry.device(id)).toMatchObject({ deviceScope: scope, parentScopes: [scope] });
  });

  it('is disabled and enabled without touching its keys', async () => {
    const id = newId();
    await put(id);
    const keys = await keysOf(id);
    expect((await put(id, { enabled: false })).view.enabled).toBe(false);
    expect((await put(id)).view.enabled).toBe(false);
    expect((await put(id, { enabled: true })).view.enabled).toBe(true);
    expect(await keysOf(id)).toEqual(keys);
  });

  it('keeps its keys when its authentication is named again along with a change', async () => {
    const id = newId();
    await put(id);
    const keys = await keysOf(id);
    expect((await put(id, { auth: { type: 'sas' }, enabled: false })).view.enabled).toBe(false);
    expect(await keysOf(id)).toEqual(keys);
  });

  it('is adopted from where it stood before, with its keys and without a parent', async () => {
    const id = newId();
    await fleet.registry.createDevice({ deviceId: id, status: 'enabled', isEdge: false, authentication: sas });
    const keys = await keysOf(id);
    const { created, view } = await put(id);
    expect([created, view.gateway]).toEqual([false, gateway]);
    expect(await keysOf(id)).toEqual(keys);
  });

  it('changes how it authenticates only when it is told to', async () => {
    const id = newId();
    const thumbprints = { primaryThumbprint: 'AB'.repeat(20), secondaryThumbprint: 'CD'.repeat(20) };
    expect((await put(id, { auth: { type: 'selfSigned', ...thumbprints } })).view.auth).toEqual({
      type: 'selfSigned',
      ...thumbprints,
    });
    expect((await put(id)).view.auth.type).toBe('selfSigned');
    const one = { primaryThumbprint: 'EF'.repeat(32), secondaryThumbprint: undefined };
    expect((await put(id, { auth: { type: 'selfSigned', ...one } })).view.auth).toEqual({
      type: 'selfSigned',
      primaryThumbprint: one.primaryThumbprint,
    });
    expect((await put(id, { auth: { type: 'certificateAuthority' } })).view.auth).toEqual({
      type: 'certificateAuthority',
    });
    expect((await put(id, { auth: { type: 'sas' } })).view.auth).toEqual({ type: 'sas' });
    const keys = await keysOf(id);
    expect(keys.every((key) => key !== undefined)).toBe(true);
    await put(id, { auth: { type: 'sas' } });
    expect(await keysOf(id)).toEqual(keys);
  });

  it('has exactly the tags that are given, and keeps them where none are', async () => {
    const id = newId();
    await put(id, { tags: { plant: 'north', line: { number: 4, hall: 'b' } } });
    expect((await put(id)).view.tags).toEqual({ plant: 'north', line: { number: 4, hall: 'b' } });
    expect((await put(id, { tags: { line: { number: 5 } } })).view.tags).toEqual({ line: { number: 5 } });
    expect((await put(id, { tags: {} })).view.tags).toEqual({});
  });

  it('is refused where the id is that of a gateway', async () => {
    expect(await problemOf(put(await otherGateway()))).toBe('device_is_gateway');
  });

  it('is refused behind a gateway that is missing, a device, not configured, disabled or full, and not made', async () => {
    const leaf = newId('leaf');
    await put(leaf);
    const bare = newId('bare');
    await fleet.registry.createDevice({ deviceId: bare, status: 'enabled', isEdge: true, authentication: sas });
    const full = await otherGateway({ maxDevices: 1 });
    await put(newId(), { gateway: full });
    const expected = {
      nobody: 'gateway_not_found',
      [leaf]: 'gateway_not_edge',
      [bare]: 'gateway_not_configured',
      [await otherGateway({ enabled: false })]: 'gateway_disabled',
      [full]: 'gateway_full',
    };
    for (const [parent, problem] of Object.entries(expected)) {
      const id = newId();
      expect([parent, await problemOf(put(id, { gateway: parent }))]).toEqual([parent, problem]);
      expect(await fleet.registry.device(id)).toBeUndefined();
    }
  });
});

describe('a full gateway', () => {
  it('still takes a repeat of what it has', async () => {
    const full = await otherGateway({ maxDevices: 1 });
    const id = newId();
    await put(id, { gateway: full });
    expect((await put(id, { gateway: full })).created).toBe(false);
    const other = await bench.fleet();
    expect((await putDevice(other, id, { gateway: full }, {})).created).toBe(false);
  });

  it('takes another when one was moved, deleted by another instance, or the limit was raised', async () => {
    const full = await otherGateway({ maxDevices: 1 });
    const [first, second, third, fourth] = [newId(), newId(), newId(), newId()];
    await put(first, { gateway: full });
    await put(first);
    expect((await put(second, { gateway: full })).created).toBe(true);
    expect(await problemOf(put(third, { gateway: full }))).toBe('gateway_full');
    await deleteDevice(await bench.fleet(), second, undefined);
    expect((await put(third, { gateway: full })).created).toBe(true);
    expect(await problemOf(put(fourth, { gateway: full }))).toBe('gateway_full');
    await putGateway(fleet, full, { hostname: 'other.example.com', maxDevices: 2 }, {});
    expect((await put(fourth, { gateway: full })).created).toBe(true);
  });

  it('is not overfilled by concurrent calls on one instance', async () => {
    const full = await otherGateway({ maxDevices: 3 });
    const outcomes = await Promise.all(Array.from({ length: 8 }, () => problemOf(put(newId(), { gateway: full }))));
    expect(outcomes.filter((outcome) => outcome === 'no problem')).toHaveLength(3);
    expect(outcomes.filter((outcome) => outcome === 'gateway_full')).toHaveLength(5);
  });
});

it('the last place behind a gateway goes to the next when the write that took it fails', async () => {
  const full = await otherGateway({ maxDevices: 1 });
  const [failing, next] = [newId(), newId()];
  bench.faults.add({ target: 'hub', match: { method: 'PUT', path: failing }, fault: { status: 500 } });
  const first = problemOf(put(failing, { gateway: full }));
  await setTimeout(100);
  expect(await problemOf(put(next, { gateway: full }))).toBe('no problem');
  expect(await first).toBe('upstream_unavailable');
});

describe('a gateway that is remembered', () => {
  it('but was made anew is found out, and its new scope is used', async () => {
    await put(newId());
    const elsewhere = await bench.fleet();
    await deleteGateway(elsewhere, gateway, { orphan: true });
    await putGateway(elsewhere, gateway, { hostname: 'gw.example.com' }, {});
    const id = newId();
    expect((await put(id)).created).toBe(true);
    expect((await fleet.registry.device(id))?.deviceScope).toBe((await fleet.registry.device(gateway))?.deviceScope);
  });

  it('but was deleted is reported as missing', async () => {
    await put(newId());
    await deleteGateway(await bench.fleet(), gateway, { orphan: true });
    expect(await problemOf(put(newId()))).toBe('gateway_not_found');
  });

  it('is read again when the time it is remembered for is over', async () => {
    let now = Date.now();
    fleet = await bench.fleet({ gatewayCacheSeconds: 60, clock: () => new Date(now) });
    await put(newId());
    await putGateway(await bench.fleet(), gateway, { hostname: 'gw.example.com', enabled: false }, {});
    expect(await problemOf(put(newId()))).toBe('no problem');
    now += 61_000;
    expect(await problemOf(put(newId()))).toBe('gateway_disabled');
  });

  it('is read once for many concurrent calls', async () => {
    fleet = await bench.fleet();
    bench.calls();
    await Promise.all([put(newId()), put(newId()), put(newId())]);
    expect(bench.calls()).toMatchObject({ 'GET /twins/{id}': 1, 'PUT /devices/{id}': 3 });
  });
});

describe('conditions on a device', () => {
  it('let one change by a tag pass and refuse the next', async () => {
    const id = newId();
    const { etag } = await put(id);
    const second = await put(id, { enabled: false }, { ifMatch: etag });
    expect(await problemOf(put(id, { enabled: true }, { ifMatch: etag }))).toBe('precondition_failed');
    expect(await problemOf(deleteDevice(fleet, id, etag))).toBe('precondition_failed');
    await deleteDevice(fleet, id, second.etag);
  });

  it('notice a change between the two reads of one call', async () => {
    const id = newId();
    const { etag } = await put(id);
    bench.faults.add({
      target: 'hub',
      match: { method: 'GET', path: `^/devices/${id}` },
      fault: { delayMs: 400 },
      times: 1,
    });
    const slow = problemOf(put(id, { enabled: false }, { ifMatch: etag }));
    await setTimeout(150);
    const auth = { type: 'certificateAuthority' } as const;
    await putDevice(await bench.fleet(), id, { gateway, auth }, {});
    expect(await slow).toBe('precondition_failed');
    expect((await getDevice(fleet, id)).view).toMatchObject({ enabled: true, auth });
  });

  it('notice that the tags are changed while the identity is', async () => {
    const id = newId();
    const { etag } = await put(id, { tags: { line: 1 } });
    bench.faults.add({ target: 'hub', match: { method: 'PATCH' }, fault: { delayMs: 400 }, times: 1 });
    const slow = problemOf(put(id, { enabled: false, tags: { line: 2 } }, { ifMatch: etag }));
    await setTimeout(200);
    await putDevice(await bench.fleet(), id, { gateway, tags: { line: 3 } }, {});
    expect(await slow).toBe('precondition_failed');
    expect((await getDevice(fleet, id)).view.tags).toEqual({ line: 3 });
  });

  it('notice that only the tags have changed', async () => {
    const id = newId();
    const { etag } = await put(id);
    await put(id, { tags: { plant: 'north' } });
    expect(await problemOf(put(id, { enabled: false }, { ifMatch: etag }))).toBe('precondition_failed');
  });

  it('let one of two concurrent changes win', async () => {
    const id = newId();
    const { etag } = await put(id);
    const targets = [await otherGateway(), await otherGateway()];
    const both = await Promise.all(targets.map((target) => problemOf(put(id, { gateway: target }, { ifMatch: etag }))));
    expect(both.sort()).toEqual(['no problem', 'precondition_failed']);
  });

  it('refuse to change a device that is only to be made', async () => {
    const id = newId();
    expect((await put(id, {}, { ifNoneMatch: '*' })).created).toBe(true);
    expect(await problemOf(put(id, {}, { ifNoneMatch: '*' }))).toBe('precondition_failed');
    expect(await problemOf(put(newId(), {}, { ifMatch: '*' }))).toBe('precondition_failed');
  });
});

it('two concurrent changes without conditions both come to be', async () => {
  const id = newId();
  await put(id);
  const target = await otherGateway();
  await Promise.all([put(id, { gateway: target }), put(id, { gateway: target, enabled: false })]);
  expect((await getDevice(fleet, id)).view).toMatchObject({ gateway: target, enabled: false });
});

describe('a put of a device that is cut off', () => {
  it.each([
    ['before it is made', { method: 'PUT' }, 'before'],
    ['after it was made', { method: 'PUT' }, 'after'],
    ['before its tags are written', { method: 'PATCH' }, 'before'],
    ['after its tags were written', { method: 'PATCH' }, 'after'],
  ] as const)('%s heals by itself, and by a repeat where the hub stays away', async (_when, match, cut) => {
    const tags = { plant: 'north' };
    const once = newId();
    bench.faults.add({ target: 'hub', match, fault: { cut }, times: 1 });
    expect((await put(once, { tags })).view.tags).toEqual(tags);

    const often = newId();
    bench.faults.add({ target: 'hub', match, fault: { cut }, times: 3 });
    expect(await problemOf(put(often, { tags }))).toBe('upstream_unavailable');
    bench.faults.clear();
    expect((await put(often, { tags })).view).toMatchObject({ gateway, tags });
  });

  it('after it was moved keeps its keys', async () => {
    const id = newId();
    await put(id);
    const keys = await keysOf(id);
    const target = await otherGateway();
    bench.faults.add({ target: 'hub', match: { method: 'PUT' }, fault: { cut: 'after' }, times: 1 });
    expect((await put(id, { gateway: target })).view.gateway).toBe(target);
    expect(await keysOf(id)).toEqual(keys);
  });
});

describe('a device', () => {
  it('is not found where there is none or a gateway', async () => {
    expect(await problemOf(getDevice(fleet, 'nobody'))).toBe('device_not_found');
    expect(await problemOf(getDevice(fleet, gateway))).toBe('device_not_found');
    expect(await problemOf(deleteDevice(fleet, 'nobody', undefined))).toBe('device_not_found');
    expect(await problemOf(deleteDevice(fleet, gateway, undefined))).toBe('device_is_gateway');
  });

  it('is listed behind its gateway, page by page, and gateways are not', async () => {
    const ids = [newId(), newId(), newId()];
    for (const id of ids) await put(id);
    await otherGateway({ parent: gateway });
    const found: string[] = [];
    let continuation: string | undefined;
    do {
      const more = continuation === undefined ? {} : { continuation };
      const page = await listDevices(fleet, gateway, { size: 2, ...more });
      found.push(...page.rows.map((row) => row.id));
      continuation = page.continuation;
    } while (continuation !== undefined);
    expect(found.sort()).toEqual([...ids].sort());
    expect(await problemOf(listDevices(fleet, 'nobody', { size: 2 }))).toBe('gateway_not_found');
    const all = await listDevices(fleet, undefined, { size: 1000 });
    expect(all.rows.map((row) => row.id)).toEqual(expect.arrayContaining(ids));
    expect(all.rows.some((row) => row.id === gateway)).toBe(false);
  });
});
