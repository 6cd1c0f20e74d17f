import { EventEmitter } from 'node:events';
import type { ConnectionOptions, PeerCertificate, TLSSocket } from 'node:tls';
import common from 'azure-iot-common';
import device, { type Client, type ModuleClient } from 'azure-iot-device';
import deviceMqtt from 'azure-iot-device-mqtt';
import { expect, onTestFinished, test } from 'vitest';
import { GatewayCertificateProvider, GatewayTokenProvider } from '../../device/src/authentication.ts';
import { connect } from '../../device/src/connect.ts';
import { GatewayDoor } from '../../device/src/gateway-door.ts';
import { GatewayOnlyMqtt } from '../../device/src/gateway-only.ts';
import { joinWithDocument } from '../../device/src/join.ts';
import { issue, selfSigned } from '../../local/kit/certificates.ts';
import {
  type Broker,
  type DocumentParts,
  deviceKey,
  gatewayPki,
  onboardingDocument,
  sasToken,
  startBroker,
  temporaryFolder,
  trustedRoot,
  until,
} from './support.ts';

const pki = await gatewayPki();
const own = await selfSigned({ commonName: 'sensor-1', ca: false, usages: ['clientAuth'] });
const thumbprint = trustedRoot(own.certificate).sha256;
const certificate = { certificate: own.certificate, key: own.privateKey };

/** Closed after the test, whatever it did. */
async function open(options: Parameters<typeof connect>[0]): Promise<Client> {
  const client = await connect(options);
  onTestFinished(() => client.close().then(() => {}));
  return client;
}

const documentFor = (broker: Broker, parts: Partial<DocumentParts> = {}) =>
  onboardingDocument({ roots: [pki.root.certificate], port: broker.port, ...parts });

/** The credential of each kind, for a device of `hub`. */
const kinds = {
  key: () => ({ credential: `SharedAccessKey=${deviceKey}` }),
  sas: (hub: string) => ({ credential: `SharedAccessSignature=${sasToken(hub, 'sensor-1', 600)}` }),
  x509: () => ({ credential: 'x509=true' }),
};

test.each(Object.entries(kinds))(
  'a %s device sends telemetry through its gateway, and the hub never sees a connection',
  async (_kind, credential) => {
    const gateway = await startBroker(pki, { thumbprint });
    const hub = await startBroker(pki, { thumbprint });
    const hubHost = `localhost:${hub.port}`;
    const client = await open({
      document: documentFor(gateway, { hub: hubHost, ...credential(hubHost) }),
      certificate,
    });
    await client.sendEvent(new common.Message('{"t":1}'));
    expect(gateway.messages).toMatchObject([{ deviceId: 'sensor-1', body: '{"t":1}' }]);
    expect(gateway.clients()).toEqual(['sensor-1']);
    expect(hub.connects).toEqual([]);
  },
);

test.each(Object.entries(kinds))(
  'a %s device that loses its gateway reconnects to it and not to the hub',
  async (kind, credential) => {
    const gateway = await startBroker(pki, { thumbprint });
    const hub = await startBroker(pki, { thumbprint });
    const hubHost = `localhost:${hub.port}`;
    const client = await open({
      document: documentFor(gateway, { hub: hubHost, ...credential(hubHost) }),
      certificate,
    });
    gateway.disconnect('sensor-1');
    await client.sendEvent(new common.Message(`{"kind":"${kind}"}`));
    expect(gateway.messages).toHaveLength(1);
    expect(gateway.connects.length).toBeGreaterThanOrEqual(2);
    expect(hub.connects).toEqual([]);
  },
);

