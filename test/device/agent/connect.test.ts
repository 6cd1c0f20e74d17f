import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { rootCertificates } from 'node:tls';
import device, { type Client } from 'azure-iot-device';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { openAgentSession } from '../../../device/src/agent/connect-agent.ts';
import { HostServices } from '../../../device/src/agent/host-services.ts';
import { callHub } from '../../../local/cloud/hub-api.ts';
import { startHub } from '../../../local/hub/hub.ts';
import type { IdentityService } from '../../../local/identity-service/identity-service.ts';
import { issue, selfSigned } from '../../../local/kit/certificates.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { agentName, agentUid, ask, Host } from '../../local/identity-service/support.ts';
import { caFile, faultOf, open, optionsOf, quick } from './support.ts';

// The real SDK, a gateway and a hub, each over TLS; keys that exist in keyd and in the hub and nowhere else.
let host: Host;

beforeAll(async () => {
  host = await Host.open();
});

afterAll(() => host?.close());

let count = 0;
const newId = () => `press-${++count}`;

function bodies(deviceId: string) {
  const messages = host.site.hub.received().filter((message) => message.deviceId === deviceId);
  return messages.map(({ moduleId, gatewayId, body }) => ({
    moduleId,
    gatewayId,
    body: Buffer.from(body, 'base64').toString(),
  }));
}

const signatures = (services: IdentityService) => services.calls().filter(({ path }) => path === '/sign').length;

test('module telemetry reaches the hub through the gateway with a token that the Keys Service signed', async () => {
  const deviceId = newId();
  const services = await host.start(deviceId);
  const client = await open(optionsOf(host, services));
  expect(client).toBeInstanceOf(device.ModuleClient);
  await client.sendEvent(new device.Message('hello'));
  await expect.poll(() => bodies(deviceId)).toEqual([{ moduleId: agentName, gatewayId: 'gateway-1', body: 'hello' }]);
  expect(host.gateway.connected()).toContain(`${deviceId}/${agentName}`);
  expect(signatures(services)).toBe(1);
});

test('AMQP works as well, over a renewal', async () => {
  const deviceId = newId();
  const services = await host.start(deviceId);
  const port = host.gateway.ports.amqp ?? undefined;
  const options = { ...optionsOf(host, services), port, protocol: 'amqp' as const };
  const client = await open({ ...options, lifetimeSeconds: 4, marginSeconds: 3 });
  await client.sendEvent(new device.Message('by AMQP'));
  await expect.poll(() => signatures(services), { timeout: 5_000 }).toBeGreaterThanOrEqual(2);
  await client.sendEvent(new device.Message('still'));
  await expect
    .poll(() => bodies(deviceId))
    .toEqual([
      { moduleId: agentName, gatewayId: 'gateway-1', body: 'by AMQP' },
      { moduleId: agentName, gatewayId: 'gateway-1', body: 'still' },
    ]);
});

test('a device principal is a device', async () => {
  const deviceId = newId();
  const principals = [{ uid: agentUid, name: agentName, idtype: ['device' as const] }];
  const services = await host.start(deviceId, { principals });
  const client = await open<Client>(optionsOf(host, services));
  expect(client).toBeInstanceOf(device.Client);
  await client.sendEvent(new device.Message('as a device'));
  await expect.poll(() => bodies(deviceId)).toEqual([{ moduleId: null, gatewayId: 'gateway-1', body: 'as a device' }]);
});

test('twin and reported properties of a module work', async () => {
  const deviceId = newId();
  const services = await host.start(deviceId);
  const client = await open(optionsOf(host, services));
  const twin = await client.getTwin();
  await new Promise<void>((resolve, reject) => {
    twin.properties.reported.update({ ready: true }, (error: Error | undefined) => (error ? reject(error) : resolve()));
  });
  await expect
    .poll(async () => {
      const found = await host.site.call('GET', `/twins/${deviceId}/modules/${agentName}`);
      return (found as { properties: { reported: object } }).properties.reported;
    })
    .toMatchObject({ ready: true });
});

test('tokens are renewed by the Keys Service while the client stays, and what is sent afterwards arrives', async () => {
  const deviceId = newId();
  const services = await host.start(deviceId);
  const client = await open({ ...optionsOf(host, services), lifetimeSeconds: 3, marginSeconds: 2 });
  expect(signatures(services)).toBe(1);
  await expect.poll(() => signatures(services), { timeout: 5_000 }).toBeGreaterThanOrEqual(3);
  await client.sendEvent(new device.Message('after'));
  await expect.poll(() => bodies(deviceId).map(({ body }) => body)).toEqual(['after']);
  const connects = host.site.faults.calls().gateway;
  expect(Object.entries(connects).some(([name, times]) => name.startsWith('CONNECT') && times >= 2)).toBe(true);
});

