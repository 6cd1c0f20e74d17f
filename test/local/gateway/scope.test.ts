import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import { codeOf, endOf, newName, Site, until } from './site.ts';

let site: Site;
let gateway: Gateway;

beforeAll(async () => {
  site = await Site.open();
  gateway = await site.gateway({ id: 'line-1' });
});
afterEach(() => site.closeClients());
afterAll(() => site.close());

describe('the scope cache over the wire', () => {
  const scopeCalls = () =>
    Object.entries(site.faults.calls().hub)
      .filter(([template]) => template.includes('InDeviceScope'))
      .map(([template, count]) => `${template.split('/').at(-1)} ${count}`);

  test('a device that was linked after the start gets in at once, for one question to the hub', async () => {
    const device = await site.device(newName(), gateway);
    site.faults.resetCalls();
    expect(await codeOf(gateway, site.packet(device))).toBe(0);
    expect(scopeCalls()).toEqual(['deviceAndModuleInDeviceScope 1']);
    expect(await codeOf(gateway, site.packet(device))).toBe(0);
    expect(scopeCalls()).toEqual(['deviceAndModuleInDeviceScope 1']);
  });

  test('a key that was rolled gets in after the delay, and no sooner', async () => {
    let now = Date.now();
    const patient = await site.gateway({ id: 'line-patient', now: () => now });
    const device = await site.device(newName(), patient);
    expect(await codeOf(patient, site.packet(device))).toBe(0);
    const primaryKey = Buffer.alloc(32, 7).toString('base64');
    const symmetricKey = { primaryKey, secondaryKey: device.secondaryKey };
    await site.change(device.deviceId, { authentication: { type: 'sas', symmetricKey } });
    const rolled = { ...device, key: primaryKey };
    expect(await codeOf(patient, site.packet(rolled))).toBe(5);
    now += 119_000;
    expect(await codeOf(patient, site.packet(rolled))).toBe(5);
    now += 2000;
    expect(await codeOf(patient, site.packet(rolled))).toBe(0);
  });

  test('a device that was moved away stays in until the gateway hears of it, and is then cut off', async () => {
    const from = await site.gateway({ id: 'line-from' });
    const to = await site.gateway({ id: 'line-to' });
    const device = await site.device(newName(), from);
    const client = await site.stay(from, device);
    await site.change(device.deviceId, { deviceScope: await site.scopeOf(to) });
    expect(await codeOf(to, site.packet(device))).toBe(0);
    expect(from.connected()).toEqual([device.deviceId]);
    const closed = endOf(client);
    await from.refreshScope();
    await closed;
    expect(await codeOf(from, site.packet(device))).toBe(5);
  });

  test('a device that was disabled is cut off when the scope is read again', async () => {
    const device = await site.device(newName(), gateway);
    const client = await site.stay(gateway, device);
    await site.change(device.deviceId, { status: 'disabled' });
    const closed = endOf(client);
    await gateway.refreshScope();
    await closed;
  });

  test('a client whose token has ended is cut off when it is looked at again', async () => {
    let now = Date.now();
    const strict = await site.gateway({ id: 'line-strict', scope: { reauthenticateMs: 50 }, now: () => now });
    const device = await site.device(newName(), strict);
    const audience = `${site.hub.hostname}/devices/${device.deviceId}`;
    const client = await site.stay(strict, device, makeSasToken(audience, device.key, Math.floor(now / 1000) + 60));
    now += (60 + 299) * 1000;
    const cut = endOf(client);
    expect(await Promise.race([cut, sleep(200, 'still connected')])).toBe('still connected');
    now += 2000;
    await cut;
    await until('it is gone', () => strict.connected().length === 0);
  });

  test('the scope is read page by page', async () => {
    const crowded = await site.gateway({ id: 'line-pages' });
    const deviceScope = await site.scopeOf(crowded);
    for (let index = 0; index < 120; index += 1) await site.device(`page-${index}`, undefined, { deviceScope });
    site.faults.resetCalls();
    await crowded.refreshScope();
    expect(scopeCalls()).toEqual(['devicesAndModulesInDeviceScope 2']);
  });
});