test.each(['sas', 'x509'] as const)(
  'the SDK by itself takes a %s string straight to the hub: the tests above would see it',
  async (kind) => {
    const gateway = await startBroker(pki, { thumbprint });
    const hub = await startBroker(pki, { thumbprint });
    const hubHost = `localhost:${hub.port}`;
    const { connectionString } = documentFor(gateway, { hub: hubHost, ...kinds[kind](hubHost) });
    const client = device.Client.fromConnectionString(connectionString, deviceMqtt.Mqtt);
    onTestFinished(() => client.close().then(() => {}));
    const x509 = kind === 'x509' ? { cert: own.certificate, key: own.privateKey } : {};
    await client.setOptions({ ca: pki.root.certificate, ...x509 });
    await client.open();
    expect(gateway.connects).toEqual([]);
    expect(hub.connects).toHaveLength(1);
  },
);

test('whatever the SDK asks for, nothing but the gateway is ever connected to', async () => {
  const asked: string[] = [];
  const mqtt = {
    connect(uri: string) {
      asked.push(uri);
      return new EventEmitter();
    },
  };
  const guard = new GatewayOnlyMqtt(
    mqtt,
    new GatewayDoor({ host: 'gw.example', port: 8883, roots: pki.root.certificate }),
  );
  for (const uri of [
    'mqtts://hub.azure-devices.net',
    'mqtts://gw.example:8884',
    'mqtts://gw.example.evil.net',
    'mqtt://gw.example',
    'wss://gw.example:443/$iothub/websocket',
  ]) {
    const refused = guard.connect(uri, {});
    const [error] = await once(refused, 'error');
    expect(error).toMatchObject({ code: 'peer_not_gateway', exitCode: 13 });
  }
  expect(asked).toEqual([]);
});

test('each connection of the SDK is held to the roots and the name, whatever options it came with', () => {
  let used: ConnectionOptions = {};
  const stream = Object.assign(new EventEmitter(), { getPeerX509Certificate: () => undefined }) as unknown as TLSSocket;
  const mqtt = {
    connect(_uri: string, options: object) {
      used = options;
      return Object.assign(new EventEmitter(), { stream });
    },
  };
  const roots = pki.root.certificate;
  const guard = new GatewayOnlyMqtt(mqtt, new GatewayDoor({ host: 'localhost', port: 8883, roots }));
  const loose = { ca: 'another', rejectUnauthorized: false, checkServerIdentity: () => undefined, keepalive: 7 };
  guard.connect('mqtts://localhost', loose);
  expect(used).toMatchObject({ ca: roots, rejectUnauthorized: true, keepalive: 7 });
  const certificateFor = (name: string) =>
    ({ subject: { CN: name }, subjectaltname: `DNS:${name}` }) as PeerCertificate;
  expect(used.checkServerIdentity?.('evil.example', certificateFor('localhost'))).toBeUndefined();
  expect(used.checkServerIdentity?.('evil.example', certificateFor('evil.example'))).toBeInstanceOf(Error);
});

test('a gateway that comes back with another name is refused on reconnection, before the credential is sent', async () => {
  const gateway = await startBroker(pki);
  const client = await open({ document: documentFor(gateway), sdkRetries: false });
  gateway.setCertificate(await issue(pki.edgeCa, { commonName: 'gw.example', names: ['gw.example'] }));
  const before = gateway.connects.length;
  gateway.disconnect('sensor-1');
  await expect(client.sendEvent(new common.Message('{}'))).rejects.toThrow();
  expect(gateway.connects).toHaveLength(before);
});

test('a token that is renewed is renewed at the gateway, and the client goes on', async () => {
  const gateway = await startBroker(pki);
  const hub = await startBroker(pki);
  const client = await open({ document: documentFor(gateway, { hub: `localhost:${hub.port}` }) });
  const tokenRenewal = { tokenValidTimeInSeconds: 3, tokenRenewalMarginInSeconds: 2 };
  await client.setOptions({ tokenRenewal });
  await until(() => gateway.connects.length >= 3, 'the token was renewed twice');
  expect(new Set(gateway.connects.map(({ password }) => password)).size).toBeGreaterThanOrEqual(2);
  await client.sendEvent(new common.Message('{"after":"renewal"}'));
  expect(gateway.messages).toMatchObject([{ body: '{"after":"renewal"}' }]);
  expect(hub.connects).toEqual([]);
});