test('a restarted keyd that forgot its handles is asked with a new one, and the client lives on', async () => {
  const deviceId = newId();
  const services = await host.start(deviceId);
  const log: string[] = [];
  const client = await open({
    ...optionsOf(host, services),
    lifetimeSeconds: 4,
    marginSeconds: 3,
    log: (line) => log.push(line),
  });
  const identities = () => services.calls().filter(({ path }) => path === '/identities/identity').length;
  const before = identities();
  services.restartKeyd({ forgetHandles: true });
  await expect.poll(identities, { timeout: 5_000 }).toBeGreaterThan(before);
  const signed = signatures(services);
  await expect.poll(() => signatures(services), { timeout: 5_000 }).toBeGreaterThan(signed);
  await client.sendEvent(new device.Message('lives on'));
  await expect.poll(() => bodies(deviceId).map(({ body }) => body)).toEqual(['lives on']);
  expect(log).toEqual([]);
});

test('while keyd is away the token in use goes on, and is renewed when keyd is back', async () => {
  const deviceId = newId();
  const services = await host.start(deviceId);
  const log: string[] = [];
  const client = await open({
    ...optionsOf(host, services),
    lifetimeSeconds: 6,
    marginSeconds: 5,
    log: (line) => log.push(line),
  });
  await services.stop('keyd');
  await expect.poll(() => log.length, { timeout: 5_000 }).toBeGreaterThan(2);
  await client.sendEvent(new device.Message('meanwhile'));
  await services.start('keyd');
  const before = signatures(services);
  await expect.poll(() => signatures(services), { timeout: 5_000 }).toBeGreaterThan(before);
  await client.sendEvent(new device.Message('again'));
  await expect.poll(() => bodies(deviceId).map(({ body }) => body)).toEqual(['meanwhile', 'again']);
});

test('a module that was made anew has another key: the reconnection begins with the identity', async () => {
  const deviceId = newId();
  const services = await host.start(deviceId, {
    users: [agentUid, 51],
    principals: [
      { uid: agentUid, name: agentName, idtype: ['module'] },
      { uid: 51, name: 'aziot-edge' },
    ],
  });
  const client = await open({ ...optionsOf(host, services), sdkRetries: true });
  const daemon = (path: string, sent: object) => ask(services.sockets(51), 'identityd', path, sent);
  const v = 'api-version=2020-09-01';
  await daemon(`/identities/modules/${agentName}?type=aziot&${v}`, { method: 'DELETE' });
  await daemon(`/identities/modules?${v}`, { body: { type: 'aziot', moduleId: agentName } });
  // The token in use is from this moment on of no use to anybody.
  const isThere = () => host.gateway.connected().includes(`${deviceId}/${agentName}`);
  await host.gateway.refreshScope();
  await client.sendEvent(new device.Message('anew'));
  expect(signatures(services)).toBeGreaterThan(1);
  expect(isThere()).toBe(true);
  await expect.poll(() => bodies(deviceId).map(({ body }) => body)).toEqual(['anew']);
});

test('a reconnection while the services are away goes on with the token in use', async () => {
  const deviceId = newId();
  const services = await host.start(deviceId);
  const log: string[] = [];
  const client = await open({ ...optionsOf(host, services), sdkRetries: true, log: (line) => log.push(line) });
  await client.sendEvent(new device.Message('before'));
  await services.stop('identityd');
  // The gateway cuts off who leaves its scope, and lets it in again when it is back.
  await host.site.change(deviceId, { deviceScope: '' });
  await host.gateway.refreshScope();
  await host.site.change(deviceId, { deviceScope: await host.site.scopeOf(host.gateway) });
  await client.sendEvent(new device.Message('after'));
  await expect.poll(() => bodies(deviceId).map(({ body }) => body)).toEqual(['before', 'after']);
  expect(log.join(' ')).toContain('the token in use goes on');
});

test('a closed client asks the Keys Service for nothing more', async () => {
  const services = await host.start(newId());
  const client = await open({ ...optionsOf(host, services), lifetimeSeconds: 2, marginSeconds: 1 });
  await client.close();
  const before = signatures(services);
  await new Promise((resolve) => setTimeout(resolve, 1_300));
  expect(signatures(services)).toBe(before);
});

test('a device that was provisioned anew is not renewed under its old name', async () => {
  const old = newId();
  const services = await host.start(old);
  const log: string[] = [];
  await open({ ...optionsOf(host, services), lifetimeSeconds: 4, marginSeconds: 3, log: (line) => log.push(line) });
  const next = newId();
  const { key } = await host.site.device(next, host.gateway);
  services.setProvisioning({
    source: 'manual',
    hub: host.site.hub.hostname,
    deviceId: next,
    gatewayHost: 'localhost',
    authentication: { method: 'sas', key },
  });
  await new HostServices({ sockets: services.sockets(0) }).reprovision();
  await expect.poll(() => log.join(' '), { timeout: 5_000 }).toContain('provisioned anew');
  const client = await open(optionsOf(host, services));
  await client.sendEvent(new device.Message('as another'));
  await expect.poll(() => bodies(next).map(({ body }) => body)).toEqual(['as another']);
});

