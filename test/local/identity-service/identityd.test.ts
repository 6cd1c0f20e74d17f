import { createHmac, X509Certificate } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { issue, selfSigned } from '../../../local/kit/certificates.ts';
import { agentName, agentUid, ask, Host } from './support.ts';

const v = 'api-version=2020-09-01';
let host: Host;

beforeAll(async () => {
  host = await Host.open();
});

afterAll(() => host?.close());

test('registers the module of a principal through the parent gateway, with keys that are derived on the device', async () => {
  const services = await host.start('press-1');
  const identity = await ask(services.sockets(agentUid), 'identityd', `/identities/identity?${v}`);
  expect(identity).toMatchObject({ status: 200, contentType: 'application/json' });
  expect(identity.body).toEqual({
    type: 'aziot',
    spec: {
      hubName: 'gatepost.azure-devices.net',
      gatewayHost: 'localhost',
      deviceId: 'press-1',
      moduleId: agentName,
      genId: expect.stringMatching(/^\d+$/),
      auth: { type: 'sas', keyHandle: expect.stringMatching(/^sr=.*&sig=/) },
    },
  });
  const { [agentName]: key = '' } = await host.modules('press-1');
  const message = Buffer.from('signed');
  const signed = await ask(services.sockets(agentUid), 'keyd', `/sign?${v}`, {
    body: {
      keyHandle: identity.body.spec.auth.keyHandle,
      algorithm: 'HMAC-SHA256',
      parameters: { message: message.toString('base64') },
    },
  });
  const expected = createHmac('sha256', Buffer.from(key, 'base64')).update(message).digest('base64');
  expect(signed.body).toEqual({ signature: expected });
});

test('a module that somebody made in the cloud beforehand is made again, and its keys are worth nothing', async () => {
  await host.site.device('press-2', host.gateway);
  const made = await host.site.module('press-2', agentName, host.gateway);
  const device = (await host.site.call('GET', '/devices/press-2')) as {
    authentication: { symmetricKey: { primaryKey: string } };
  };
  await host.services({
    provisioning: {
      source: 'manual',
      hub: host.site.hub.hostname,
      deviceId: 'press-2',
      gatewayHost: 'localhost',
      authentication: { method: 'sas', key: device.authentication.symmetricKey.primaryKey },
    },
    principals: [{ uid: agentUid, name: agentName, idtype: ['module'] }],
  });
  expect((await host.modules('press-2'))[agentName]).not.toBe(made.key);
});

test('without a gateway the hub is asked, and is the gateway host', async () => {
  const device = await host.site.device('press-3');
  const { hostname } = host.site.hub;
  const services = await host.services({
    provisioning: {
      source: 'manual',
      hub: hostname,
      deviceId: 'press-3',
      authentication: { method: 'sas', key: device.key },
    },
    principals: [{ uid: agentUid, name: agentName, idtype: ['module'] }],
  });
  const { body } = await ask(services.sockets(agentUid), 'identityd', `/identities/identity?${v}`);
  expect(body.spec).toMatchObject({ hubName: hostname, gatewayHost: hostname });
});

test('a device with a certificate is told by it, and has a key pair and a certificate id', async () => {
  const root = await selfSigned({ commonName: 'Device CA' });
  const { certificate, chain, privateKey } = await issue(root, { commonName: 'press-x', usages: ['clientAuth'] });
  const primaryThumbprint = new X509Certificate(certificate).fingerprint256.replaceAll(':', '');
  await host.site.x509('selfSigned', 'press-x', host.gateway, { x509Thumbprint: { primaryThumbprint } });
  const services = await host.services({
    provisioning: {
      source: 'manual',
      hub: host.site.hub.hostname,
      deviceId: 'press-x',
      gatewayHost: 'localhost',
      authentication: { method: 'x509', certificate: chain, privateKey },
    },
    principals: [{ uid: agentUid, name: agentName, idtype: ['module'] }],
  });
  expect(await host.modules('press-x')).toHaveProperty(agentName);
  const { body } = await ask(services.sockets(0), 'identityd', `/identities/identity?${v}`);
  expect(body.spec.auth).toEqual({ type: 'x509', keyHandle: expect.any(String), certId: 'device-id' });
  expect((await ask(services.sockets(0), 'certd', `/certificates/device-id?${v}`)).body).toEqual({ pem: chain });
  const module = await ask(services.sockets(agentUid), 'identityd', `/identities/identity?${v}`);
  expect(module.body.spec.auth.type).toBe('sas');
});

