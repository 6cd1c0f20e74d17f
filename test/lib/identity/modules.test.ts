import { afterAll, beforeAll, expect, it } from 'vitest';
import { putDevice } from '../../../lib/identity/devices.ts';
import type { Fleet } from '../../../lib/identity/fleet.ts';
import { putGateway } from '../../../lib/identity/gateways.ts';
import { deleteModule, ensureModules, getModule, putModule } from '../../../lib/identity/modules.ts';
import { problemOf, startTestHub, type TestHub } from '../../support/hub.ts';
import { asHubOwner } from '../../support/hub-owner.ts';

let bench: TestHub;
let fleet: Fleet;
let serial = 0;

beforeAll(async () => {
  bench = await startTestHub();
  fleet = await bench.fleet();
  await putGateway(fleet, 'gateway', { hostname: 'gw.example.com' }, {});
});

afterAll(() => bench.close());

async function newDevice(): Promise<string> {
  const id = `device-${++serial}`;
  await putDevice(fleet, id, { gateway: 'gateway' }, {});
  return id;
}

it('a module is made once, with symmetric keys', async () => {
  const deviceId = await newDevice();
  const first = await putModule(fleet, deviceId, 'meter');
  expect(first).toEqual({
    created: true,
    view: {
      id: 'meter',
      deviceId,
      auth: { type: 'sas' },
      connection: { state: 'disconnected', lastActivity: null },
    },
  });
  expect(await putModule(fleet, deviceId, 'meter')).toEqual({ ...first, created: false });
  expect(await getModule(fleet, deviceId, 'meter')).toEqual(first.view);
  await deleteModule(fleet, deviceId, 'meter');
  expect(await problemOf(getModule(fleet, deviceId, 'meter'))).toBe('module_not_found');
  expect(await problemOf(deleteModule(fleet, deviceId, 'meter'))).toBe('module_not_found');
});

it('a module needs a device that is none of the gateways', async () => {
  expect(await problemOf(putModule(fleet, 'nobody', 'meter'))).toBe('device_not_found');
  expect(await problemOf(putModule(fleet, 'gateway', 'meter'))).toBe('device_is_gateway');
});

it('a module that the Identity Service of the device owns is left alone', async () => {
  const deviceId = await newDevice();
  const owned = { deviceId, moduleId: 'agent', managedBy: 'IotEdge' };
  const { status } = await asHubOwner(bench.hub, 'PUT', `/devices/${deviceId}/modules/agent`, owned);
  expect(status).toBe(200);
  expect(await problemOf(putModule(fleet, deviceId, 'agent'))).toBe('module_managed');
  expect(await problemOf(deleteModule(fleet, deviceId, 'agent'))).toBe('module_managed');
  expect(await problemOf(ensureModules(fleet, deviceId, ['agent'], false))).toBe('module_managed');
});

it('the modules of a device cost one read where they are there', async () => {
  const deviceId = await newDevice();
  await ensureModules(fleet, deviceId, ['a', 'b'], true);
  bench.calls();
  await ensureModules(fleet, deviceId, ['a', 'b'], false);
  expect(bench.calls()).toEqual({ 'GET /devices/{id}/modules': 1 });
  await ensureModules(fleet, deviceId, ['a', 'b', 'c'], false);
  expect((await fleet.registry.modules(deviceId)).map((module) => module.moduleId).sort()).toEqual(['a', 'b', 'c']);
});

it('a module whose making was cut off is there when it is asked for again', async () => {
  const deviceId = await newDevice();
  bench.faults.add({ target: 'hub', match: { path: '/modules/' }, fault: { cut: 'after' }, times: 1 });
  expect((await putModule(fleet, deviceId, 'meter')).view.id).toBe('meter');
});