function once(emitter: EventEmitter, event: string): Promise<unknown[]> {
  return new Promise((resolve) => emitter.once(event, (...parameters) => resolve(parameters)));
}

test('options that a program sets later cannot loosen the trust: a stranger is refused on reconnection', async () => {
  const gateway = await startBroker(pki);
  const client = await open({ document: documentFor(gateway) });
  const stranger = await gatewayPki();
  await client.setOptions({ ca: stranger.root.certificate });
  gateway.setCertificate(stranger.server);
  const before = gateway.connects.length;
  gateway.disconnect('sensor-1');
  client.setRetryPolicy(new common.NoRetry());
  await expect(client.sendEvent(new common.Message('{}'))).rejects.toThrow();
  expect(gateway.connects).toHaveLength(before);
  expect(gateway.messages).toEqual([]);
});

test('a state folder that join filled is all that connect needs', async () => {
  const gateway = await startBroker(pki);
  const state = temporaryFolder();
  await joinWithDocument({ document: JSON.stringify(documentFor(gateway)), state });
  const client = await open({ state });
  expect((await client.getTwin()).properties.reported.$version).toBe(1);
});

test('a module of the device connects as itself', async () => {
  const gateway = await startBroker(pki);
  const client = await connect<ModuleClient>({ document: documentFor(gateway, { moduleId: 'reader' }) });
  onTestFinished(() => client.close().then(() => {}));
  await client.sendEvent(new common.Message('{}'));
  expect(gateway.messages).toMatchObject([{ deviceId: 'sensor-1', moduleId: 'reader' }]);
});

test('file upload is refused with the reason, and does not go to the hub by HTTPS', async () => {
  const gateway = await startBroker(pki);
  const client = await open({ document: documentFor(gateway) });
  await expect(client.getBlobSharedAccessSignature('x')).rejects.toMatchObject({ code: 'not_supported', exitCode: 14 });
});

test('a credential that the gateway refuses is told apart from the SDK’s other "Not authorized"s', async () => {
  const gateway = await startBroker(pki, { refuse: { refused: 5, reason: 'not in scope' } });
  await expect(connect({ document: documentFor(gateway) })).rejects.toMatchObject({
    code: 'credential_refused',
    exitCode: 9,
    message: expect.stringMatching(/sensor-1.*not linked.*disabled.*key was rolled.*120 s/),
  });
});

test('a wrong key is refused by the gateway', async () => {
  const gateway = await startBroker(pki);
  const credential = `SharedAccessKey=${Buffer.from('another key').toString('base64')}`;
  await expect(connect({ document: documentFor(gateway, { credential }) })).rejects.toMatchObject({
    code: 'credential_refused',
  });
});

test('a certificate that was not registered is refused by the gateway', async () => {
  const gateway = await startBroker(pki, { thumbprint: 'another' });
  const document = documentFor(gateway, { credential: 'x509=true' });
  await expect(connect({ document, certificate })).rejects.toMatchObject({ code: 'credential_refused' });
});

test('an x509 device without its certificate is told what is missing, before anything is sent', async () => {
  const gateway = await startBroker(pki);
  const document = documentFor(gateway, { credential: 'x509=true' });
  await expect(connect({ document })).rejects.toMatchObject({
    code: 'credential_incomplete',
    message: expect.stringMatching(/--cert/),
  });
  expect(gateway.connects).toEqual([]);
});

test('a key that belongs to another certificate is told before anything is sent, and does not end the process', async () => {
  const gateway = await startBroker(pki);
  const document = documentFor(gateway, { credential: 'x509=true' });
  const other = await selfSigned({ commonName: 'sensor-1', ca: false });
  for (const key of [other.privateKey, 'no key at all']) {
    const connecting = connect({ document, certificate: { certificate: own.certificate, key } });
    await expect(connecting).rejects.toMatchObject({
      code: 'credential_incomplete',
      message: expect.stringMatching(/cannot be used together/),
    });
  }
  expect(gateway.connects).toEqual([]);
});