test('root gets the device, unless root is a principal for a module', async () => {
  const services = await host.start('press-4');
  const asRoot = await ask(services.sockets(0), 'identityd', `/identities/identity?${v}`);
  expect(asRoot.body.spec).not.toHaveProperty('moduleId');
  expect(asRoot.body.spec).not.toHaveProperty('genId');
  const walkthrough = await host.start('press-5', {
    principals: [{ uid: 0, name: 'mymodule', idtype: ['module'] }],
  });
  const asModule = await ask(walkthrough.sockets(0), 'identityd', `/identities/identity?${v}`);
  expect(asModule.body.spec.moduleId).toBe('mymodule');
});

test('a principal for device and module gets the device', async () => {
  const services = await host.start('press-6', {
    principals: [{ uid: agentUid, name: agentName, idtype: ['device', 'module'] }],
  });
  const { body } = await ask(services.sockets(agentUid), 'identityd', `/identities/identity?${v}`);
  expect(body.spec).not.toHaveProperty('moduleId');
});

test('who is no principal may read the trust bundle, a stub, and nothing else', async () => {
  const services = await host.start('press-7', { users: [agentUid, 77] });
  const stranger = (path: string, sent = {}) => ask(services.sockets(77), 'identityd', path, sent);
  expect((await stranger(`/trust-bundle?${v}`)).body).toEqual({ certificate: '' });
  const refused = { status: 401, body: { message: 'authorization error' } };
  expect(await stranger(`/identities/identity?${v}`)).toMatchObject(refused);
  expect(await stranger(`/identities/device?${v}`, { body: { type: 'aziot' } })).toMatchObject(refused);
  expect(await stranger(`/identities/modules/${agentName}?type=aziot&${v}`)).toMatchObject(refused);
  expect((await stranger('/identities/provisioning?api-version=2021-12-01')).body).toEqual({
    source: 'manual',
    auth: 'sas',
  });
});

test('a host process gets its own module and may not list, create, update, delete or reprovision', async () => {
  const services = await host.start('press-8');
  const call = (path: string, sent = {}) => ask(services.sockets(agentUid), 'identityd', path, sent);
  const own = await call(`/identities/modules/${agentName}?type=aziot&${v}`);
  expect(own.body.spec.moduleId).toBe(agentName);
  const refused = { status: 401, body: { message: 'authorization error' } };
  expect(await call(`/identities/modules/other?type=aziot&${v}`)).toMatchObject(refused);
  expect(await call(`/identities/modules?type=aziot&${v}`)).toMatchObject(refused);
  expect(await call(`/identities/modules?${v}`, { body: { type: 'aziot', moduleId: 'x' } })).toMatchObject(refused);
  expect(await call(`/identities/device/reprovision?${v}`, { method: 'POST' })).toMatchObject(refused);
  const put = { method: 'PUT', body: {} };
  expect(await call(`/identities/modules/${agentName}?type=aziot&${v}`, put)).toMatchObject(refused);
  const del = { method: 'DELETE' };
  expect(await call(`/identities/modules/${agentName}?type=aziot&${v}`, del)).toMatchObject(refused);
});

test('only the first principal without an idtype is a daemon', async () => {
  const services = await host.start('press-9', {
    users: [51, 52],
    principals: [
      { uid: 51, name: 'aziot-edge' },
      { uid: 52, name: 'another' },
    ],
  });
  const list = (uid: number) => ask(services.sockets(uid), 'identityd', `/identities/modules?type=aziot&${v}`);
  expect((await list(51)).body).toEqual({ identities: [] });
  expect((await list(52)).status).toBe(401);
});

