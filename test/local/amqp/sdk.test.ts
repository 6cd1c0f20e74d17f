import { X509Certificate } from 'node:crypto';
import iotDevice, { type Message } from 'azure-iot-device';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { selfSigned } from '../../../local/kit/certificates.ts';
import { newName, report, Site, twinOf, until } from '../gateway/site.ts';
import { outcomeOf, type Sdk, sdkOver, type Transport, tokenOf } from './sdk.ts';

let site: Site;
let gateway: Gateway;

beforeAll(async () => {
  site = await Site.open();
  gateway = await site.gateway({ id: 'line-1' });
});
afterEach(() => site.closeClients());
afterAll(() => site.close());

const transports: Transport[] = ['AMQP', 'AMQP over WebSockets', 'MQTT over WebSockets'];

describe.each(transports)('the real device SDK through the gateway by %s', (transport) => {
  /** What the SDK makes of a refusal. Over AMQP it learns of it only when it opens a link. */
  const refused = transport.startsWith('AMQP') ? 'InvalidOperationError' : 'UnauthorizedError';

  async function connect(): Promise<Sdk & { deviceId: string; key: string }> {
    const { deviceId, key } = await site.device(newName(), gateway);
    const sdk = await sdkOver(site, gateway, transport, {
      deviceId,
      sharedAccessSignature: tokenOf(site, deviceId, key),
    });
    await sdk.client.open();
    return { ...sdk, deviceId, key };
  }

  test('sends telemetry with all its properties, which the hub receives with the name of the gateway', async () => {
    const { client, deviceId } = await connect();
    const message: Message = new iotDevice.Message(JSON.stringify({ force: 12 }));
    message.messageId = 'm-1';
    message.correlationId = '5a2b7a9e-9b1c-4c5e-8f5e-1f3c2b1a0d9e';
    message.contentType = 'application/json';
    message.contentEncoding = 'utf-8';
    message.properties.add('line', 'a & b');
    await client.sendEvent(message);
    const [received] = site.hub.received().filter((one) => one.deviceId === deviceId);
    expect(received).toMatchObject({ moduleId: null, gatewayId: 'line-1' });
    expect(received?.properties).toMatchObject({
      '$.mid': 'm-1',
      '$.cid': '5a2b7a9e-9b1c-4c5e-8f5e-1f3c2b1a0d9e',
      '$.ct': 'application/json',
      '$.ce': 'utf-8',
      line: 'a & b',
    });
    expect(site.bodiesFrom(deviceId)).toEqual(['{"force":12}']);
  });

  test('sends many messages, which arrive in their order', async () => {
    const { client, deviceId } = await connect();
    const numbers = Array.from({ length: 50 }, (_, index) => String(index));
    await Promise.all(numbers.map((text) => client.sendEvent(new iotDevice.Message(text))));
    expect(site.bodiesFrom(deviceId)).toEqual(numbers);
  });

  test('reads its twin, reports, and is told what is desired', async () => {
    const { client, deviceId } = await connect();
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
    const { client, deviceId } = await connect();
    await new Promise<void>((resolve) => {
      client.onDeviceMethod('restart', (request, response) => {
        void response.send(201, { restarted: request.payload });
      });
      resolve();
    });
    const call = { methodName: 'restart', payload: 'axis', responseTimeoutInSeconds: 5, connectTimeoutInSeconds: 5 };
    const answer = await site.call('POST', `/twins/${deviceId}/methods`, call);
    expect(answer).toEqual({ status: 201, payload: { restarted: 'axis' } });
  });

  test('receives and completes a cloud-to-device message', async () => {
    const { client, deviceId } = await connect();
    const arrived = new Promise<Message>((resolve) => client.on('message', resolve));
    const properties = { kind: 'hint', '$.ct': 'text/plain' };
    site.hub.sendCloudToDevice(deviceId, { id: 'c-1', properties, body: Buffer.from('slow down') });
    const message = await arrived;
    expect(message.getData().toString()).toBe('slow down');
    expect(message.messageId).toBe('c-1');
    expect(message.properties.getValue('kind')).toBe('hint');
    await client.complete(message);
    const left = () => site.call('GET', `/devices/${deviceId}`) as Promise<{ cloudToDeviceMessageCount: number }>;
    await until('the queue is empty', async () => (await left()).cloudToDeviceMessageCount === 0);
  });

  test('goes on after it has renewed its token', async () => {
    const { client, provider, troubles, deviceId, key } = await connect();
    await client.sendEvent(new iotDevice.Message('before'));
    provider.renew(tokenOf(site, deviceId, key, 7200));
    await client.sendEvent(new iotDevice.Message('after'));
    expect(site.bodiesFrom(deviceId)).toEqual(['before', 'after']);
    expect(troubles).toEqual([]);
  });

  test('is refused with a key that is not its own', async () => {
    const { deviceId } = await site.device(newName(), gateway);
    const stranger = await site.device(newName(), gateway);
    const sharedAccessSignature = tokenOf(site, deviceId, stranger.key);
    expect(await outcomeOf(await sdkOver(site, gateway, transport, { deviceId, sharedAccessSignature }))).toBe(refused);
    expect(site.bodiesFrom(deviceId)).toEqual([]);
  });

  test('is refused while it is disabled, and let in again after', async () => {
    const { deviceId, key } = await site.device(newName(), gateway, { status: 'disabled' });
    const sharedAccessSignature = tokenOf(site, deviceId, key);
    const knock = async () => outcomeOf(await sdkOver(site, gateway, transport, { deviceId, sharedAccessSignature }));
    expect(await knock()).toBe(refused);
    await site.change(deviceId, { status: 'enabled' });
    await gateway.refreshScope();
    expect(await knock()).toBe('sent');
  });

  test('is refused by a gateway that is not its own', async () => {
    const { deviceId, key } = await site.device(newName());
    const sharedAccessSignature = tokenOf(site, deviceId, key);
    expect(await outcomeOf(await sdkOver(site, gateway, transport, { deviceId, sharedAccessSignature }))).toBe(refused);
  });

  test('is refused with a token that ended more than five minutes ago, and not with one that ended just now', async () => {
    const { deviceId, key } = await site.device(newName(), gateway);
    const knock = async (seconds: number) => {
      const sharedAccessSignature = tokenOf(site, deviceId, key, seconds);
      return outcomeOf(await sdkOver(site, gateway, transport, { deviceId, sharedAccessSignature }));
    };
    // Over AMQP already the token is refused, not the link.
    expect(await knock(-302)).toBe('UnauthorizedError');
    expect(await knock(-290)).toBe('sent');
  });

  test('gets in with its certificate, and with no other', async () => {
    const [own, other] = await Promise.all(['own', 'other'].map((commonName) => selfSigned({ commonName, ca: false })));
    if (own === undefined || other === undefined) throw new Error('there is none');
    const primaryThumbprint = new X509Certificate(own.certificate).fingerprint.replaceAll(':', '');
    const deviceId = newName();
    await site.x509('selfSigned', deviceId, gateway, {
      x509Thumbprint: { primaryThumbprint, secondaryThumbprint: primaryThumbprint },
    });
    const knock = async ({ certificate: cert, privateKey: key }: { certificate: string; privateKey: string }) =>
      outcomeOf(await sdkOver(site, gateway, transport, { deviceId, x509: { cert, key } }));
    expect(await knock(own)).toBe('sent');
    expect(site.bodiesFrom(deviceId)).toEqual(['knock']);
    expect(await knock(other)).toBe(refused);
  });

  test('is cut off when it is disabled while it is connected', async () => {
    const { client, deviceId } = await connect();
    await client.sendEvent(new iotDevice.Message('first'));
    expect(gateway.connected()).toContain(deviceId);
    await site.change(deviceId, { status: 'disabled' });
    await gateway.refreshScope();
    await until('it is gone', () => !gateway.connected().includes(deviceId));
  });
});
