import { createHash, X509Certificate } from 'node:crypto';
import common from 'azure-iot-common';
import iotDevice from 'azure-iot-device';
import iotDeviceMqtt from 'azure-iot-device-mqtt';
import iothub from 'azure-iothub';
import mqtt from 'mqtt';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { issue, type KeyedCertificate, selfSigned } from '../../../local/kit/certificates.ts';
import {
  createDevice,
  createEdge,
  type DeviceAnswer,
  getDevice,
  type HubUnderTest,
  keyIn,
  refusal,
  sasToken,
  startHubUnderTest,
  useAgent,
} from './support.ts';

let under: HubUnderTest;
let deviceCa: KeyedCertificate;
let clients: { close(): Promise<unknown> }[];

beforeEach(async () => {
  deviceCa = await selfSigned({ commonName: 'Device CA' });
  under = await startHubUnderTest({ certificateAuthorities: [deviceCa.certificate] });
  clients = [];
});

afterEach(async () => {
  for (const client of clients) await client.close();
  await under.stop();
});

/**
 * The real device client, straight to the hub. Its connection string has no place for a port, so the hub's MQTT endpoint
 * is given as GatewayHostName; user name and token name the hub all the same.
 */
async function open(device: DeviceAnswer, key = device.authentication.symmetricKey.primaryKey ?? '') {
  const parts = [
    `HostName=${under.hub.hostname}`,
    `DeviceId=${device.deviceId}`,
    `SharedAccessKey=${key}`,
    `GatewayHostName=localhost:${under.hub.mqttPort}`,
  ];
  const client = iotDevice.Client.fromConnectionString(parts.join(';'), iotDeviceMqtt.Mqtt);
  client.setRetryPolicy(new common.NoRetry());
  await client.setOptions({ ca: under.ca.certificate });
  await client.open();
  clients.push(client);
  return client;
}

async function openWithToken(deviceId: string, sharedAccessSignature: string, host = under.hub.hostname) {
  const provider = new iotDevice.SharedAccessSignatureAuthenticationProvider({
    host,
    deviceId,
    gatewayHostName: `localhost:${under.hub.mqttPort}`,
    sharedAccessSignature,
  } as never);
  const client = iotDevice.Client.fromAuthenticationProvider(provider, iotDeviceMqtt.Mqtt);
  client.setRetryPolicy(new common.NoRetry());
  await client.setOptions({ ca: under.ca.certificate });
  await client.open();
  clients.push(client);
  return client;
}

async function openWithCertificate(deviceId: string, own: KeyedCertificate) {
  const provider = new iotDevice.X509AuthenticationProvider({
    host: under.hub.hostname,
    deviceId,
    gatewayHostName: `localhost:${under.hub.mqttPort}`,
  } as never);
  const client = iotDevice.Client.fromAuthenticationProvider(provider, iotDeviceMqtt.Mqtt);
  client.setRetryPolicy(new common.NoRetry());
  await client.setOptions({ cert: own.chain, key: own.privateKey, ca: under.ca.certificate } as never);
  await client.open();
  clients.push(client);
  return client;
}

async function openModule(device: DeviceAnswer, moduleId: string) {
  const { responseBody } = await under.registry.getModule(device.deviceId, moduleId);
  const { authentication } = responseBody as unknown as DeviceAnswer;
  const parts = [
    `HostName=${under.hub.hostname}`,
    `DeviceId=${device.deviceId}`,
    `ModuleId=${moduleId}`,
    `SharedAccessKey=${authentication.symmetricKey.primaryKey}`,
    `GatewayHostName=localhost:${under.hub.mqttPort}`,
  ];
  const client = iotDevice.ModuleClient.fromConnectionString(parts.join(';'), iotDeviceMqtt.Mqtt);
  client.setRetryPolicy(new common.NoRetry());
  await client.setOptions({ ca: under.ca.certificate });
  await client.open();
  clients.push(client);
  return client;
}

const refused = { error: 'UnauthorizedError' };

