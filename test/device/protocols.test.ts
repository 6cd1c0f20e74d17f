import common from 'azure-iot-common';
import type { Client } from 'azure-iot-device';
import { expect, onTestFinished, test } from 'vitest';
import { connect } from '../../device/src/connect.ts';
import { GatewayDoor } from '../../device/src/gateway-door.ts';
import { type AmqpBase, holdToGateway } from '../../device/src/gateway-only.ts';
import { type Protocol, parseProtocol } from '../../device/src/protocol.ts';
import { issue, selfSigned } from '../../local/kit/certificates.ts';
import { type Peer, type PeerProtocol, startPeer } from './peers.ts';
import {
  type DocumentParts,
  deviceKey,
  gatewayPki,
  onboardingDocument,
  sasToken,
  startBroker,
  trustedRoot,
  until,
} from './support.ts';

const pki = await gatewayPki();
const own = await selfSigned({ commonName: 'sensor-1', ca: false, usages: ['clientAuth'] });
const thumbprint = trustedRoot(own.certificate).sha256;
const certificate = { certificate: own.certificate, key: own.privateKey };
const others: PeerProtocol[] = ['mqtt-ws', 'amqp', 'amqp-ws'];

const credentials = {
  key: () => `SharedAccessKey=${deviceKey}`,
  sas: (hub: string) => `SharedAccessSignature=${sasToken(hub, 'sensor-1', 600)}`,
  x509: () => 'x509=true',
};

/** A document that names the peer's port where the protocol has its own. MQTT would end nowhere. */
function documentFor(protocol: Protocol, port: number, parts: Partial<DocumentParts> = {}) {
  const document = onboardingDocument({ roots: [pki.root.certificate], port: 1, ...parts });
  document.gateway.ports = protocol === 'amqp' ? { amqp: port } : { websocket: port };
  return document;
}

async function open(options: Parameters<typeof connect>[0]): Promise<Client> {
  const client = await connect(options);
  onTestFinished(() => client.close().then(() => {}));
  return client;
}

const cases = others.flatMap((protocol) =>
  (['key', 'sas', 'x509'] as const).map((kind): [PeerProtocol, keyof typeof credentials] => [protocol, kind]),
);

test.each(cases)(
  'over %s, a device with a credential of kind %s reaches its gateway, again after a loss, and never the hub',
  async (protocol, kind) => {
    const gateway = await startPeer(protocol, pki, { thumbprint });
    const hub = await startBroker(pki, { thumbprint });
    const host = `localhost:${hub.port}`;
    const document = documentFor(protocol, gateway.port, { hub: host, credential: credentials[kind](host) });
    const client = await open({ document, certificate, protocol });
    await client.sendEvent(new common.Message('{"n":1}'));
    expect(gateway.messages).toEqual([{ deviceId: 'sensor-1', body: '{"n":1}' }]);
    const before = gateway.connections;
    gateway.cut();
    await until(() => gateway.connections === before, 'it was cut');
    await client.sendEvent(new common.Message('{"n":2}'));
    expect(gateway.messages.at(-1)).toEqual({ deviceId: 'sensor-1', body: '{"n":2}' });
    expect(gateway.connections).toBeGreaterThan(before);
    expect(hub.connects).toEqual([]);
  },
);

test.each(others)('over %s, a stranger with the right name is shown no credential', async (protocol) => {
  const gateway = await startPeer(protocol, await gatewayPki(), { thumbprint });
  await expect(connect({ document: documentFor(protocol, gateway.port), protocol })).rejects.toMatchObject({
    code: 'chain_untrusted',
  });
  expect(gateway.credentials).toEqual([]);
});

test.each(others)(
  'over %s, a gateway that comes back as somebody else is shown no credential on reconnection',
  async (protocol) => {
    const gateway = await startPeer(protocol, pki, { thumbprint });
    const client = await open({ document: documentFor(protocol, gateway.port), protocol, sdkRetries: false });
    const shown = gateway.credentials.length;
    gateway.setCertificate(await issue(pki.edgeCa, { commonName: 'gw.example', names: ['gw.example'] }));
    gateway.cut();
    // Whatever a program sets later: neither roots nor agents lead elsewhere.
    const stranger = await gatewayPki();
    await client.setOptions({ ca: stranger.root.certificate });
    await expect(client.sendEvent(new common.Message('{}'))).rejects.toThrow();
    expect(gateway.credentials).toHaveLength(shown);
    expect(gateway.messages).toEqual([]);
  },
);

