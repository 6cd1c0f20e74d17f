import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { codeOf, newName, report, Site, twinOf, until } from './site.ts';

let site: Site;

beforeAll(async () => {
  site = await Site.open();
});
afterEach(() => site.closeClients());
afterAll(() => site.close());

describe('a gateway without a way to the hub', () => {
  test('lets in who is cached and nobody else', async () => {
    const remote = await site.gateway({ id: 'line-remote' });
    const known = await site.device(newName(), remote);
    expect(await codeOf(remote, site.packet(known))).toBe(0);
    remote.setOnline(false);
    const unknown = await site.device(newName(), remote);
    expect(await codeOf(remote, site.packet(known))).toBe(0);
    expect(await codeOf(remote, site.packet(unknown))).toBe(5);
    remote.setOnline(true);
    expect(await codeOf(remote, site.packet(unknown))).toBe(0);
  });

  test('keeps telemetry, and forwards it in order when the hub is back', async () => {
    const remote = await site.gateway({ id: 'line-storing' });
    const device = await site.device(newName(), remote);
    const client = await site.stay(remote, device);
    remote.setOnline(false);
    const topic = `devices/${device.deviceId}/messages/events/`;
    for (const body of ['1', '2', '3']) await client.publishAsync(topic, body, { qos: 1 });
    expect(site.bodiesFrom(device.deviceId)).toEqual([]);
    remote.setOnline(true);
    await client.publishAsync(topic, '4', { qos: 1 });
    await until('all has arrived', () => site.bodiesFrom(device.deviceId).length === 4);
    expect(site.bodiesFrom(device.deviceId)).toEqual(['1', '2', '3', '4']);
  });

  test('drops telemetry that has waited for more than two hours', async () => {
    let now = Date.now();
    const remote = await site.gateway({ id: 'line-late', now: () => now });
    const device = await site.device(newName(), remote);
    const client = await site.stay(remote, device);
    const topic = `devices/${device.deviceId}/messages/events/`;
    remote.setOnline(false);
    await client.publishAsync(topic, 'early', { qos: 1 });
    now += 3_600_000;
    await client.publishAsync(topic, 'late', { qos: 1 });
    now += 3_601_000;
    remote.setOnline(true);
    await until('the late one has arrived', () => site.bodiesFrom(device.deviceId).length > 0);
    expect(site.bodiesFrom(device.deviceId)).toEqual(['late']);
  });

  test('sends on, in order and without a loss, what the hub would not take at once', async () => {
    const gateway = await site.gateway({ id: 'line-throttled' });
    const device = await site.device(newName(), gateway);
    const client = await site.stay(gateway, device);
    const bodies = Array.from({ length: 180 }, (_, index) => String(index));
    site.hub.setThrottle({ tier: 'F1', units: 1 });
    const topic = `devices/${device.deviceId}/messages/events/`;
    await Promise.all(bodies.map((body) => client.publishAsync(topic, body, { qos: 1 })));
    expect(site.bodiesFrom(device.deviceId).length).toBeLessThan(bodies.length);
    await until('all has arrived', () => site.bodiesFrom(device.deviceId).length === bodies.length);
    site.hub.setThrottle(undefined);
    expect(site.bodiesFrom(device.deviceId)).toEqual(bodies);
  });

  test('serves the last twin, and catches up on what was reported and desired meanwhile', async () => {
    const remote = await site.gateway({ id: 'line-twins' });
    const deviceId = newName();
    const client = await site.sdk(await site.device(deviceId, remote), remote.root);
    await site.patchTwin(deviceId, { speed: 1, mode: 'auto' });
    const twin = await twinOf(client);
    const desired: Record<string, unknown>[] = [];
    twin.on('properties.desired', (patch) => desired.push({ ...patch }));
    await report(twin, { firmware: '1.1', old: true });
    remote.setOnline(false);
    await report(twin, { firmware: '1.2' });
    await report(twin, { old: null });
    await site.patchTwin(deviceId, { speed: 2, mode: null });
    expect(await site.reported(deviceId)).toMatchObject({ firmware: '1.1', old: true });
    remote.setOnline(true);
    await until('the report arrives', async () => (await site.reported(deviceId)).firmware === '1.2');
    expect(await site.reported(deviceId)).not.toHaveProperty('old');
    await until('the desired speed arrives', () => desired.some((patch) => patch.speed === 2));
    expect(desired.at(-1)).toMatchObject({ speed: 2, mode: null });
  });
});

test('a gateway that starts again has its root, its cached scope and its undelivered messages', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gatepost-gateway-'));
  const first = await site.gateway({ id: 'line-kept', directory });
  const device = await site.device(newName(), first);
  const client = await site.stay(first, device);
  first.setOnline(false);
  await client.publishAsync(`devices/${device.deviceId}/messages/events/`, 'kept', { qos: 1 });
  await first.close();
  expect(statSync(join(directory, 'pki.json')).mode & 0o077).toBe(0);
  expect(statSync(join(directory, 'state.json')).mode & 0o077).toBe(0);
  site.faults.add({ target: 'hub', match: { path: 'InDeviceScope' }, fault: { status: 503 } });
  const second = await site.gateway({ id: 'line-kept', directory });
  expect(second.root).toBe(first.root);
  expect(await codeOf(second, site.packet(device))).toBe(0);
  await until('the message arrives', () => site.bodiesFrom(device.deviceId).length === 1);
  expect(site.bodiesFrom(device.deviceId)).toEqual(['kept']);
  site.faults.clear();
  await second.close();
  rmSync(directory, { recursive: true });
});
