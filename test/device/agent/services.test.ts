import { createHmac } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { agentConnection, agentIdentity } from '../../../device/src/agent/connection.ts';
import { HostServices } from '../../../device/src/agent/host-services.ts';
import { parseIdentity } from '../../../device/src/agent/identity.ts';
import { parseConnectionString } from '../../../device/src/connection-string.ts';
import type { IdentityService } from '../../../local/identity-service/identity-service.ts';
import { issue, selfSigned } from '../../../local/kit/certificates.ts';
import { agentName, agentUid, Host } from '../../local/identity-service/support.ts';
import { faultOf, quick } from './support.ts';

let host: Host;
let services: IdentityService;
let sockets: string;

beforeAll(async () => {
  host = await Host.open();
  services = await host.start('press-1', { users: [agentUid, 77] });
  sockets = services.sockets(agentUid);
});

afterAll(() => host?.close());

const agent = (more: object = {}) => ({ sockets, backoff: quick, ...more });

test('the identity says who this process is and which gateway it stands behind', async () => {
  expect(await agentIdentity(agent())).toEqual({
    hub: 'gatepost.azure-devices.net',
    gateway: 'localhost',
    deviceId: 'press-1',
    moduleId: agentName,
    generationId: expect.any(String),
    credential: { kind: 'sas', keyHandle: expect.any(String) },
  });
});

test('the connection string names the gateway as the SDKs read it, and its token verifies with the key in the hub', async () => {
  const { connectionString, token } = await agentConnection(agent({ lifetimeSeconds: 120 }));
  const parsed = parseConnectionString(connectionString);
  expect(parsed).toMatchObject({
    hub: 'gatepost.azure-devices.net',
    deviceId: 'press-1',
    moduleId: agentName,
    gateway: { host: 'localhost', port: undefined },
  });
  expect(connectionString).toMatch(/;SharedAccessSignature=SharedAccessSignature sr=[^;]+;GatewayHostName=localhost$/);
  const [, sr = '', sig = '', se = ''] = /sr=([^&]+)&sig=([^&]+)&se=(\d+)$/.exec(token?.token ?? '') ?? [];
  expect(sr).toBe(`gatepost.azure-devices.net%2Fdevices%2Fpress-1%2Fmodules%2F${agentName}`);
  expect(sig).not.toMatch(/[+/=]/);
  expect(Number(se) - Date.now() / 1000).toBeGreaterThan(110);
  expect(Number(se) - Date.now() / 1000).toBeLessThanOrEqual(120);
  const { [agentName]: key = '' } = await host.modules('press-1');
  const made = createHmac('sha256', Buffer.from(key, 'base64')).update(`${sr}\n${se}`).digest('base64');
  expect(decodeURIComponent(sig)).toBe(made);
});

test('a gateway that is the hub, in whatever case, is none', () => {
  const spec = { hubName: 'Hub.azure-devices.net', deviceId: 'd', auth: { type: 'sas', keyHandle: 'sr=x&sig=y' } };
  const gatewayOf = (gatewayHost?: string) => parseIdentity({ type: 'aziot', spec: { ...spec, gatewayHost } }).gateway;
  expect(gatewayOf('HUB.azure-devices.NET')).toBeUndefined();
  expect(gatewayOf(undefined)).toBeUndefined();
  expect(gatewayOf('Parent-1')).toBe('parent-1');
  expect(gatewayOf('parent-1:8443')).toBe('parent-1');
});

test('an answer that does not read is told by what is wrong with it', async () => {
  const spec = { hubName: 'h', gatewayHost: 'h', deviceId: 'd', auth: { type: 'sas', keyHandle: 'x' } };
  const fault = (value: unknown) => faultOf(Promise.resolve().then(() => parseIdentity(value)));
  expect(await fault({ type: 'local', spec })).toMatchObject({ code: 'identity_invalid' });
  expect((await fault({ type: 'aziot', spec: { ...spec, hubName: 7 } })).message).toContain('hubName');
  expect((await fault({ type: 'aziot', spec: { ...spec, auth: { type: 'sas' } } })).message).toContain('keyHandle');
  expect((await fault({ type: 'aziot', spec: { ...spec, hubName: 'a b' } })).message).toContain('host name');
  expect(await fault({ type: 'aziot', spec: { ...spec, auth: { type: 'tpm' } } })).toMatchObject({
    code: 'not_supported',
  });
  const x509 = { type: 'x509', keyHandle: 'x', certId: 'y' };
  expect((await fault({ type: 'aziot', spec: { ...spec, moduleId: 'm', auth: x509 } })).message).toContain('X.509');
});