test('a daemon makes, lists, updates and deletes modules in the hub', async () => {
  const services = await host.start('press-10', { users: [51], principals: [{ uid: 51, name: 'aziot-edge' }] });
  const call = (path: string, sent = {}) => ask(services.sockets(51), 'identityd', path, sent);
  const made = await call(`/identities/modules?${v}`, { body: { type: 'aziot', moduleId: 'extra' } });
  expect(made.body.spec.auth.type).toBe('sas');
  const listed = await call(`/identities/modules?type=aziot&${v}`);
  expect(listed.body.identities).toEqual([
    { type: 'aziot', spec: expect.not.objectContaining({ auth: expect.anything() }) },
  ]);
  const path = `/identities/modules/extra?type=aziot&${v}`;
  expect(await call(path, { method: 'PUT', body: {} })).toMatchObject({ status: 200 });
  expect(await call(path, { method: 'DELETE' })).toMatchObject({ status: 204, contentType: undefined, text: '' });
  expect(await host.modules('press-10')).toEqual({});
  expect(await call(path)).toMatchObject({
    status: 404,
    body: { message: 'Hub client error\ncaused by: module extra not found' },
  });
  expect(await call(`/identities/modules/extra?${v}`)).toMatchObject({
    status: 400,
    body: { message: 'parameter "type" has an invalid value\ncaused by: missing parameter' },
  });
});

test('what the cloud refuses is a 404 with its words below', async () => {
  const services = await host.start('press-11', { users: [51], principals: [{ uid: 51, name: 'aziot-edge' }] });
  const make = () =>
    ask(services.sockets(51), 'identityd', `/identities/modules?${v}`, { body: { type: 'aziot', moduleId: 'twice' } });
  await make();
  const again = await make();
  expect(again.status).toBe(404);
  expect(again.body.message).toMatch(/^Hub client error\ncaused by: .*ModuleAlreadyExistsOnDevice/);
});

test('while the gateway is offline a module is answered as it was seen last', async () => {
  const services = await host.start('press-12');
  host.gateway.setOnline(false);
  try {
    const { status, body } = await ask(services.sockets(agentUid), 'identityd', `/identities/identity?${v}`);
    expect(status).toBe(200);
    expect(body.spec.moduleId).toBe(agentName);
  } finally {
    host.gateway.setOnline(true);
  }
});

test('starts while there is no way to the hub, has nothing to answer, and makes its modules when there is one', async () => {
  const { key } = await host.site.device('press-19', host.gateway);
  await host.gateway.refreshScope();
  host.gateway.setOnline(false);
  try {
    const services = await host.services({
      provisioning: {
        source: 'manual',
        hub: host.site.hub.hostname,
        deviceId: 'press-19',
        gatewayHost: 'localhost',
        authentication: { method: 'sas', key },
      },
      principals: [{ uid: agentUid, name: agentName, idtype: ['module'] }],
    });
    const get = () => ask(services.sockets(agentUid), 'identityd', `/identities/identity?${v}`);
    expect(await get()).toMatchObject({
      status: 404,
      body: { message: `Hub client error\ncaused by: module ${agentName} not found` },
    });
    host.gateway.setOnline(true);
    await services.reload();
    expect((await get()).status).toBe(200);
  } finally {
    host.gateway.setOnline(true);
  }
});

test('a slow cloud blocks everybody who asks, for as long as it takes', async () => {
  const services = await host.start('press-20', { users: [agentUid, 77] });
  const path = 'getModuleOnBehalfOf';
  host.site.faults.add({ target: 'hub', match: { path }, fault: { delayMs: 400 }, times: 1 });
  const begun = performance.now();
  const slow = ask(services.sockets(agentUid), 'identityd', `/identities/identity?${v}`);
  await expect.poll(() => services.calls().length).toBe(1);
  expect((await ask(services.sockets(77), 'identityd', `/trust-bundle?${v}`)).status).toBe(200);
  expect(performance.now() - begun).toBeGreaterThan(390);
  expect((await slow).status).toBe(200);
});

test('does not start where the hub refuses the device', async () => {
  await host.site.device('press-13', host.gateway);
  const starting = host.services({
    provisioning: {
      source: 'manual',
      hub: host.site.hub.hostname,
      deviceId: 'press-13',
      gatewayHost: 'localhost',
      authentication: { method: 'sas', key: Buffer.alloc(32).toString('base64') },
    },
  });
  await expect(starting).rejects.toThrow(/Hub client error/);
});

