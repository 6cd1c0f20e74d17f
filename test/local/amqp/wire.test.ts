import rhea from 'rhea';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import { selfSigned } from '../../../local/kit/certificates.ts';
import { newName, Site, until } from '../gateway/site.ts';
import { tokenOf } from './sdk.ts';
import { clientsOf, type Dial, data, send } from './wire.ts';

let site: Site;
let gateway: Gateway;

beforeAll(async () => {
  site = await Site.open();
  gateway = await site.gateway({ id: 'line-1' });
});
afterEach(async () => {
  site.faults.clear();
  await site.closeClients();
});
afterAll(() => site.close());

const dial = (options?: Dial, at = gateway) => clientsOf(site).dial(at, options);
const connect = (at = gateway) => clientsOf(site).connect(at);

describe('a token on $cbs', () => {
  test('is answered with 200 before anybody has looked whose it is, and the link is what is refused', async () => {
    const device = await site.device(newName(), gateway);
    const client = await dial();
    const stranger = await site.device(newName(), gateway);
    expect(await client.putToken(tokenOf(site, device.deviceId, stranger.key))).toBe(200);
    const address = `/devices/${device.deviceId}/messages/events`;
    await expect(client.sender(address)).rejects.toThrow('amqp:not-allowed');
    // The connection stands, and the right token opens the same link.
    expect(await client.putToken(tokenOf(site, device.deviceId, device.key))).toBe(200);
    expect(await send(await client.sender(address), data('in'))).toBe('accepted');
  });

  test.each([
    ['has another type', { type: 'jwt' }],
    ['names no audience', { name: '' }],
    ['asks for another operation', { operation: 'delete-token' }],
  ])('is answered with 400 where the request %s', async (_what, more) => {
    const { client, device } = await connect();
    expect(await client.putToken(tokenOf(site, device.deviceId, device.key), more)).toBe(400);
  });

  test('is answered with 400 where it is not one, or is of nobody, or has ended', async () => {
    const { client, device } = await connect();
    expect(await client.putToken('no token')).toBe(400);
    expect(await client.putToken(makeSasToken(site.hub.hostname, device.key, 4_000_000_000))).toBe(400);
    expect(await client.putToken(tokenOf(site, device.deviceId, device.key, -302))).toBe(400);
  });

  test('lets in several devices on one connection, each with its own', async () => {
    const { client, path } = await connect();
    const second = await site.device(newName(), gateway);
    const other = `/devices/${second.deviceId}/messages/events`;
    await expect(client.sender(other)).rejects.toThrow('amqp:not-allowed');
    await client.putToken(tokenOf(site, second.deviceId, second.key));
    expect(await send(await client.sender(other), data('two'))).toBe('accepted');
    expect(await send(await client.sender(`${path}/messages/events`), data('one'))).toBe('accepted');
    expect(gateway.connected()).toEqual(expect.arrayContaining([second.deviceId, path.slice(9)]));
    expect(site.bodiesFrom(second.deviceId)).toEqual(['two']);
  });

  test('of a module lets the module in, also where the key of its device has signed it; the token of a device does not', async () => {
    const { client, device } = await connect();
    await site.module(device.deviceId, 'camera', gateway);
    const address = `/devices/${device.deviceId}/modules/camera/messages/events`;
    await expect(client.sender(address)).rejects.toThrow('amqp:not-allowed');
    const audience = `${site.hub.hostname}/devices/${device.deviceId}/modules/camera`;
    await client.putToken(makeSasToken(audience, device.key, 4_000_000_000));
    expect(await send(await client.sender(address), data('seen'))).toBe('accepted');
    const [received] = site.hub.received().filter((one) => one.deviceId === device.deviceId);
    expect(received).toMatchObject({ moduleId: 'camera', gatewayId: 'line-1' });
  });
});

