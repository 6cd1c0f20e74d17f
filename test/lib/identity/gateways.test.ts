import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { putDevice } from '../../../lib/identity/devices.ts';
import type { Fleet } from '../../../lib/identity/fleet.ts';
import {
  deleteGateway,
  type GatewayInput,
  getGateway,
  listGateways,
  putGateway,
} from '../../../lib/identity/gateways.ts';
import { problemOf, startTestHub, type TestHub } from '../../support/hub.ts';

let bench: TestHub;
let fleet: Fleet;
let serial = 0;

beforeAll(async () => {
  bench = await startTestHub();
  fleet = await bench.fleet();
});

afterEach(() => bench.faults.clear());

afterAll(() => bench.close());

const newId = (name = 'gateway') => `${name}-${++serial}`;
const put = (id: string, input: Partial<GatewayInput> = {}, conditions = {}) =>
  putGateway(fleet, id, { hostname: 'gw.example.com', ...input }, conditions);
const sas = { type: 'sas', primaryKey: undefined, secondaryKey: undefined } as const;
const keysOf = async (id: string) => {
  const device = await fleet.registry.device(id);
  if (device?.authentication.type !== 'sas') throw new Error('no keys');
  return [device.authentication.primaryKey?.reveal(), device.authentication.secondaryKey?.reveal()];
};

describe('a gateway that is put', () => {
  it('is made as an Edge device with its settings in its twin', async () => {
    const id = newId();
    const { view, created, etag } = await put(id);
    expect(created).toBe(true);
    expect(view).toEqual({
      id,
      hostname: 'gw.example.com',
      parent: null,
      maxDevices: 100,
      ports: { mqtt: 8883, amqp: 5671, websocket: 443 },
      auth: { type: 'sas' },
      enabled: true,
      deviceScope: expect.stringMatching(new RegExp(`^ms-azure-iot-edge://${id}-\\d+$`)),
      devices: 0,
      connection: { state: 'disconnected', lastActivity: null },
    });
    expect((await fleet.registry.twin(id))?.tags).toEqual({
      gatepost: { hostname: 'gw.example.com', maxDevices: 100, ports: { mqtt: 8883, amqp: 5671, websocket: 443 } },
    });
    expect(await getGateway(fleet, id)).toEqual({ view, etag });
  });

  it('again the same changes nothing and writes nothing', async () => {
    const id = newId();
    const first = await put(id, { maxDevices: 3 });
    const keys = await keysOf(id);
    bench.calls();
    const second = await put(id, { maxDevices: 3 });
    expect(Object.keys(bench.calls()).filter((call) => /^(PUT|PATCH|DELETE)/.test(call))).toEqual([]);
    expect(second).toEqual({ ...first, created: false });
    expect(await keysOf(id)).toEqual(keys);
  });

  it('is remembered as it was written, so that the first device behind it costs no read of it', async () => {
    const id = newId();
    for (const hostname of ['first.example.com', 'second.example.com', 'second.example.com']) {
      await put(id, { hostname });
      bench.calls();
      const scope = (await fleet.registry.device(id))?.deviceScope;
      expect(await fleet.gateways.parent(id)).toMatchObject({ id, hostname, scope, status: 'enabled' });
      expect(bench.calls()).toEqual({ 'GET /devices/{id}': 1 });
    }
    await put(id, { enabled: false });
    bench.calls();
    await expect(fleet.gateways.parent(id)).rejects.toMatchObject({ code: 'gateway_disabled' });
    expect(bench.calls()).toEqual({});
  });

  it('keeps what the body leaves out, and changes what it names', async () => {
    const parent = newId();
    await put(parent);
    const id = newId();
    await put(id, { parent, maxDevices: 3, ports: { mqtt: 18883, amqp: null }, enabled: false });
    const keys = await keysOf(id);
    const { view } = await put(id, { hostname: 'other.example.com', ports: { websocket: 8443 } });
    expect(view).toMatchObject({
      hostname: 'other.example.com',
      parent,
      maxDevices: 3,
      ports: { mqtt: 18883, amqp: null, websocket: 8443 },
      enabled: false,
    });
    expect((await put(id, { parent: null, enabled: true })).view).toMatchObject({ parent: null, enabled: true });
    expect(await keysOf(id)).toEqual(keys);
  });

  it('adopts an Edge device that is there, with its keys', async () => {
    const id = newId();
    await fleet.registry.createDevice({ deviceId: id, status: 'enabled', isEdge: true, authentication: sas });
    const keys = await keysOf(id);
    expect((await put(id)).created).toBe(false);
    expect(await keysOf(id)).toEqual(keys);
  });

  it('is refused where the id is that of a device without the Edge capability', async () => {
    const id = newId('leaf');
    await fleet.registry.createDevice({ deviceId: id, status: 'enabled', isEdge: false, authentication: sas });
    expect(await problemOf(put(id))).toBe('gateway_not_edge');
  });

  it('warns of an address as its host name', async () => {
    const { view } = await put(newId(), { hostname: '10.0.0.4' });
    expect(view.warnings?.map((warning) => warning.code)).toEqual(['hostname_is_address']);
  });

  it('must serve a protocol', async () => {
    const ports = { mqtt: null, amqp: null, websocket: null };
    const id = newId();
    expect(await problemOf(put(id, { ports }))).toBe('invalid_request');
    expect(await fleet.registry.device(id)).toBeUndefined();
  });

  it('changes how it authenticates when it is told to', async () => {
    const id = newId();
    await put(id);
    const auth = { type: 'selfSigned', primaryThumbprint: 'AB'.repeat(32), secondaryThumbprint: undefined } as const;
    expect((await put(id, { auth })).view.auth).toEqual({
      type: 'selfSigned',
      primaryThumbprint: auth.primaryThumbprint,
    });
    expect((await put(id, { auth: { type: 'sas' } })).view.auth).toEqual({ type: 'sas' });
    expect((await keysOf(id)).every((key) => key !== undefined && key !== '')).toBe(true);
  });
});