test.each(others)('over %s, a wrong key is told as a refused credential', async (protocol) => {
  const gateway = await startPeer(protocol, pki);
  const credential = `SharedAccessKey=${Buffer.from('another key').toString('base64')}`;
  await expect(
    connect({ document: documentFor(protocol, gateway.port, { credential }), protocol }),
  ).rejects.toMatchObject({
    code: 'credential_refused',
    exitCode: 9,
    message: expect.stringMatching(/does not accept sensor-1/),
  });
});

test.each(['mqtt-ws', 'amqp-ws'] as const)(
  'over %s, a server that opens no WebSocket there is told as such',
  async (protocol) => {
    // It speaks the other of the two, and refuses this one.
    const gateway = await startPeer(protocol === 'mqtt-ws' ? 'amqp-ws' : 'mqtt-ws', pki);
    await expect(connect({ document: documentFor(protocol, gateway.port), protocol })).rejects.toMatchObject({
      name: 'GatepostDeviceError',
      exitCode: expect.toSatisfy((code: number) => [8, 9].includes(code)),
    });
    expect(gateway.credentials).toEqual([]);
  },
);

test.each(['amqp', 'mqtt-ws', 'amqp-ws'] as const)(
  'a document whose ports say that %s is not served is refused with the reason',
  async (protocol) => {
    const document = onboardingDocument({ roots: [pki.root.certificate], port: 1 });
    document.gateway.ports = { mqtt: 8883, amqp: null, websocket: null };
    await expect(connect({ document, protocol })).rejects.toMatchObject({
      code: 'not_supported',
      message: expect.stringMatching(/gateway-1 does not serve .* It serves mqtt\./),
    });
  },
);

test('HTTP is refused with the reason, and a protocol that nobody knows as a mistake', () => {
  expect(() => parseProtocol('http')).toThrowError(
    expect.objectContaining({ code: 'not_supported', message: expect.stringMatching(/no HTTP route for telemetry/) }),
  );
  expect(() => parseProtocol('coap')).toThrowError(expect.objectContaining({ code: 'usage' }));
  expect(parseProtocol('amqp-ws')).toBe('amqp-ws');
});

test.each([
  ['amqp', 'amqps://hub.azure-devices.net'],
  ['amqp', 'amqps://gw.example:5672'],
  ['amqp-ws', 'wss://hub.azure-devices.net:443/$iothub/websocket'],
  ['amqp-ws', 'amqps://gw.example'],
] as const)('asked over %s for %s, nothing is connected to', async (protocol, uri) => {
  let asked = 0;
  const base = { connect: () => (asked += 1) } as unknown as AmqpBase;
  const door = new GatewayDoor({ host: 'gw.example', port: 5671, roots: pki.root.certificate, protocol });
  holdToGateway(base, door, { own: undefined, idleMs: 1000 });
  const error = await new Promise((resolve) => base.connect({ uri }, resolve));
  expect(error).toMatchObject({ code: 'peer_not_gateway' });
  expect(asked).toBe(0);
});

test('a message that the gateway rejects over AMQP is an error of that message, and the connection stays', async () => {
  const gateway: Peer = await startPeer('amqp', pki);
  const client = await open({ document: documentFor('amqp', gateway.port), protocol: 'amqp', sdkRetries: false });
  const before = gateway.connections;
  gateway.reject = 'amqp:link:message-size-exceeded';
  await expect(client.sendEvent(new common.Message('{}'))).rejects.toMatchObject({ name: 'MessageTooLargeError' });
  gateway.reject = undefined;
  await client.sendEvent(new common.Message('{}'));
  expect(gateway.connections).toBe(before);
});