describe('SASL', () => {
  test.each(['ANONYMOUS', 'MSSBCBS'] as const)(
    '%s is accepted, and says nothing about who it is',
    async (mechanism) => {
      const device = await site.device(newName(), gateway);
      const client = await dial({ mechanism });
      const address = `/devices/${device.deviceId}/messages/events`;
      await expect(client.sender(address)).rejects.toThrow('amqp:not-allowed');
      await client.putToken(tokenOf(site, device.deviceId, device.key));
      expect(await send(await client.sender(address), data('in'))).toBe('accepted');
    },
  );

  test('EXTERNAL is not offered', async () => {
    await expect(dial({ mechanism: 'EXTERNAL' })).rejects.toThrow('amqp:unauthorized-access');
  });

  const [hubName] = ['gatepost'];

  test.each([`@sas.${hubName}`, `@${hubName}`])(
    'PLAIN lets a device in as {device}%s, and to no other links',
    async (suffix) => {
      const device = await site.device(newName(), gateway);
      const password = tokenOf(site, device.deviceId, device.key);
      const client = await dial({ userName: `${device.deviceId}${suffix}`, password });
      expect(await send(await client.sender(`/devices/${device.deviceId}/messages/events`), data('in'))).toBe(
        'accepted',
      );
      const other = await site.device(newName(), gateway);
      await expect(client.sender(`/devices/${other.deviceId}/messages/events`)).rejects.toThrow('amqp:not-allowed');
      await expect(client.sender('$cbs')).rejects.toThrow('amqp:not-allowed');
    },
  );

  test('PLAIN refuses the wrong key, another hub, and the whole name of the hub', async () => {
    const device = await site.device(newName(), gateway);
    const stranger = await site.device(newName(), gateway);
    const password = tokenOf(site, device.deviceId, device.key);
    const wrong = tokenOf(site, device.deviceId, stranger.key);
    await expect(dial({ userName: `${device.deviceId}@sas.${hubName}`, password: wrong })).rejects.toThrow('amqp:');
    await expect(dial({ userName: `${device.deviceId}@sas.gate`, password })).rejects.toThrow('amqp:');
    await expect(dial({ userName: `${device.deviceId}@sas.${site.hub.hostname}`, password })).rejects.toThrow('amqp:');
  });

  test('makes a client certificate forgotten, which without SASL shuts out tokens', async () => {
    const { certificate: cert, privateKey: key } = await selfSigned({ commonName: 'anybody', ca: false });
    const device = await site.device(newName(), gateway);
    const token = tokenOf(site, device.deviceId, device.key);
    const bare = await dial({ certificate: { cert, key } });
    await expect(bare.sender('$cbs')).rejects.toThrow('amqp:not-allowed');
    const anonymous = await dial({ certificate: { cert, key }, mechanism: 'ANONYMOUS' });
    expect(await anonymous.putToken(token)).toBe(200);
    expect(await send(await anonymous.sender(`/devices/${device.deviceId}/messages/events`), data('in'))).toBe(
      'accepted',
    );
  });
});