describe('azure-iot-device over MQTT: connecting', () => {
  it('connects with its primary and with its secondary key, and the registry says so', async () => {
    const device = await createDevice(under.registry, 'pump');
    const first = await open(device);
    await vi.waitFor(async () => {
      expect((await getDevice(under.registry, 'pump')).connectionState).toBe('Connected');
    });
    await first.close();
    await vi.waitFor(async () => {
      expect((await getDevice(under.registry, 'pump')).connectionState).toBe('Disconnected');
    });
    await open(device, device.authentication.symmetricKey.secondaryKey ?? '');
    expect(Date.parse((await getDevice(under.registry, 'pump')).lastActivityTime)).toBeGreaterThan(Date.now() - 10_000);
  });

  it('is refused with the key of another device, when it is disabled and when it is unknown', async () => {
    const device = await createDevice(under.registry, 'pump');
    const other = await createDevice(under.registry, 'other');
    expect(await refusal(open(device, other.authentication.symmetricKey.primaryKey ?? ''))).toMatchObject(refused);
    await under.registry.update({ ...device, status: 'disabled' });
    expect(await refusal(open(device))).toMatchObject(refused);
    expect(await refusal(open({ ...device, deviceId: 'nobody' }))).toMatchObject(refused);
  });

  it('is refused with a token for another audience, an expired one, and a device other than its own', async () => {
    const device = await createDevice(under.registry, 'pump');
    const key = device.authentication.symmetricKey.primaryKey ?? '';
    const { hostname } = under.hub;
    const own = `${hostname}/devices/pump`;
    const bad = [
      sasToken('localhost/devices/pump', key),
      sasToken(`${hostname}/devices/pump/modules/m`, key),
      sasToken(hostname, key),
      sasToken(own, key, { seconds: -1 }),
      sasToken(own, keyIn(under.hub.connectionString)),
      'not a token',
    ];
    for (const token of bad) {
      await expect(
        openWithToken('pump', token, hostname).then(
          () => 'open',
          () => 'refused',
        ),
      ).resolves.toBe('refused');
    }
    await openWithToken('pump', sasToken(encodeURIComponent(own), key));
  });

  it('is refused with a user name that is of another hub, or of another device than its token', async () => {
    const device = await createDevice(under.registry, 'pump');
    const own = `${under.hub.hostname}/devices/pump`;
    const password = sasToken(encodeURIComponent(own), device.authentication.symmetricKey.primaryKey ?? '');
    const connect = async (host: string, clientId: string) => {
      const client = await mqtt.connectAsync(
        `mqtts://localhost:${under.hub.mqttPort}`,
        {
          clientId,
          username: `${host}/${clientId}/?api-version=2021-04-12`,
          password,
          ca: under.ca.certificate,
          protocolVersion: 4,
          reconnectPeriod: 0,
        },
        false,
      );
      await client.endAsync(true);
    };
    await createDevice(under.registry, 'valve');
    await connect(under.hub.hostname, 'pump');
    await expect(connect('other.azure-devices.net', 'pump')).rejects.toMatchObject({ code: 5 });
    await expect(connect(under.hub.hostname, 'valve')).rejects.toMatchObject({ code: 5 });
  });

  it('connects with a token of a policy that has DeviceConnect, and with no other', async () => {
    await createDevice(under.registry, 'pump');
    const resource = `${under.hub.hostname}/devices/pump`;
    const token = (policy: 'device' | 'service') =>
      sasToken(resource, keyIn(under.hub.connectionStringOf(policy)), { policy });
    await openWithToken('pump', token('device'));
    expect(await refusal(openWithToken('pump', token('service')))).toMatchObject(refused);
  });

  it('is disconnected when its token expires', async () => {
    const device = await createDevice(under.registry, 'pump');
    const key = device.authentication.symmetricKey.primaryKey ?? '';
    await openWithToken('pump', sasToken(`${under.hub.hostname}/devices/pump`, key, { seconds: 1 }));
    await vi.waitFor(
      async () => expect((await getDevice(under.registry, 'pump')).connectionState).toBe('Disconnected'),
      { timeout: 8000, interval: 100 },
    );
  });

  it('is disconnected at once when it is disabled or deleted', async () => {
    const device = await createDevice(under.registry, 'pump');
    await open(device);
    await vi.waitFor(async () => {
      expect((await getDevice(under.registry, 'pump')).connectionState).toBe('Connected');
    });
    await under.registry.update({ ...device, status: 'disabled' });
    await vi.waitFor(
      async () => expect((await getDevice(under.registry, 'pump')).connectionState).toBe('Disconnected'),
      { timeout: 1000 },
    );
  });

  it('connects by the thumbprint of its self-signed certificate, SHA-1 or SHA-256, and by no other', async () => {
    const own = await selfSigned({ commonName: 'anything', ca: false, usages: ['clientAuth'] });
    const der = new X509Certificate(own.certificate).raw;
    const sha1 = createHash('sha1').update(der).digest('hex');
    const sha256 = createHash('sha256').update(der).digest('hex').toUpperCase();
    const prints = { primaryThumbprint: 'a'.repeat(40), secondaryThumbprint: sha1 };
    await createDevice(under.registry, 'one', { authentication: { type: 'selfSigned', x509Thumbprint: prints } });
    await createDevice(under.registry, 'two', {
      authentication: { type: 'selfSigned', x509Thumbprint: { primaryThumbprint: sha256 } },
    });
    await openWithCertificate('one', own);
    await openWithCertificate('two', own);
    const other = await selfSigned({ commonName: 'one', ca: false, usages: ['clientAuth'] });
    expect(await refusal(openWithCertificate('one', other))).toMatchObject(refused);
  });

  it('connects by a certificate of a known authority with its id as common name', async () => {
    await createDevice(under.registry, 'pump', { authentication: { type: 'certificateAuthority' } });
    const intermediate = await issue(deviceCa, { commonName: 'Line 4', ca: 0 });
    const options = { commonName: 'pump', usages: ['clientAuth' as const] };
    await openWithCertificate('pump', await issue(intermediate, options));
    const stranger = await selfSigned({ commonName: 'Device CA' });
    const bad = [
      await issue(stranger, options),
      await issue(deviceCa, { ...options, commonName: 'Pump' }),
      await issue(deviceCa, { ...options, notAfter: new Date(Date.now() - 1000) }),
    ];
    for (const own of bad) expect(await refusal(openWithCertificate('pump', own))).toMatchObject(refused);
  });
});