describe('conditions on a gateway', () => {
  it('let If-Match pass with the tag that was read, and refuse it afterwards', async () => {
    const id = newId();
    const { etag } = await put(id);
    const changed = await put(id, { maxDevices: 5 }, { ifMatch: etag });
    expect(changed.etag).not.toBe(etag);
    expect(await problemOf(put(id, { maxDevices: 6 }, { ifMatch: etag }))).toBe('precondition_failed');
    expect(await problemOf(deleteGateway(fleet, id, { orphan: false, ifMatch: etag }))).toBe('precondition_failed');
    await deleteGateway(fleet, id, { orphan: false, ifMatch: changed.etag });
    expect(await problemOf(getGateway(fleet, id))).toBe('gateway_not_found');
  });

  it('hold for a change of the identity and the tags at once', async () => {
    const id = newId();
    const { etag } = await put(id);
    const changed = await put(id, { enabled: false, maxDevices: 5 }, { ifMatch: etag });
    expect(changed.view).toMatchObject({ enabled: false, maxDevices: 5 });
    bench.faults.add({ target: 'hub', match: { method: 'PATCH' }, fault: { delayMs: 400 }, times: 1 });
    const slow = problemOf(put(id, { enabled: true, maxDevices: 6 }, { ifMatch: changed.etag }));
    await setTimeout(200);
    await putGateway(await bench.fleet(), id, { hostname: 'faster.example.com' }, {});
    expect(await slow).toBe('precondition_failed');
    expect((await getGateway(fleet, id)).view).toMatchObject({ hostname: 'faster.example.com', maxDevices: 5 });
  });

  it('let one of two concurrent changes by the same tag win', async () => {
    const id = newId();
    const { etag } = await put(id);
    // Both have read before either writes.
    bench.faults.add({ target: 'hub', match: { method: 'PATCH' }, fault: { delayMs: 200 }, times: 2 });
    const both = await Promise.allSettled([
      put(id, { hostname: 'one.example.com' }, { ifMatch: etag }),
      put(id, { hostname: 'two.example.com' }, { ifMatch: etag }),
    ]);
    expect(both.map((each) => each.status).sort()).toEqual(['fulfilled', 'rejected']);
    const lost = both.find((each) => each.status === 'rejected');
    expect(lost).toMatchObject({ reason: { code: 'precondition_failed' } });
  });

  it('refuse to change a gateway that is only to be made', async () => {
    const id = newId();
    expect((await put(id, {}, { ifNoneMatch: '*' })).created).toBe(true);
    expect(await problemOf(put(id, {}, { ifNoneMatch: '*' }))).toBe('precondition_failed');
    expect(await problemOf(put(newId(), {}, { ifMatch: '*' }))).toBe('precondition_failed');
  });

  it('are not needed for two concurrent puts to both succeed', async () => {
    const id = newId();
    const both = await Promise.all([put(id, { maxDevices: 4 }), put(id, { maxDevices: 4 })]);
    expect(both.map(({ view }) => view.maxDevices)).toEqual([4, 4]);
  });
});