test('who is no principal is refused, and told how to become one', async () => {
  const fault = await faultOf(agentIdentity({ ...agent(), sockets: services.sockets(77) }));
  expect(fault.code).toBe('identity_refused');
  expect(fault.message).toContain('(401: authorization error)');
  expect(fault.message).toContain('agent install');
});

test('services that are not there are told from those that refuse and those that hang up', async () => {
  expect(await faultOf(agentIdentity(agent({ sockets: '/nonexistent/aziot' })))).toMatchObject({
    code: 'identity_service_missing',
    message: expect.stringContaining('/nonexistent/aziot/identityd.sock'),
  });
  await services.stop('identityd');
  expect(await faultOf(agentIdentity(agent()))).toMatchObject({
    code: 'identity_service_unreachable',
    message: expect.stringContaining('refuses connections'),
  });
  await services.start('identityd');
  services.misbehave({ service: 'identityd', fault: 'cut' });
  expect(await faultOf(agentIdentity(agent()))).toMatchObject({
    code: 'identity_service_unreachable',
    message: expect.stringContaining('hung up'),
  });
  services.behave();
});

test('every answer of the services has its code and one line', async () => {
  const faultWith = async (message: string, status: number, contentType = 'application/json') => {
    const folder = host.folder();
    const server = createServer((socket) => {
      const body = JSON.stringify({ message });
      socket.once('data', () =>
        socket.end(
          `HTTP/1.1 ${status} X\r\ncontent-type: ${contentType}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
        ),
      );
    });
    await new Promise<void>((resolve) => server.listen(join(folder, 'identityd.sock'), resolve));
    const fault = await faultOf(agentIdentity(agent({ sockets: folder })));
    server.close();
    expect(fault.message).not.toContain('\n');
    return fault;
  };
  expect(await faultWith('Hub client error\ncaused by: module m not found', 404)).toMatchObject({
    code: 'identity_cloud_failed',
    message: expect.stringContaining('Hub client error; caused by: module m not found'),
  });
  expect((await faultWith('DPS provisioning is not supported in nested mode', 404)).code).toBe('identity_cloud_failed');
  expect((await faultWith('Key client error\ncaused by: x', 404)).code).toBe('identity_cloud_failed');
  expect((await faultWith('device identity not found', 400)).code).toBe('identity_not_found');
  expect((await faultWith('internal error', 500)).code).toBe('identity_service_failed');
  expect((await faultWith('invalid api-version "2020-09-01"', 400)).code).toBe('identity_service_failed');
  expect((await faultWith('not found', 404)).code).toBe('identity_service_failed');
  expect((await faultWith('<html>', 502, 'text/html')).code).toBe('identity_service_failed');
  expect((await faultWith('fine', 200, 'text/html')).code).toBe('identity_invalid');
});

test('refused at the first step: it waits and tries again', async () => {
  await services.stop('identityd');
  const log: string[] = [];
  const waiting = agentConnection(agent({ waitMs: 10_000, log: (line: string) => log.push(line) }));
  await expect.poll(() => log.length).toBeGreaterThan(2);
  await services.start('identityd');
  expect((await waiting).connectionString).toContain('DeviceId=press-1');
  expect(log[0]).toContain('refuses connections');
});

test('refused at signing: it begins again with the identity', async () => {
  await services.stop('keyd');
  const before = services.calls().length;
  const log: string[] = [];
  const waiting = agentConnection(agent({ waitMs: 10_000, log: (line: string) => log.push(line) }));
  await expect.poll(() => log.length).toBeGreaterThan(0);
  await services.start('keyd');
  await waiting;
  const made = services.calls().slice(before);
  const asked = made.filter(({ path }) => path === '/identities/identity').length;
  const signed = made.filter(({ path }) => path === '/sign').length;
  expect(asked).toBeGreaterThan(signed);
  expect(signed).toBe(1);
});

test('a handle that a restarted Keys Service does not know is replaced at once, without waiting', async () => {
  const before = services.calls().length;
  services.misbehave({ service: 'keyd', match: /sign/, fault: 'cut', times: 1 });
  services.restartKeyd({ forgetHandles: true });
  await agentConnection(agent());
  expect(services.calls().slice(before).length).toBeGreaterThan(2);
  const keys = new HostServices({ sockets });
  const { credential } = await keys.identity();
  services.restartKeyd({ forgetHandles: true });
  expect(await faultOf(keys.sign(credential.keyHandle, 'x'))).toMatchObject({
    code: 'signing_refused',
    message: expect.stringContaining('invalid handle'),
  });
});

test('a fault never shows a key handle', async () => {
  const keys = new HostServices({ sockets });
  const { credential } = await keys.identity();
  const fault = await faultOf(keys.sign(`${credential.keyHandle}x`, 'x'));
  expect(JSON.stringify(fault)).not.toContain(credential.keyHandle.slice(0, 40));
});

test('an answer that blocks for long is waited for, up to its limit', async () => {
  services.misbehave({ service: 'identityd', fault: { delayMs: 300 }, times: 1 });
  await agentIdentity(agent());
  services.misbehave({ service: 'identityd', fault: 'hang', times: 1 });
  expect(await faultOf(agentIdentity(agent({ identityTimeoutMs: 50 })))).toMatchObject({
    code: 'identity_service_unreachable',
    message: expect.stringContaining('no answer within 0.05 s'),
  });
});

test('ten connections of the same user are waited out, and none is kept', async () => {
  const open = Array.from({ length: 10 }, () => connect(join(sockets, 'identityd.sock')));
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
  });
  await expect.poll(() => services.connections('identityd')).toBe(10);
  const waiting = agentIdentity(agent());
  setTimeout(() => open[0]?.destroy(), 150);
  expect((await waiting).deviceId).toBe('press-1');
  for (const socket of open) socket.destroy();
  await expect.poll(() => services.connections('identityd')).toBe(0);
});

test('twenty requests at once all get their answer', async () => {
  const all = await Promise.all(Array.from({ length: 20 }, () => agentIdentity(agent({ waitMs: 10_000 }))));
  expect(all).toHaveLength(20);
});

test('reprovisioning is for root: a host process is refused, root is not', async () => {
  const own = new HostServices({ sockets });
  expect((await faultOf(own.reprovision())).code).toBe('identity_refused');
  await new HostServices({ sockets: services.sockets(0) }).reprovision();
});

test('a device principal with X.509 gets its certificate from the Certificates Service, and x509=true', async () => {
  const ca = await selfSigned({ commonName: 'Device CA' });
  const { certificate, chain, privateKey } = await issue(ca, { commonName: 'press-x', usages: ['clientAuth'] });
  const { X509Certificate } = await import('node:crypto');
  const primaryThumbprint = new X509Certificate(certificate).fingerprint256.replaceAll(':', '');
  await host.site.x509('selfSigned', 'press-x', host.gateway, { x509Thumbprint: { primaryThumbprint } });
  const device = await host.services({
    provisioning: {
      source: 'manual',
      hub: host.site.hub.hostname,
      deviceId: 'press-x',
      gatewayHost: 'localhost',
      authentication: { method: 'x509', certificate: chain, privateKey },
    },
    principals: [{ uid: agentUid, name: 'host-process', idtype: ['device'] }],
  });
  const made = await agentConnection({ ...agent(), sockets: device.sockets(agentUid) });
  expect(made.connectionString).toBe(
    'HostName=gatepost.azure-devices.net;DeviceId=press-x;x509=true;GatewayHostName=localhost',
  );
  expect(made.certificate).toBe(chain);
  const later = () => new Date(Date.now() + 400 * 86_400_000);
  expect((await faultOf(agentConnection({ ...agent(), sockets: device.sockets(agentUid), now: later }))).code).toBe(
    'credential_expired',
  );
});

test('without a gateway the connection string names none', async () => {
  const device = await host.site.device('press-2');
  const direct = await host.services({
    provisioning: {
      source: 'manual',
      hub: host.site.hub.hostname,
      deviceId: 'press-2',
      authentication: { method: 'sas', key: device.key },
    },
    principals: [{ uid: agentUid, name: agentName, idtype: ['module'] }],
  });
  const { connectionString } = await agentConnection({ ...agent(), sockets: direct.sockets(agentUid) });
  expect(connectionString).not.toContain('Gateway');
});
