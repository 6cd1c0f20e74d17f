import { spawn, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, type DetailedPeerCertificate } from 'node:tls';
import iotDevice, { type Client, type Message } from 'azure-iot-device';
import { Mqtt } from 'azure-iot-device-mqtt';
import type { MqttClient } from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import { codeOf, type KeyedDevice, knock, Site, until } from './site.ts';

let site: Site;
let gateway: Gateway;
const open: { close(): Promise<unknown> }[] = [];
let made = 0;

beforeAll(async () => {
  site = await Site.open();
  gateway = await site.gateway({ id: 'line-1' });
});
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});
afterAll(() => site.close());

function newName(): string {
  made += 1;
  return `press-${made}`;
}

/** The real SDK, given nothing but the connection string and the gateway's root. */
async function sdk(device: KeyedDevice, root = gateway.root): Promise<Client> {
  const client = iotDevice.Client.fromConnectionString(device.connectionString, Mqtt);
  open.push(client);
  await client.setOptions({ ca: root });
  await client.open();
  return client;
}

async function twinOf(client: Client) {
  return (await client.getTwin()) as unknown as {
    properties: {
      desired: { [name: string]: unknown; $version: number };
      reported: { [name: string]: unknown; update(patch: object, done: (error?: Error) => void): void };
    };
    on(event: string, listener: (patch: object) => void): void;
  };
}

function report(twin: Awaited<ReturnType<typeof twinOf>>, patch: object): Promise<void> {
  return new Promise((resolve, reject) => {
    twin.properties.reported.update(patch, (error) => (error ? reject(error) : resolve()));
  });
}

function patchTwin(deviceId: string, desired: object): Promise<unknown> {
  return site.call('PATCH', `/twins/${deviceId}`, { properties: { desired } }, { 'if-match': '"*"' });
}

function bodiesFrom(deviceId: string): string[] {
  const messages = site.hub.received().filter((message) => message.deviceId === deviceId);
  return messages.map((message) => Buffer.from(message.body, 'base64').toString());
}

/** A bare MQTT connection that stays. */
async function stay(at: Gateway, device: KeyedDevice, token?: string): Promise<MqttClient> {
  const { code, client } = await knock(at, site.packet(device, token === undefined ? {} : { token }));
  open.push({ close: () => client.endAsync(true) });
  if (code !== 0) throw new Error(`CONNACK ${code}`);
  return client;
}

/** Resolves when the gateway has cut the connection. */
function endOf(client: MqttClient): Promise<void> {
  return new Promise((resolve) => client.once('close', () => resolve()));
}

/** The certificate that the gateway serves, with its issuers. */
async function served(at: Gateway): Promise<DetailedPeerCertificate> {
  const socket = connectTls({ host: '127.0.0.1', port: at.ports.mqtt, servername: at.hostname, ca: at.root });
  await once(socket, 'secureConnect');
  const certificate = socket.getPeerCertificate(true);
  socket.destroy();
  return certificate;
}