describe('azure-iot-device over MQTT: what a connected device does', () => {
  let device: DeviceAnswer;
  beforeEach(async () => {
    device = await createDevice(under.registry, 'pump');
  });

  it('sends telemetry with its properties', async () => {
    const client = await open(device);
    const message = new iotDevice.Message('{"temperature":21}');
    message.messageId = 'm-1';
    message.contentType = 'application/json';
    message.contentEncoding = 'utf-8';
    message.properties.add('alert', 'yes & no');
    await client.sendEvent(message);
    expect(under.hub.received()).toEqual([
      {
        deviceId: 'pump',
        moduleId: null,
        gatewayId: null,
        enqueuedAt: expect.stringMatching(/^\d{4}-.*Z$/),
        properties: { '$.mid': 'm-1', '$.ct': 'application/json', '$.ce': 'utf-8', alert: 'yes & no' },
        body: Buffer.from('{"temperature":21}').toString('base64'),
      },
    ]);
  });

  it('sends telemetry as a module with the key of the module', async () => {
    await under.registry.addModule({ deviceId: 'pump', moduleId: 'filter' });
    const client = await openModule(device, 'filter');
    await client.sendOutputEvent('alerts', new iotDevice.Message('x'));
    expect(under.hub.received()[0]).toMatchObject({
      deviceId: 'pump',
      moduleId: 'filter',
      properties: { '$.on': 'alerts' },
    });
    expect((await under.registry.getModule('pump', 'filter')).responseBody).toMatchObject({
      connectionState: 'Connected',
    });
  });

  it('reads its twin, reports, and is told of desired properties', async () => {
    await under.registry.updateTwin('pump', { tags: { secret: 1 }, properties: { desired: { speed: 3 } } }, '*');
    const client = await open(device);
    const twin = await client.getTwin();
    expect(twin.properties).toMatchObject({ desired: { speed: 3, $version: 2 }, reported: { $version: 1 } });
    expect(JSON.stringify(twin.properties)).not.toContain('secret');
    await new Promise<void>((resolve, reject) => {
      const patch = { speed: 3, old: null, state: { on: true } };
      twin.properties.reported.update(patch, (error: Error | null) => (error ? reject(error) : resolve()));
    });
    const read = (await under.registry.getTwin('pump')).responseBody;
    expect(read.properties.reported).toMatchObject({ speed: 3, state: { on: true }, $version: 2 });
    const told: object[] = [];
    twin.on('properties.desired', (delta: { $version: number }) => {
      if (delta.$version > 2) told.push(delta);
    });
    // The SDK subscribes in the background, and tells nobody when: patch until it hears.
    await vi.waitFor(
      async () => {
        await under.registry.updateTwin('pump', { properties: { desired: { speed: null, mode: 'eco' } } }, '*');
        expect(told[0]).toEqual({ speed: null, mode: 'eco', $version: expect.any(Number) });
      },
      { timeout: 5000, interval: 100 },
    );
  });

  it('is told why its reported properties are refused', async () => {
    const twin = await (await open(device)).getTwin();
    const update = new Promise((resolve) => {
      twin.properties.reported.update({ 'a.b': 1 }, (error: Error | null) => resolve(error?.message));
    });
    expect(await update).toContain('a.b');
  });

  it('answers direct methods of the service client', async () => {
    const client = await open(device);
    client.onDeviceMethod('reboot', (request, response) => {
      void response.send(202, { echo: request.payload });
    });
    const service = iothub.Client.fromConnectionString(under.hub.connectionStringOf('service'));
    useAgent(service, under.agent);
    const call = {
      methodName: 'reboot',
      payload: { delay: 5 },
      responseTimeoutInSeconds: 5,
      connectTimeoutInSeconds: 5,
    };
    const { result } = await service.invokeDeviceMethod('pump', call);
    expect(result).toEqual({ status: 202, payload: { echo: { delay: 5 } } });
  });

  it('is not online for methods before it listens', async () => {
    await open(device);
    const service = iothub.Client.fromConnectionString(under.hub.connectionStringOf('service'));
    service.setRetryPolicy(new common.NoRetry());
    useAgent(service, under.agent);
    const call = (deviceId: string) => refusal(service.invokeDeviceMethod(deviceId, { methodName: 'reboot' }));
    const offline = await call('pump');
    expect(offline).toMatchObject({ status: 404, code: 'DeviceNotOnline' });
    expect(offline).toMatchObject({ body: expect.stringContaining('404103') });
    expect(await call('nobody')).toMatchObject({ status: 404, code: 'DeviceNotFound' });
  });

  it('makes a method time out with 504', async () => {
    const client = await open(device);
    client.onDeviceMethod('reboot', () => {});
    const service = iothub.Client.fromConnectionString(under.hub.connectionStringOf('service'));
    service.setRetryPolicy(new common.NoRetry());
    useAgent(service, under.agent);
    const call = { methodName: 'reboot', responseTimeoutInSeconds: 5, connectTimeoutInSeconds: 5 };
    expect(await refusal(service.invokeDeviceMethod('pump', call))).toMatchObject({
      error: 'GatewayTimeoutError',
      status: 504,
    });
  });

  it('gets the messages that were sent while it was away, in order, once', async () => {
    for (const body of ['1', '2'])
      under.hub.sendCloudToDevice('pump', { body: Buffer.from(body), properties: { n: body } });
    expect(await getDevice(under.registry, 'pump')).toMatchObject({ cloudToDeviceMessageCount: 2 });
    const client = await open(device);
    const seen: { body: string; id: string; n: string }[] = [];
    client.on(
      'message',
      (message: { getData(): Buffer; messageId: string; properties: { getValue(name: string): string } }) => {
        seen.push({ body: message.getData().toString(), id: message.messageId, n: message.properties.getValue('n') });
      },
    );
    const id = under.hub.sendCloudToDevice('pump', { body: Buffer.from('3'), properties: { n: '3' } });
    await vi.waitFor(() =>
      expect(seen.map(({ body, n }) => [body, n])).toEqual([
        ['1', '1'],
        ['2', '2'],
        ['3', '3'],
      ]),
    );
    expect(seen[2]?.id).toBe(id);
    await vi.waitFor(async () => {
      expect(await getDevice(under.registry, 'pump')).toMatchObject({ cloudToDeviceMessageCount: 0 });
    });
  });

  it('gets a message again that it did not acknowledge', async () => {
    const seen: string[] = [];
    const sink = (isAcknowledged: boolean) => ({
      desired: () => {},
      method: () => Promise.reject(new Error('no methods')),
      cloudToDevice: async (message: { id: string }) => {
        seen.push(message.id);
        return isAcknowledged;
      },
    });
    const identity = { deviceId: 'pump', moduleId: null };
    const id = under.hub.sendCloudToDevice('pump', { body: Buffer.from('x') });
    under.hub.devices.attach(identity, sink(false))();
    await vi.waitFor(() => expect(seen).toEqual([id]));
    expect(await getDevice(under.registry, 'pump')).toMatchObject({ cloudToDeviceMessageCount: 1 });
    under.hub.devices.attach(identity, sink(true));
    await vi.waitFor(async () => {
      expect(await getDevice(under.registry, 'pump')).toMatchObject({ cloudToDeviceMessageCount: 0 });
    });
    expect(seen).toEqual([id, id]);
  });

  it('has at most 50 messages waiting, of at most 64 KB', () => {
    expect(() => under.hub.sendCloudToDevice('pump', { body: Buffer.alloc(65_537) })).toThrow('64 KB');
    for (let count = 0; count < 50; count += 1) under.hub.sendCloudToDevice('pump', {});
    expect(() => under.hub.sendCloudToDevice('pump', {})).toThrow('Queue depth');
    expect(() => under.hub.sendCloudToDevice('nobody', {})).toThrow('not registered');
  });
});

