import { once } from 'node:events';
import { connect as connectTls } from 'node:tls';
import rhea, { type Message, type Receiver } from 'rhea';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import { selfSigned } from '../../../local/kit/certificates.ts';
import { type KeyedDevice, newName, Site, until } from '../gateway/site.ts';
import { tokenOf } from './sdk.ts';
import { type Dial, data, next, send, WireClient } from './wire.ts';

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

async function dial(options?: Dial, at = gateway): Promise<WireClient> {
  const client = await WireClient.dial(at, options);
  site.closeLater(client);
  return client;
}

/** A client that has shown the token of a new device. */
async function connect(at = gateway): Promise<{ client: WireClient; device: KeyedDevice; path: string }> {
  const device = await site.device(newName(), at);
  const client = await dial({}, at);
  expect(await client.putToken(tokenOf(site, device.deviceId, device.key))).toBe(200);
  return { client, device, path: `/devices/${device.deviceId}` };
}

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

describe('a twin', () => {
  async function twinLinks() {
    const { client, device, path } = await connect();
    const properties = { 'com.microsoft:channel-correlation-id': 'twin:1' };
    const requests = await client.sender(`${path}/twin`, { properties, snd_settle_mode: 1 });
    const answers = await client.receiver(`${path}/twin`, { properties, snd_settle_mode: 1 });
    const ask = async (operation: string, text: string) => {
      const answer = next(answers);
      requests.send(data(text, { correlation_id: 'r-1', message_annotations: { operation } }));
      return answer;
    };
    return { ask, answers, device };
  }
  const statusOf = (message: Message) => message.message_annotations?.status;

  test('answers 200 with what it is, 204 to a patch, and nothing but a status to one that is refused', async () => {
    const { ask, device } = await twinLinks();
    const twin = await ask('GET', ' ');
    expect(statusOf(twin)).toBe(200);
    expect(JSON.parse(twin.body.content.toString())).toMatchObject({
      desired: { $version: 1 },
      reported: { $version: 1 },
    });
    expect(statusOf(await ask('PATCH', '{"mode":"slow"}'))).toBe(204);
    expect(await site.reported(device.deviceId)).toMatchObject({ mode: 'slow' });
    const refused = await ask('PATCH', '[1]');
    expect(statusOf(refused)).toBe(400);
    expect(refused.body.content).toHaveLength(0);
  });

  test('tells what is desired until the device asks it not to', async () => {
    const { ask, answers, device } = await twinLinks();
    const pushed = next(answers);
    await site.patchTwin(device.deviceId, { speed: 1 });
    const patch = await pushed;
    expect(patch.correlation_id).toBeUndefined();
    expect(JSON.parse(patch.body.content.toString())).toMatchObject({ speed: 1 });
    expect(statusOf(await ask('DELETE', ' '))).toBe(200);
    await site.patchTwin(device.deviceId, { speed: 2 });
    expect(statusOf(await ask('PUT', ' '))).toBe(200);
    const again = next(answers);
    await site.patchTwin(device.deviceId, { speed: 3 });
    expect(JSON.parse((await again).body.content.toString())).toMatchObject({ speed: 3 });
  });
});

describe('a cloud-to-device message', () => {
  async function listen(): Promise<{ receiver: Receiver; device: KeyedDevice; client: WireClient; path: string }> {
    const { client, device, path } = await connect();
    const receiver = await client.receiver(`${path}/messages/devicebound`, { autoaccept: false });
    return { receiver, device, client, path };
  }
  const waiting = async ({ deviceId }: KeyedDevice) =>
    ((await site.call('GET', `/devices/${deviceId}`)) as { cloudToDeviceMessageCount: number })
      .cloudToDeviceMessageCount;

  test('that is abandoned comes again, and is gone when it is completed', async () => {
    const { receiver, device } = await listen();
    const counts: unknown[] = [];
    receiver.on('message', ({ message, delivery }) => {
      counts.push(message.message_annotations['iothub-deliverycount']);
      if (counts.length < 3) delivery.release();
      else delivery.accept();
    });
    site.hub.sendCloudToDevice(device.deviceId, { body: Buffer.from('again') });
    await until('it is completed', async () => (await waiting(device)) === 0);
    expect(counts).toEqual([0, 1, 2]);
  });

  test('that is rejected is gone', async () => {
    const { receiver, device } = await listen();
    receiver.once('message', ({ delivery }) => delivery.reject());
    site.hub.sendCloudToDevice(device.deviceId, { body: Buffer.from('no') });
    await until('it is gone', async () => (await waiting(device)) === 0);
  });

  test('that nobody has answered is there again for the next connection', async () => {
    const { receiver, device, client } = await listen();
    const arrived = next(receiver);
    site.hub.sendCloudToDevice(device.deviceId, { id: 'c-1', body: Buffer.from('wait') });
    await arrived;
    await client.close();
    expect(await waiting(device)).toBe(1);
    const second = await dial();
    await second.putToken(tokenOf(site, device.deviceId, device.key));
    const link = await second.receiver(`/devices/${device.deviceId}/messages/devicebound`);
    expect((await next(link)).message_id).toBe('c-1');
  });
});

