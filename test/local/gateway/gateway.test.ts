import { spawn, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, type DetailedPeerCertificate } from 'node:tls';
import iotDevice, { type Message } from 'azure-iot-device';
import { Mqtt } from 'azure-iot-device-mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { codeOf, endOf, type KeyedDevice, newName, report, Site, twinOf, until } from './site.ts';

let site: Site;
let gateway: Gateway;

beforeAll(async () => {
  site = await Site.open();
  gateway = await site.gateway({ id: 'line-1' });
});
afterEach(async () => {
  await site.closeClients();
});
afterAll(() => site.close());

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
    const client = await site.sdk(await site.device(deviceId, gateway), gateway.root);
    const message: Message = new iotDevice.Message(JSON.stringify({ force: 12 }));
    message.messageId = 'm-1';
    message.contentType = 'application/json';
    message.properties.add('line', 'a & b');
    await client.sendEvent(message);
    const [received] = site.hub.received().filter((one) => one.deviceId === deviceId);
    expect(received).toMatchObject({ moduleId: null, gatewayId: 'line-1' });
    expect(received?.properties).toMatchObject({ '$.mid': 'm-1', '$.ct': 'application/json', line: 'a & b' });
    expect(site.bodiesFrom(deviceId)).toEqual(['{"force":12}']);
  });

  test('reads its twin, reports, and is told what is desired', async () => {
    const deviceId = newName();
    const client = await site.sdk(await site.device(deviceId, gateway), gateway.root);
    await site.patchTwin(deviceId, { speed: 1 });
    const twin = await twinOf(client);
    expect(twin.properties.desired.speed).toBe(1);
    const desired: object[] = [];
    twin.on('properties.desired', (patch) => desired.push(patch));
    await report(twin, { firmware: '1.2' });
    expect(await site.reported(deviceId)).toMatchObject({ firmware: '1.2' });
    await site.patchTwin(deviceId, { speed: 2 });
    await until('the desired speed arrives', () => desired.some((patch) => 'speed' in patch && patch.speed === 2));
  });

  test('answers a direct method that a service calls', async () => {
    const deviceId = newName();
    const client = await site.sdk(await site.device(deviceId, gateway), gateway.root);
    client.onDeviceMethod('restart', (request, response) => {
      void response.send(200, { restarted: request.payload });
    });
    const call = { methodName: 'restart', payload: 'axis', responseTimeoutInSeconds: 5, connectTimeoutInSeconds: 5 };
    const answer = await site.call('POST', `/twins/${deviceId}/methods`, call);
    expect(answer).toEqual({ status: 200, payload: { restarted: 'axis' } });
  });

  test('receives and completes a cloud-to-device message', async () => {
    const deviceId = newName();
    const client = await site.sdk(await site.device(deviceId, gateway), gateway.root);
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
    site.closeLater(client);
    await client.setOptions({ ca: gateway.root });
    await client.open();
    await client.sendEvent(new iotDevice.Message('seen'));
    const [received] = site.hub.received().filter((one) => one.deviceId === deviceId);
    expect(received).toMatchObject({ moduleId: 'camera', gatewayId: 'line-1' });
  });

  test('does not trust the gateway by the root of another one', async () => {
    const other = await site.gateway({ id: 'line-other' });
    const device = await site.device(newName(), gateway);
    await expect(site.sdk(device, other.root)).rejects.toThrow(/self-signed certificate|unable to/);
  });

  test('takes a message of 256 KiB and is cut off at one byte more', async () => {
    const device = await site.device(newName(), gateway);
    const client = await site.stay(gateway, device);
    const topic = `devices/${device.deviceId}/messages/events/`;
    await client.publishAsync(topic, Buffer.alloc(262_144, 'a'), { qos: 1 });
    expect(site.bodiesFrom(device.deviceId)[0]).toHaveLength(262_144);
    const closed = endOf(client);
    client.publish(topic, Buffer.alloc(262_145, 'a'), { qos: 1 });
    await closed;
    expect(site.bodiesFrom(device.deviceId)).toHaveLength(1);
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
    const client = await site.stay(gateway, device);
    const before = (await served(gateway)).fingerprint256;
    await gateway.replaceServerCertificate();
    const after = (await served(gateway)).fingerprint256;
    expect(after).not.toBe(before);
    await client.publishAsync(`devices/${device.deviceId}/messages/events/`, 'still here', { qos: 1 });
    expect(site.bodiesFrom(device.deviceId)).toEqual(['still here']);
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
    await Promise.all(hundred.map((device) => site.stay(full, device)));
    expect(full.connected()).toHaveLength(100);
    expect(await codeOf(full, site.packet(last ?? failed()))).toBe(3);
    await site.stay(full, hundred[0] ?? failed());
    expect(full.connected()).toHaveLength(100);
  });
});

function failed(): never {
  throw new Error('there is none');
}