test('reprovisioning takes what the configuration says now', async () => {
  const services = await host.start('press-14', { users: [51], principals: [{ uid: 51, name: 'aziot-edge' }] });
  const device = await host.site.device('press-15', host.gateway);
  services.setProvisioning({
    source: 'manual',
    hub: host.site.hub.hostname,
    deviceId: 'press-15',
    gatewayHost: 'localhost',
    authentication: { method: 'sas', key: device.key },
  });
  const socket = services.sockets(51);
  expect((await ask(socket, 'identityd', `/identities/identity?${v}`)).body.spec.deviceId).toBe('press-14');
  const reprovision = { method: 'POST', body: { type: 'aziot' } };
  expect((await ask(socket, 'identityd', `/identities/device/reprovision?${v}`, reprovision)).status).toBe(204);
  expect((await ask(socket, 'identityd', `/identities/identity?${v}`)).body.spec.deviceId).toBe('press-15');
});

test('an unprovisioned device has no identity', async () => {
  const services = await host.services({ provisioning: { source: 'none' } });
  const socket = services.sockets(0);
  expect(await ask(socket, 'identityd', `/identities/identity?${v}`)).toMatchObject({
    status: 400,
    body: { message: 'device identity not found' },
  });
  const { body } = await ask(socket, 'identityd', '/identities/provisioning?api-version=2021-12-01');
  expect(body).toEqual({ source: 'none' });
});

test('an unprovisioned device can have no principals that need the hub', async () => {
  const principals = [{ uid: agentUid, name: agentName, idtype: ['module' as const] }];
  await expect(host.services({ provisioning: { source: 'none' }, principals })).rejects.toThrow(/provisioning/);
});

test('a principal file that appears makes a module, and one that goes takes it away', async () => {
  const folder = host.folder();
  const services = await host.start('press-16', { principals: [], config: { identityd: folder }, debounceMs: 20 });
  expect((await ask(services.sockets(agentUid), 'identityd', `/identities/identity?${v}`)).status).toBe(401);
  const file = join(folder, 'agent.toml');
  writeFileSync(file, `# mine\n[[principal]]\nuid = ${agentUid}\nname = "${agentName}"\nidtype = ["module"]\n`);
  await expect.poll(() => host.modules('press-16'), { timeout: 5_000 }).toHaveProperty(agentName);
  await expect
    .poll(async () => (await ask(services.sockets(agentUid), 'identityd', `/identities/identity?${v}`)).status)
    .toBe(200);
  writeFileSync(file, '');
  await services.reload();
  expect(await host.modules('press-16')).toEqual({});
});

test('refuses a configuration with a name twice, a broken table, or a file that its user may not read', async () => {
  const folder = host.folder();
  const services = await host.start('press-17', { principals: [], config: { identityd: folder } });
  const principal = (uid: number, name: string) =>
    `[[principal]]\nuid = ${uid}\nname = "${name}"\nidtype = ["module"]\n`;
  writeFileSync(join(folder, 'a.toml'), principal(1, 'same'));
  writeFileSync(join(folder, 'b.toml'), principal(2, 'same'));
  await expect(services.reload()).rejects.toThrow('duplicate module name: same');
  writeFileSync(join(folder, 'b.toml'), '[[principal]]\nuid = x\n');
  await expect(services.reload()).rejects.toThrow('b.toml:2');
  writeFileSync(join(folder, 'b.toml'), principal(2, 'other').replace('module"', 'moduel"'));
  await expect(services.reload()).rejects.toThrow('idtype');
  writeFileSync(join(folder, 'b.toml'), principal(2, 'other'));
  await services.reload();
  expect(Object.keys(await host.modules('press-17')).sort()).toEqual(['other', 'same']);
});

test.skipIf(process.getuid?.() !== 0)('cannot read a principal file of root that others may not read', async () => {
  const { chownSync } = await import('node:fs');
  const folder = host.folder();
  chownSync(folder, 4000, 4000);
  const services = await host.start('press-18', { principals: [], config: { identityd: folder } });
  const file = join(folder, 'agent.toml');
  writeFileSync(file, `[[principal]]\nuid = 9\nname = "m"\nidtype = ["module"]\n`);
  chmodSync(file, 0o600);
  await expect(services.reload()).rejects.toThrow(/permission denied for user 4000/);
  chownSync(file, 4000, 4000);
  await services.reload();
  expect(await host.modules('press-18')).toHaveProperty('m');
});