test('a client certificate that has ended is told by its time', async () => {
  const gateway = await startBroker(pki);
  const document = documentFor(gateway, { credential: 'x509=true' });
  const now = () => new Date(Date.now() + 20 * 365 * 86_400_000);
  await expect(connect({ document, certificate, now })).rejects.toMatchObject({
    code: 'credential_expired',
    exitCode: 9,
  });
});

test('a SAS token that has ended is told by its time, before anything is sent', async () => {
  const gateway = await startBroker(pki);
  const credential = `SharedAccessSignature=${sasToken('hub.azure-devices.net', 'sensor-1', -60)}`;
  await expect(connect({ document: documentFor(gateway, { credential }) })).rejects.toMatchObject({
    code: 'credential_expired',
    exitCode: 9,
    message: expect.stringMatching(/expired at 20/),
  });
  expect(gateway.connects).toEqual([]);
});

test('a gateway that is starting is busy, and not a wrong credential', async () => {
  const gateway = await startBroker(pki, { refuse: { refused: 3, reason: 'starting' } });
  await expect(connect({ document: documentFor(gateway) })).rejects.toMatchObject({
    code: 'gateway_busy',
    exitCode: 8,
  });
});

test('a gateway that never answers the CONNECT is given up in time', async () => {
  const gateway = await startBroker(pki);
  gateway.faults.add({ target: 'gateway', match: { method: 'CONNECT' }, fault: { hang: true } });
  await expect(connect({ document: documentFor(gateway), timeoutMs: 300 })).rejects.toMatchObject({
    code: 'gateway_unreachable',
    message: expect.stringMatching(/did not answer the MQTT CONNECT/),
  });
});

test('a gateway that hangs up on the CONNECT is named as refusing', async () => {
  const gateway = await startBroker(pki);
  gateway.faults.add({ target: 'gateway', match: { method: 'CONNECT' }, fault: { cut: 'before' } });
  await expect(connect({ document: documentFor(gateway) })).rejects.toMatchObject({
    code: 'credential_refused',
    message: expect.stringMatching(/closed the connection/),
  });
});

test('a stranger with the right name is refused before the credential is sent', async () => {
  const stranger = await gatewayPki();
  const gateway = await startBroker(stranger);
  await expect(connect({ document: documentFor(gateway) })).rejects.toMatchObject({
    code: 'chain_untrusted',
    exitCode: 5,
  });
  expect(gateway.connects).toEqual([]);
});

test('a document and a state folder together are a mistake', async () => {
  const gateway = await startBroker(pki);
  await expect(connect({ document: documentFor(gateway), state: 'x' })).rejects.toMatchObject({ code: 'usage' });
});

test('our providers answer a callback in the same turn, and a promise without one', async () => {
  const identity = { host: 'hub', deviceId: 'd', gatewayHostName: 'gw:1' };
  const token = new GatewayTokenProvider({ ...identity, sharedAccessSignature: 'first' });
  let answered: unknown;
  token.getDeviceCredentials((_error, credentials) => {
    answered = credentials;
  });
  expect(answered).toMatchObject({ gatewayHostName: 'gw:1', sharedAccessSignature: 'first' });
  const renewed = new Promise((resolve) => token.once('newTokenAvailable', resolve));
  token.renew('second');
  expect(await renewed).toMatchObject({ sharedAccessSignature: 'second' });
  expect(await token.getDeviceCredentials()).toMatchObject({ sharedAccessSignature: 'second' });
  const proof = new GatewayCertificateProvider({ ...identity, x509: { cert: 'c', key: 'k' } });
  expect(await proof.getDeviceCredentials()).toMatchObject({ gatewayHostName: 'gw:1', x509: { cert: 'c' } });
});