describe('a gateway behind a gateway', () => {
  async function chain(length: number): Promise<string[]> {
    const ids: string[] = [];
    for (let each = 0; each < length; each += 1) {
      const id = newId('layer');
      const parent = ids.at(-1);
      await put(id, parent === undefined ? {} : { parent });
      ids.push(id);
    }
    return ids;
  }

  it('is linked by the scope of its parent', async () => {
    const [top = '', below = ''] = await chain(2);
    const parent = await fleet.registry.device(top);
    expect((await fleet.registry.device(below))?.parentScopes).toEqual([parent?.deviceScope]);
    expect((await getGateway(fleet, top)).view.devices).toBe(1);
  });

  it('may be the fifth layer and not the sixth', async () => {
    const ids = await chain(5);
    expect(await problemOf(put(newId(), { parent: ids.at(-1) ?? '' }))).toBe('gateway_too_deep');
  });

  it('may not bring along more layers than fit', async () => {
    const [above = []] = [await chain(3)];
    const [moved = ''] = await chain(3);
    expect(await problemOf(put(moved, { parent: above[2] ?? '' }))).toBe('gateway_too_deep');
    expect((await put(moved, { parent: above[1] ?? '' })).view.parent).toBe(above[1]);
  });

  it('may not stand behind itself or behind what stands behind it', async () => {
    const [top = '', middle = '', bottom = ''] = await chain(3);
    expect(await problemOf(put(top, { parent: top }))).toBe('gateway_cycle');
    expect(await problemOf(put(top, { parent: middle }))).toBe('gateway_cycle');
    expect(await problemOf(put(top, { parent: bottom }))).toBe('gateway_cycle');
  });

  it('needs a parent that is there, an Edge device, configured, enabled and not full', async () => {
    const leaf = newId('leaf');
    await fleet.registry.createDevice({ deviceId: leaf, status: 'enabled', isEdge: false, authentication: sas });
    const bare = newId('bare');
    await fleet.registry.createDevice({ deviceId: bare, status: 'enabled', isEdge: true, authentication: sas });
    const off = newId('off');
    await put(off, { enabled: false });
    const full = newId('full');
    await put(full, { maxDevices: 1 });
    await put(newId(), { parent: full });
    const expected = {
      nobody: 'gateway_not_found',
      [leaf]: 'gateway_not_edge',
      [bare]: 'gateway_not_configured',
      [off]: 'gateway_disabled',
      [full]: 'gateway_full',
    };
    for (const [parent, problem] of Object.entries(expected)) {
      const id = newId();
      expect([parent, await problemOf(put(id, { parent }))]).toEqual([parent, problem]);
      expect(await fleet.registry.device(id)).toBeUndefined();
    }
  });
});

describe('a put of a gateway that is cut off', () => {
  it.each([
    ['before the identity is made', { method: 'PUT' }, 'before'],
    ['after the identity was made', { method: 'PUT' }, 'after'],
    ['before the tags are written', { method: 'PATCH' }, 'before'],
    ['after the tags were written', { method: 'PATCH' }, 'after'],
  ] as const)('%s heals by itself, and by a repeat where the hub stays away', async (_when, match, cut) => {
    const once = newId();
    bench.faults.add({ target: 'hub', match, fault: { cut }, times: 1 });
    expect((await put(once)).view.hostname).toBe('gw.example.com');

    const often = newId();
    bench.faults.add({ target: 'hub', match, fault: { cut }, times: 3 });
    expect(await problemOf(put(often))).toBe('upstream_unavailable');
    bench.faults.clear();
    await put(often);
    expect((await getGateway(fleet, often)).view.hostname).toBe('gw.example.com');
  });
});

describe('deleting a gateway', () => {
  it('is refused while something stands behind it, unless it may be orphaned', async () => {
    const id = newId();
    await put(id);
    const device = newId('device');
    await putDevice(fleet, device, { gateway: id }, {});
    expect(await problemOf(deleteGateway(fleet, id, { orphan: false }))).toBe('gateway_has_children');
    await deleteGateway(fleet, id, { orphan: true });
    expect(await problemOf(getGateway(fleet, id))).toBe('gateway_not_found');
    expect(await fleet.registry.device(device)).toBeDefined();
  });

  it('finds no gateway where there is none or only a device', async () => {
    const leaf = newId('leaf');
    await fleet.registry.createDevice({ deviceId: leaf, status: 'enabled', isEdge: false, authentication: sas });
    expect(await problemOf(deleteGateway(fleet, 'nobody', { orphan: true }))).toBe('gateway_not_found');
    expect(await problemOf(deleteGateway(fleet, leaf, { orphan: true }))).toBe('gateway_not_found');
    expect(await fleet.registry.device(leaf)).toBeDefined();
  });

  it('answers as if nothing had happened when the answer of the hub is lost', async () => {
    const id = newId();
    await put(id);
    bench.faults.add({ target: 'hub', match: { method: 'DELETE' }, fault: { cut: 'after' }, times: 1 });
    await deleteGateway(fleet, id, { orphan: false });
    expect(await fleet.registry.device(id)).toBeUndefined();
  });
});

it('the list of gateways has those that are configured, page by page', async () => {
  const wanted = [newId('listed'), newId('listed'), newId('listed')];
  for (const id of wanted) await put(id);
  const bare = newId('bare');
  await fleet.registry.createDevice({ deviceId: bare, status: 'enabled', isEdge: true, authentication: sas });
  const found: string[] = [];
  let continuation: string | undefined;
  do {
    const page = await listGateways(fleet, { size: 2, ...(continuation === undefined ? {} : { continuation }) });
    found.push(...page.rows.map((row) => row.id));
    continuation = page.continuation;
  } while (continuation !== undefined);
  for (const id of wanted) expect(found).toContain(id);
  expect(found).not.toContain(bare);
  expect(new Set(found).size).toBe(found.length);
});