test('without a gateway the hub itself is spoken to, and proven like one', async () => {
  const ca = await selfSigned({ commonName: 'Hub CA' });
  const tls = await issue(ca, { commonName: 'localhost', names: ['localhost'] });
  const faults = new FaultSwitch();
  const hub = await startHub({ faults, tls: { cert: tls.chain, key: tls.privateKey }, hostname: 'localhost' });
  onTestFinished(() => hub.close());
  const access = { hostname: 'localhost', port: hub.port, connectionString: hub.connectionString, ca: ca.certificate };
  const made = await callHub(access, 'PUT', '/devices/direct', { deviceId: 'direct', authentication: { type: 'sas' } });
  const { symmetricKey } = (made.body as { authentication: { symmetricKey: { primaryKey: string } } }).authentication;
  const services = await host.services({
    provisioning: {
      source: 'manual',
      hub: 'localhost',
      deviceId: 'direct',
      authentication: { method: 'sas', key: symmetricKey.primaryKey },
    },
    principals: [{ uid: agentUid, name: agentName, idtype: ['module'] }],
    cloud: { ca: ca.certificate, locate: () => ({ address: '127.0.0.1', port: hub.port }) },
  });
  const options = { ...optionsOf(host, services), port: hub.mqttPort };
  writeFileSync(options.ca ?? '', ca.certificate);
  const client = await open(options);
  await client.sendEvent(new device.Message('straight'));
  await expect
    .poll(() => hub.received().map(({ deviceId, moduleId, gatewayId }) => ({ deviceId, moduleId, gatewayId })))
    .toEqual([{ deviceId: 'direct', moduleId: agentName, gatewayId: null }]);
});

test('a gateway whose root is not trusted here is refused before anything is sent', async () => {
  const services = await host.start(newId());
  const other = await selfSigned({ commonName: 'Another root' });
  const ca = caFile(host);
  writeFileSync(ca, other.certificate);
  const fault = await faultOf(openAgentSession({ ...optionsOf(host, services), ca }));
  expect(fault).toMatchObject({ code: 'chain_untrusted', message: expect.stringContaining('Another root') });
  // The store of a system has more roots than anybody wants to read.
  writeFileSync(ca, rootCertificates.join('\n'));
  const systemFault = await faultOf(openAgentSession({ ...optionsOf(host, services), ca }));
  expect(systemFault.code).toBe('chain_untrusted');
  expect(systemFault.message).toMatch(/ and \d+ more\.$/);
  expect(systemFault.message.length).toBeLessThan(800);
});

test('a module whose device was moved away from the gateway is refused with the reason', async () => {
  const deviceId = newId();
  const services = await host.start(deviceId);
  // Its identity service still answers what it saw last.
  await host.site.change(deviceId, { deviceScope: '' });
  await host.gateway.refreshScope();
  const fault = await faultOf(openAgentSession(optionsOf(host, services)));
  expect(fault.code).toBe('credential_refused');
});

test('X.509 with a key in the Keys Service is refused with the reason', async () => {
  const ca = await selfSigned({ commonName: 'Device CA' });
  const deviceId = newId();
  const own = await issue(ca, { commonName: deviceId, usages: ['clientAuth'] });
  const primaryThumbprint = new X509Certificate(own.certificate).fingerprint256.replaceAll(':', '');
  await host.site.x509('selfSigned', deviceId, host.gateway, { x509Thumbprint: { primaryThumbprint } });
  const services = await host.services({
    provisioning: {
      source: 'manual',
      hub: host.site.hub.hostname,
      deviceId,
      gatewayHost: 'localhost',
      authentication: { method: 'x509', certificate: own.chain, privateKey: own.privateKey },
    },
    principals: [{ uid: agentUid, name: 'host-process', idtype: ['device'] }],
  });
  const fault = await faultOf(openAgentSession(optionsOf(host, services)));
  expect(fault).toMatchObject({ code: 'not_supported', message: expect.stringContaining('aziot_keys') });
});

test('no identity, no connection: refused principals and missing services come through', async () => {
  const services = await host.start(newId(), { users: [agentUid, 77] });
  expect((await faultOf(openAgentSession({ ...optionsOf(host, services, 77) }))).code).toBe('identity_refused');
  expect((await faultOf(openAgentSession({ sockets: '/nonexistent', backoff: quick }))).code).toBe(
    'identity_service_missing',
  );
});
