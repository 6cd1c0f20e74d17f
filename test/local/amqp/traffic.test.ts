import { once } from 'node:events';
import { connect as connectTls } from 'node:tls';
import type { Message, Receiver } from 'rhea';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { type KeyedDevice, newName, Site, until } from '../gateway/site.ts';
import { tokenOf } from './sdk.ts';
import { clientsOf, type Dial, data, next, send, type WireClient } from './wire.ts';

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
    // The grace is over for the first token, however long it took to get here, and not for the second.
    now += 5000 * 1000;
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