describe('the real device SDK through the gateway', () => {
  test('sends telemetry, which the hub receives with the name of the gateway', async () => {
    const deviceId = newName();
    const client = await sdk(await site.device(deviceId, gateway));
    const message: Message = new iotDevice.Message(JSON.stringify({ force: 12 }));
    message.messageId = 'm-1';
    message.contentType = 'application/json';
    message.properties.add('line', 'a & b');
    await client.sendEvent(message);
    const [received] = site.hub.received().filter((one) => one.deviceId === deviceId);
    expect(received).toMatchObject({ moduleId: null, gatewayId: 'line-1' });
    expect(received?.properties).toMatchObject({ '$.mid': 'm-1', '$.ct': 'application/json', line: 'a & b' });
    expect(bodiesFrom(deviceId)).toEqual(['{"force":12}']);
  });

  test('reads its twin, reports, and is told what is desired', async () => {
    const deviceId = newName();
    const client = await sdk(await site.device(deviceId, gateway));
    await patchTwin(deviceId, { speed: 1 });
    const twin = await twinOf(client);
    expect(twin.properties.desired.speed).toBe(1);
    const desired: object[] = [];
    twin.on('properties.desired', (patch) => desired.push(patch));
    await report(twin, { firmware: '1.2' });
    const stored = (await site.call('GET', `/twins/${deviceId}`)) as { properties: { reported: object } };
    expect(stored.properties.reported).toMatchObject({ firmware: '1.2' });
    await patchTwin(deviceId, { speed: 2 });
    await until('the desired speed arrives', () => desired.some((patch) => 'speed' in patch && patch.speed === 2));
  });

  test('answers a direct method that a service calls', async () => {
    const deviceId = newName();
    const client = await sdk(await site.device(deviceId, gateway));
    client.onDeviceMethod('restart', (request, response) => {
      void response.send(200, { restarted: request.payload });
    });
    const call = { methodName: 'restart', payload: 'axis', responseTimeoutInSeconds: 5, connectTimeoutInSeconds: 5 };
    const answer = await site.call('POST', `/twins/${deviceId}/methods`, call);
    expect(answer).toEqual({ status: 200, payload: { restarted: 'axis' } });
  });

  test('receives and completes a cloud-to-device message', async () => {
    const deviceId = newName();
    const client = await sdk(await site.device(deviceId, gateway));
    const arrived = new Promise<Message>((resolve) => client.on('message', resolve));
    site.hub.sendCloudToDevice(deviceId, { id: 'c-1', properties: { kind: 'hint' }, body: Buffer.from('slow down') });
    const message = await arrived;
    expect(message.getData().toString()).toBe('slow down');
    expect(message.properties.getValue('kind')).toBe('hint');
    await client.complete(message);
  });

  test('connects as a module with the key of the module', async () => {
    const deviceId = newName();
    await site.device(deviceId, gateway);
    const module = await site.module(deviceId, 'camera', gateway);
    expect(await codeOf(gateway, site.packet(module))).toBe(0);
    const { ModuleClient } = iotDevice;
    const client = ModuleClient.fromConnectionString(module.connectionString, Mqtt);
    open.push(client);
    await client.setOptions({ ca: gateway.root });
    await client.open();
    await client.sendEvent(new iotDevice.Message('seen'));
    const [received] = site.hub.received().filter((one) => one.deviceId === deviceId);
    expect(received).toMatchObject({ moduleId: 'camera', gatewayId: 'line-1' });
  });

  test('does not trust the gateway by the root of another one', async () => {
    const other = await site.gateway({ id: 'line-other' });
    const device = await site.device(newName(), gateway);
    await expect(sdk(device, other.root)).rejects.toThrow(/self-signed certificate|unable to/);
  });

  test('takes a message of 256 KiB and is cut off at one byte more', async () => {
    const device = await site.device(newName(), gateway);
    const client = await stay(gateway, device);
    const topic = `devices/${device.deviceId}/messages/events/`;
    await client.publishAsync(topic, Buffer.alloc(262_144, 'a'), { qos: 1 });
    expect(bodiesFrom(device.deviceId)[0]).toHaveLength(262_144);
    const closed = endOf(client);
    client.publish(topic, Buffer.alloc(262_145, 'a'), { qos: 1 });
    await closed;
    expect(bodiesFrom(device.deviceId)).toHaveLength(1);
  });
});