describe('links', () => {
  test.each(['/devices/{id}/messages/everything', '/devices/{id}', '/$management', ''])(
    'to %s are refused',
    async (template) => {
      const { client, device } = await connect();
      const address = template.replace('{id}', device.deviceId);
      await expect(client.sender(address)).rejects.toThrow('amqp:not-allowed');
    },
  );

  test('announce a largest message of 1 MiB, and names no matter their case', async () => {
    const { client, path } = await connect();
    const sender = await client.sender(`amqps://localhost${path}/Messages/EVENTS`);
    expect(sender.max_message_size).toBe(1_048_576);
  });

  test('take 262,144 bytes, properties included, and reject one more', async () => {
    const { client, device, path } = await connect();
    const sender = await client.sender(`${path}/messages/events`);
    const properties = { application_properties: { ab: 'cd' } };
    const body = (bytes: number) => data(Buffer.alloc(bytes, 'a'), properties);
    expect(await send(sender, body(262_140))).toBe('accepted');
    expect(await send(sender, body(262_141))).toBe('amqp:link:message-size-exceeded');
    expect(await send(sender, body(700_000))).toBe('amqp:not-allowed');
    expect(site.bodiesFrom(device.deviceId)).toHaveLength(1);
    expect(await send(sender, body(1_200_000))).toBe('closed: amqp:link:message-size-exceeded');
  });

  test('take more messages than they give credit for at once', async () => {
    const { client, device, path } = await connect();
    const sender = await client.sender(`${path}/messages/events`);
    for (let index = 0; index < 1500; index += 1) sender.send(data(String(index)));
    await until('all have arrived', () => site.bodiesFrom(device.deviceId).length === 1500);
    expect(site.bodiesFrom(device.deviceId).at(-1)).toBe('1499');
  });

  test('reject a body that is no data, and go on', async () => {
    const { client, device, path } = await connect();
    const sender = await client.sender(`${path}/messages/events`);
    expect(await send(sender, { body: 'a value' })).toBe('amqp:internal-error');
    expect(await send(sender, data('a section'))).toBe('accepted');
    expect(site.bodiesFrom(device.deviceId)).toEqual(['a section']);
  });

  test('take a batch apart', async () => {
    const { client, device, path } = await connect();
    const sender = await client.sender(`${path}/messages/events`);
    const parts = ['one', 'two'].map((text) => rhea.message.encode(data(text, { message_id: text })));
    const batch = rhea.message.encode({ body: rhea.message.data_sections(parts) });
    expect(await send(sender, batch, 0x80013700)).toBe('accepted');
    expect(site.bodiesFrom(device.deviceId)).toEqual(['one', 'two']);
    const ids = site.hub
      .received()
      .filter((one) => one.deviceId === device.deviceId)
      .map((one) => one.properties['$.mid']);
    expect(ids).toEqual(['one', 'two']);
  });

  test('carry system properties under the names that they have over MQTT', async () => {
    const { client, device, path } = await connect();
    const sender = await client.sender(`${path}/messages/events`);
    const message = data('{}', {
      message_id: 'm-1',
      correlation_id: 'c-1',
      absolute_expiry_time: new Date('2027-01-02T03:04:05Z'),
      message_annotations: { 'iothub-interface-id': 'urn:x', 'dt-subject': 'pump' },
      application_properties: {
        'iothub-creation-time-utc': '2026-01-01',
        'iothub-message-schema': 'v1',
        __proto__: undefined,
        number: 7,
        own: 'text',
      },
    });
    expect(await send(sender, message)).toBe('accepted');
    const [received] = site.hub.received().filter((one) => one.deviceId === device.deviceId);
    expect(received?.properties).toEqual({
      '$.mid': 'm-1',
      '$.cid': 'c-1',
      '$.exp': '2027-01-02T03:04:05.000Z',
      '$.ifid': 'urn:x',
      '$.sub': 'pump',
      '$.ctime': '2026-01-01',
      '$.schema': 'v1',
      number: '',
      own: 'text',
    });
  });

  test('of the same kind are one at a time: the later one counts', async () => {
    const { client, path } = await connect();
    const first = await client.sender(`${path}/messages/events`);
    const closed = new Promise<void>((resolve) => first.once('sender_close', () => resolve()));
    const second = await client.sender(`${path}/messages/events`);
    await closed;
    expect(await send(second, data('still here'))).toBe('accepted');
  });

  test('of a twin belong together by their correlation id', async () => {
    const { client, path } = await connect();
    const named = (id: string) => ({ properties: { 'com.microsoft:channel-correlation-id': `twin:${id}` } });
    const answers = await client.receiver(`${path}/twin`, named('a'));
    const closed = new Promise<void>((resolve) => answers.once('receiver_close', () => resolve()));
    await client.sender(`${path}/twin`, named('b'));
    await closed;
  });

  test('are what keeps a connection: without one it is closed', async () => {
    const { client, device, path } = await connect();
    const sender = await client.sender(`${path}/messages/events`);
    expect(gateway.connected()).toContain(device.deviceId);
    sender.close();
    expect(await client.ended).toBe('none');
    expect(gateway.connected()).not.toContain(device.deviceId);
  });
});