describe('telemetry that a gateway forwards', () => {
  it('arrives with the gateway, also through gateways above it', async () => {
    const top = await createEdge(under.registry, 'top');
    const gateway = await createEdge(under.registry, 'gateway', { parentScopes: [top.deviceScope] });
    await createDevice(under.registry, 'leaf', { deviceScope: gateway.deviceScope });
    const from = { deviceId: 'leaf', moduleId: null };
    await under.hub.devices.telemetry(from, { a: '1' }, Buffer.from('x'), 'gateway');
    await under.hub.devices.telemetry(from, {}, Buffer.from('y'), 'top');
    expect(under.hub.received()).toMatchObject([
      { deviceId: 'leaf', gatewayId: 'gateway', properties: { a: '1' } },
      { gatewayId: 'top' },
    ]);
  });

  it('is refused for a device that is not in its scope, was orphaned, or is disabled', async () => {
    const gateway = await createEdge(under.registry, 'gateway');
    await createEdge(under.registry, 'other');
    const leaf = await createDevice(under.registry, 'leaf', { deviceScope: gateway.deviceScope });
    const send = (via: string) =>
      under.hub.devices.telemetry({ deviceId: 'leaf', moduleId: null }, {}, Buffer.from('x'), via);
    const unauthorized = { status: 401, errorCode: 401003 };
    await expect(send('other')).rejects.toMatchObject(unauthorized);
    await under.registry.update({ ...leaf, status: 'disabled' });
    await expect(send('gateway')).rejects.toMatchObject(unauthorized);
    await under.registry.update({ ...leaf, status: 'enabled' });
    await send('gateway');
    await under.registry.update({ ...gateway, status: 'disabled' });
    await expect(send('gateway')).rejects.toMatchObject(unauthorized);
    await under.registry.update({ ...gateway, status: 'enabled' });
    await send('gateway');
    await under.registry.delete('gateway');
    await createEdge(under.registry, 'gateway');
    await expect(send('gateway')).rejects.toMatchObject(unauthorized);
    expect(under.hub.received()).toHaveLength(2);
  });
});