describe('connections', () => {
  test('of one device are one, over whichever protocol', async () => {
    const { client, device, path } = await connect();
    await client.sender(`${path}/messages/events`);
    const mqtt = await site.stay(gateway, device);
    expect(await client.ended).toBe('none');
    const closed = new Promise<void>((resolve) => mqtt.once('close', () => resolve()));
    const again = await dial();
    await again.putToken(tokenOf(site, device.deviceId, device.key));
    await again.sender(`${path}/messages/events`);
    await closed;
    expect(gateway.connected().filter((id) => id === device.deviceId)).toHaveLength(1);
  });

  test('share their number with MQTT', async () => {
    const small = await site.gateway({ id: 'line-small', maxClients: 1 });
    const first = await site.device(newName(), small);
    await site.stay(small, first);
    const { client, path } = await connect(small);
    await expect(client.sender(`${path}/messages/events`)).rejects.toThrow('amqp:resource-limit-exceeded');
  });

  test('are looked at again: a token that has ended meanwhile closes them, a newer one keeps them', async () => {
    let now = Date.now();
    const watchful = await site.gateway({ id: 'line-watchful', scope: { reauthenticateMs: 50 }, now: () => now });
    const [forgetful, careful] = [await connect(watchful), await connect(watchful)];
    for (const { client, path } of [forgetful, careful]) await client.sender(`${path}/messages/events`);
    expect(await careful.client.putToken(tokenOf(site, careful.device.deviceId, careful.device.key, 9000))).toBe(200);
    now += (3600 + 301) * 1000;
    expect(await forgetful.client.ended).toBe('none');
    expect(watchful.connected()).toEqual([careful.device.deviceId]);
  });

  test('that promise less than five seconds of patience are refused', async () => {
    const client = await dial({ idleMs: 4000 });
    expect(await client.ended).toBe('amqp:internal-error');
  });

  test('that speak something else are closed, and the others stay', async () => {
    const { client, path } = await connect();
    const sender = await client.sender(`${path}/messages/events`);
    for (const text of [
      'GET / HTTP/1.1\r\n\r\n',
      'AMQP\x02\x01\x00\x00',
      'AMQP\x00\x01\x00\x00\x00\x00\x00\x01junkjunk',
    ]) {
      const socket = connectTls({ host: 'localhost', port: gateway.ports.amqp, ca: gateway.root });
      const closed = once(socket, 'close');
      socket.resume().write(text, 'latin1');
      await closed;
    }
    expect(await send(sender, data('unmoved'))).toBe('accepted');
  });

  test('hear that the gateway goes', async () => {
    const passing = await site.gateway({ id: 'line-passing' });
    const { client, path } = await connect(passing);
    await client.sender(`${path}/messages/events`);
    await passing.close();
    expect(await client.ended).toBe('amqp:link:detach-forced');
  });
});

describe('faults', () => {
  const arm = (method: string, fault: object, path?: string) =>
    site.faults.add({ target: 'gateway', match: { method, ...(path && { path }) }, fault, times: 1 });

  test('close a connection with the condition of their status', async () => {
    arm('AMQP OPEN', { status: 429 });
    const client = await dial();
    expect(await client.ended).toBe('com.microsoft:device-container-throttled');
  });

  test('refuse a link, and the next one is let in', async () => {
    const { client, path } = await connect();
    arm('AMQP ATTACH', { status: 404 }, '/events$');
    await expect(client.sender(`${path}/messages/events`)).rejects.toThrow('amqp:not-found');
    await client.sender(`${path}/messages/events`);
  });

  test('reject a message, leave one without an answer, and cut the line after the work is done', async () => {
    const { client, device, path } = await connect();
    const sender = await client.sender(`${path}/messages/events`);
    arm('AMQP TRANSFER', { status: 500 });
    expect(await send(sender, data('rejected'))).toBe('amqp:internal-error');
    arm('AMQP TRANSFER', { hang: true });
    sender.send(data('hangs'));
    arm('AMQP TRANSFER', { cut: 'after' });
    sender.send(data('done'));
    expect(await client.ended).toBe('none');
    expect(site.bodiesFrom(device.deviceId)).toEqual(['done']);
  });

  test('delay a message, and the next one does not overtake it', async () => {
    const { client, device, path } = await connect();
    const sender = await client.sender(`${path}/messages/events`);
    arm('AMQP TRANSFER', { delayMs: 60 });
    sender.send(data('first'));
    sender.send(data('second'));
    await until('both have arrived', () => site.bodiesFrom(device.deviceId).length === 2);
    expect(site.bodiesFrom(device.deviceId)).toEqual(['first', 'second']);
  });

  test('answer a token with their status', async () => {
    const { client, device } = await connect();
    arm('AMQP TRANSFER', { status: 401 }, 'cbs');
    expect(await client.putToken(tokenOf(site, device.deviceId, device.key))).toBe(401);
  });

  test('and calls are counted by what they are', async () => {
    site.faults.resetCalls();
    const { client, path } = await connect();
    await send(await client.sender(`${path}/messages/events`), data('one'));
    expect(site.faults.calls().gateway).toEqual({
      'AMQP OPEN {host}': 1,
      'AMQP ATTACH /$cbs': 2,
      'AMQP TRANSFER /$cbs': 1,
      'AMQP ATTACH /devices/{id}/messages/events': 1,
      'AMQP TRANSFER /devices/{id}/messages/events': 1,
    });
  });
});