describe('the certificates of the gateway', () => {
  const openssl = spawnSync('openssl', ['version']).status === 0;

  test.skipIf(!openssl)(`verify in openssl s_client against the root${openssl ? '' : ' (needs openssl)'}`, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gatepost-gateway-'));
    writeFileSync(join(folder, 'root.pem'), gateway.root);
    const target = ['-connect', `127.0.0.1:${gateway.ports.mqtt}`, '-servername', 'localhost'];
    const check = ['-verify_hostname', 'localhost', '-verify_return_error', '-CAfile', join(folder, 'root.pem')];
    const client = spawn('openssl', ['s_client', ...target, ...check, '-showcerts']);
    client.stdin.end('Q\n');
    const output = (await client.stdout.toArray()).join('');
    rmSync(folder, { recursive: true });
    expect(output).toContain('Verify return code: 0 (ok)');
    // The server certificate and the Edge CA; the root stays at home.
    expect(output.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  });

  test('are those that an Edge device has', async () => {
    const peer = await served(gateway);
    const server = new X509Certificate(peer.raw);
    const edgeCa = new X509Certificate(peer.issuerCertificate.raw);
    const root = new X509Certificate(gateway.root);
    expect(server.subject).toBe('CN=localhost');
    expect(server.subjectAltName).toBe('DNS:localhost, DNS:edgeHub');
    expect(server.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
    expect((server.validToDate.getTime() - Date.now()) / 86_400_000).toBeCloseTo(30, 1);
    expect(edgeCa.subject).toBe('CN=aziot-edge CA line-1');
    expect(edgeCa.ca && edgeCa.checkIssued(root) && edgeCa.verify(root.publicKey)).toBe(true);
    for (const { publicKey } of [server, edgeCa]) {
      expect(publicKey.asymmetricKeyType).toBe('rsa');
      expect(publicKey.asymmetricKeyDetails?.modulusLength).toBe(2048);
    }
  });

  test('name an address where the host name is one', async () => {
    const byAddress = await site.gateway({ id: 'line-ip', hostname: '127.0.0.1' });
    const socket = connectTls({ host: '127.0.0.1', port: byAddress.ports.mqtt, ca: byAddress.root });
    await once(socket, 'secureConnect');
    expect(new X509Certificate(socket.getPeerCertificate().raw).subjectAltName).toContain('IP Address:127.0.0.1');
    socket.destroy();
  });

  test('are replaced below the same root, while connections stand', async () => {
    const device = await site.device(newName(), gateway);
    const client = await stay(gateway, device);
    const before = (await served(gateway)).fingerprint256;
    await gateway.replaceServerCertificate();
    const after = (await served(gateway)).fingerprint256;
    expect(after).not.toBe(before);
    await client.publishAsync(`devices/${device.deviceId}/messages/events/`, 'still here', { qos: 1 });
    expect(bodiesFrom(device.deviceId)).toEqual(['still here']);
  });
});

describe('how many clients', () => {
  test('a hundred get in, the next one does not, one that comes again does', async () => {
    const full = await site.gateway({ id: 'line-full' });
    const deviceScope = await site.scopeOf(full);
    const devices: KeyedDevice[] = [];
    for (let index = 0; index < 101; index += 1)
      devices.push(await site.device(`crowd-${index}`, undefined, { deviceScope }));
    await full.refreshScope();
    const [last, ...hundred] = devices;
    await Promise.all(hundred.map((device) => stay(full, device)));
    expect(full.connected()).toHaveLength(100);
    expect(await codeOf(full, site.packet(last ?? failed()))).toBe(3);
    await stay(full, hundred[0] ?? failed());
    expect(full.connected()).toHaveLength(100);
  });
});

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
    const client = await stay(from, device);
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
    const client = await stay(gateway, device);
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
    const client = await stay(strict, device, makeSasToken(audience, device.key, Math.floor(now / 1000) + 60));
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
    const client = await stay(remote, device);
    remote.setOnline(false);
    const topic = `devices/${device.deviceId}/messages/events/`;
    for (const body of ['1', '2', '3']) await client.publishAsync(topic, body, { qos: 1 });
    expect(bodiesFrom(device.deviceId)).toEqual([]);
    remote.setOnline(true);
    await client.publishAsync(topic, '4', { qos: 1 });
    await until('all has arrived', () => bodiesFrom(device.deviceId).length === 4);
    expect(bodiesFrom(device.deviceId)).toEqual(['1', '2', '3', '4']);
  });

  test('serves the last twin, and catches up on what was reported and desired meanwhile', async () => {
    const remote = await site.gateway({ id: 'line-twins' });
    const deviceId = newName();
    const client = await sdk(await site.device(deviceId, remote), remote.root);
    await patchTwin(deviceId, { speed: 1, mode: 'auto' });
    const twin = await twinOf(client);
    const desired: Record<string, unknown>[] = [];
    twin.on('properties.desired', (patch) => desired.push({ ...patch }));
    await report(twin, { firmware: '1.1', old: true });
    remote.setOnline(false);
    await report(twin, { firmware: '1.2' });
    await report(twin, { old: null });
    await patchTwin(deviceId, { speed: 2, mode: null });
    const stored = async () =>
      ((await site.call('GET', `/twins/${deviceId}`)) as { properties: { reported: Record<string, unknown> } })
        .properties;
    expect((await stored()).reported).toMatchObject({ firmware: '1.1', old: true });
    remote.setOnline(true);
    await until('the report arrives', async () => (await stored()).reported.firmware === '1.2');
    expect((await stored()).reported).not.toHaveProperty('old');
    await until('the desired speed arrives', () => desired.some((patch) => patch.speed === 2));
    expect(desired.at(-1)).toMatchObject({ speed: 2, mode: null });
  });
});

test('a gateway that starts again has its root, its cached scope and its undelivered messages', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'gatepost-gateway-'));
  const first = await site.gateway({ id: 'line-kept', directory });
  const device = await site.device(newName(), first);
  const client = await stay(first, device);
  first.setOnline(false);
  await client.publishAsync(`devices/${device.deviceId}/messages/events/`, 'kept', { qos: 1 });
  await first.close();
  expect(statSync(join(directory, 'pki.json')).mode & 0o077).toBe(0);
  expect(statSync(join(directory, 'state.json')).mode & 0o077).toBe(0);
  site.faults.add({ target: 'hub', match: { path: 'InDeviceScope' }, fault: { status: 503 } });
  const second = await site.gateway({ id: 'line-kept', directory });
  expect(second.root).toBe(first.root);
  expect(await codeOf(second, site.packet(device))).toBe(0);
  await until('the message arrives', () => bodiesFrom(device.deviceId).length === 1);
  expect(bodiesFrom(device.deviceId)).toEqual(['kept']);
  site.faults.clear();
  await second.close();
  rmSync(directory, { recursive: true });
});

function failed(): never {
  throw new Error('there is none');
}
