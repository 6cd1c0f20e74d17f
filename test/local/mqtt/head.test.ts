import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { developmentCa, issue, selfSigned } from '../../../local/kit/certificates.ts';
import { DeviceError } from '../../../local/mqtt/identity.ts';
import { closed, type HeadUnderTest, nextMessage, startHead } from './support.ts';

let under: HeadUnderTest;

beforeEach(async () => {
  under = await startHead();
});

afterEach(() => under.stop());

describe('CONNECT', () => {
  it('is refused with code 4 where the user name does not read as one', async () => {
    const refused = under.connect('pump', { username: 'pump' });
    await expect(refused).rejects.toMatchObject({ code: 4 });
  });

  it('is refused with code 4 where the user name has no api-version', async () => {
    await expect(under.connect('pump', { username: 'hub/pump/?model-id=x' })).rejects.toMatchObject({ code: 4 });
  });

  it('is refused with code 5 where the password is wrong', async () => {
    await expect(under.connect('pump', { password: 'wrong' })).rejects.toMatchObject({ code: 5 });
  });

  it('is refused with code 2 where the client id is another than that of the identity, also in its case', async () => {
    const username = 'hub/pump/?api-version=2021-04-12';
    await expect(under.connect('Pump', { username })).rejects.toMatchObject({ code: 2 });
  });

  it('is refused with code 1 for MQTT 3.1', async () => {
    const old = under.connect('pump', { protocolId: 'MQIsdp', protocolVersion: 3 });
    await expect(old).rejects.toMatchObject({ code: 1 });
  });

  it('is refused with code 3 above the number of clients, unless the client is connected already', async () => {
    const full = await startHead({ maxClients: 2 });
    try {
      const first = await full.connect('a');
      await full.connect('b');
      await expect(full.connect('c')).rejects.toMatchObject({ code: 3 });
      await full.connect('a');
      await closed(first);
      expect(full.head.clients().sort()).toEqual(['a', 'b']);
    } finally {
      await full.stop();
    }
  });

  it('is refused with code 3 where the authentication itself fails', async () => {
    const broken = await startHead({ authenticate: () => Promise.reject(new Error('the hub is away')) });
    try {
      await expect(broken.connect('pump')).rejects.toMatchObject({ code: 3 });
    } finally {
      await broken.stop();
    }
  });

  it('of the same client id takes over: the first connection is closed, the second works', async () => {
    const first = await under.connect('pump');
    const second = await under.connect('pump');
    await closed(first);
    await second.publishAsync('devices/pump/messages/events/', 'x', { qos: 1 });
    expect(under.backend.telemetrySeen).toHaveLength(1);
    expect(under.head.clients()).toEqual(['pump']);
    expect(under.backend.comings).toEqual(['pump comes', 'pump goes', 'pump comes']);
  });

  it('asks for a client certificate and hands it to the authentication', async () => {
    const seen: string[] = [];
    const asking = await startHead({
      authenticate: async (connect) => {
        seen.push(...connect.certificates.map((certificate) => certificate.subject));
        return { ok: { deviceId: 'pump', moduleId: null } };
      },
    });
    try {
      const mine = await selfSigned({ commonName: 'pump', ca: false, usages: ['clientAuth'] });
      await asking.connect('pump', { cert: mine.certificate, key: mine.privateKey });
      expect(seen).toEqual(['CN=pump']);
    } finally {
      await asking.stop();
    }
  });
});

describe('a connected device', () => {
  it('sends telemetry whose properties are decoded', async () => {
    const client = await under.connect('pump');
    const topic = 'devices/pump/messages/events/%24.mid=m%201&%24.ct=application%2Fjson&alert=a%3Db%26c&empty';
    await client.publishAsync(topic, '{"t":1}', { qos: 1 });
    expect(under.backend.telemetrySeen).toEqual([
      {
        from: { deviceId: 'pump', moduleId: null },
        properties: { '$.mid': 'm 1', '$.ct': 'application/json', alert: 'a=b&c', empty: '' },
        body: '{"t":1}',
      },
    ]);
  });

  it('sends as a module below its device', async () => {
    const client = await under.connect('pump/filter');
    await client.publishAsync('devices/pump/modules/filter/messages/events/?a=1', 'x', { qos: 1 });
    expect(under.backend.telemetrySeen[0]).toMatchObject({
      from: { deviceId: 'pump', moduleId: 'filter' },
      properties: { a: '1' },
    });
  });

  it('keeps the order of its messages', async () => {
    const client = await under.connect('pump');
    const bodies = Array.from({ length: 50 }, (_, index) => String(index));
    await Promise.all(bodies.map((body) => client.publishAsync('devices/pump/messages/events/', body, { qos: 1 })));
    expect(under.backend.telemetrySeen.map((message) => message.body)).toEqual(bodies);
  });

  it.each([
    ['telemetry of another device', 'devices/other/messages/events/'],
    ['telemetry of its own module', 'devices/pump/modules/filter/messages/events/'],
    ['what only the hub sends', 'devices/pump/messages/devicebound/'],
    ['a method call', '$iothub/methods/POST/reboot/?$rid=1'],
    ['a topic of its own invention', 'weather'],
    ['properties with a broken escape', 'devices/pump/messages/events/a=%zz'],
  ])('is disconnected without PUBACK when it publishes %s', async (_what, topic) => {
    const client = await under.connect('pump');
    const acknowledged = vi.fn();
    client.publish(topic, 'x', { qos: 1 }, (error) => !error && acknowledged());
    await closed(client);
    expect(acknowledged).not.toHaveBeenCalled();
    expect(under.backend.telemetrySeen).toEqual([]);
  });

  it('is disconnected when it publishes with QoS 2', async () => {
    const client = await under.connect('pump');
    client.publish('devices/pump/messages/events/', 'x', { qos: 2 });
    await closed(client);
  });

  it('may send 256 KiB and is disconnected for one byte more', async () => {
    const client = await under.connect('pump');
    await client.publishAsync('devices/pump/messages/events/', Buffer.alloc(262_144), { qos: 1 });
    client.publish('devices/pump/messages/events/', Buffer.alloc(262_145), { qos: 1 });
    await closed(client);
    expect(under.backend.telemetrySeen).toHaveLength(1);
  });

  it('is disconnected without PUBACK where the backend fails', async () => {
    const client = await under.connect('pump');
    under.backend.refuse = new Error('the hub is away');
    const acknowledged = vi.fn();
    client.publish('devices/pump/messages/events/', 'x', { qos: 1 }, (error) => !error && acknowledged());
    await closed(client);
    expect(acknowledged).not.toHaveBeenCalled();
  });

  it.each([
    'devices/other/messages/devicebound/#',
    'devices/+/messages/devicebound/#',
    'devices/pump/messages/events/#',
    '#',
    '$SYS/#',
  ])('is refused the subscription %s', async (filter) => {
    const client = await under.connect('pump');
    await expect(client.subscribeAsync(filter)).rejects.toThrow('Unspecified error');
  });

  it('reads its twin', async () => {
    const client = await under.connect('pump');
    await client.subscribeAsync('$iothub/twin/res/#');
    const answer = nextMessage(client, '$iothub/twin/res/');
    client.publish('$iothub/twin/GET/?$rid=7a', ' ');
    expect(await answer).toEqual({
      topic: '$iothub/twin/res/200/?$rid=7a',
      body: '{"desired":{"colour":"green","$version":3},"reported":{"$version":1}}',
    });
  });

  it('reports properties and is told their new version', async () => {
    const client = await under.connect('pump');
    await client.subscribeAsync('$iothub/twin/res/#');
    const answer = nextMessage(client, '$iothub/twin/res/');
    client.publish('$iothub/twin/PATCH/properties/reported/?$rid=8', '{"speed":2}');
    expect(await answer).toEqual({ topic: '$iothub/twin/res/204/?$rid=8&$version=2', body: '' });
    expect(under.backend.patches).toEqual([{ speed: 2 }]);
  });

  it('is told with an errorCode that its reported properties are no object', async () => {
    const client = await under.connect('pump');
    await client.subscribeAsync('$iothub/twin/res/#');
    const answer = nextMessage(client, '$iothub/twin/res/400/?$rid=9');
    client.publish('$iothub/twin/PATCH/properties/reported/?$rid=9', '[1]');
    expect(JSON.parse((await answer).body)).toMatchObject({ errorCode: 400004 });
  });

  it('is told with an errorCode what the backend refuses', async () => {
    const client = await under.connect('pump');
    await client.subscribeAsync('$iothub/twin/res/#');
    under.backend.refuse = new DeviceError(429, 429001, 'slow down');
    const answer = nextMessage(client, '$iothub/twin/res/429/?$rid=1');
    client.publish('$iothub/twin/GET/?$rid=1', ' ');
    expect(JSON.parse((await answer).body)).toMatchObject({ errorCode: 429001, message: 'slow down' });
  });

  it('gets desired properties once it has asked for them, and nothing before', async () => {
    const client = await under.connect('pump');
    const seen: string[] = [];
    client.on('message', (topic) => seen.push(topic));
    under.backend.sink('pump').desired({ colour: 'red', $version: 4 });
    await client.subscribeAsync('$iothub/twin/PATCH/properties/desired/#');
    const pushed = nextMessage(client, '$iothub/twin/PATCH/properties/desired/');
    under.backend.sink('pump').desired({ colour: 'blue', $version: 5 });
    expect(await pushed).toEqual({
      topic: '$iothub/twin/PATCH/properties/desired/?$version=5',
      body: '{"colour":"blue","$version":5}',
    });
    expect(seen).toHaveLength(1);
  });

  it('answers a direct method', async () => {
    const client = await under.connect('pump');
    await client.subscribeAsync('$iothub/methods/POST/#');
    client.on('message', (topic, payload) => {
      const requestId = topic.split('$rid=')[1];
      client.publish(`$iothub/methods/res/207/?$rid=${requestId}`, `{"echo":${payload}}`);
    });
    const answer = await under.backend.sink('pump').method('reboot', { delay: 5 }, 5000);
    expect(answer).toEqual({ status: 207, payload: { echo: { delay: 5 } } });
  });

  it('is not online for methods where it has not subscribed to them', async () => {
    await under.connect('pump');
    const called = under.backend.sink('pump').method('reboot', {}, 5000);
    await expect(called).rejects.toMatchObject({ status: 404, errorCode: 404103 });
  });

  it('makes a method time out when it does not answer', async () => {
    const client = await under.connect('pump');
    await client.subscribeAsync('$iothub/methods/POST/#');
    const called = under.backend.sink('pump').method('reboot', {}, 50);
    await expect(called).rejects.toMatchObject({ status: 504, errorCode: 504101 });
  });

  it('gets a cloud-to-device message when it subscribes, and acknowledges it', async () => {
    const client = await under.connect('pump');
    const sent = under.backend
      .sink('pump')
      .cloudToDevice({ id: 'm/1', properties: { 'a b': 'c&d' }, body: Buffer.from('hello') });
    const got = nextMessage(client, 'devices/pump/messages/devicebound/');
    await client.subscribeAsync('devices/pump/messages/devicebound/#', { qos: 1 });
    expect(await got).toEqual({
      topic:
        'devices/pump/messages/devicebound/%24.mid=m%2F1&%24.to=%2Fdevices%2Fpump%2Fmessages%2Fdevicebound&a%20b=c%26d',
      body: 'hello',
    });
    expect(await sent).toBe(true);
  });

  it('leaves a cloud-to-device message undelivered when it goes before it subscribed', async () => {
    const client = await under.connect('pump');
    const sent = under.backend.sink('pump').cloudToDevice({ id: 'm', properties: {}, body: Buffer.from('x') });
    client.end(true);
    expect(await sent).toBe(false);
  });

  it('keeps its subscriptions over a reconnection with clean=false, and loses them with clean=true', async () => {
    const first = await under.connect('pump', { clean: false });
    await first.subscribeAsync('devices/pump/messages/devicebound/#', { qos: 1 });
    await first.endAsync();
    const second = await under.connect('pump', { clean: false });
    const got = nextMessage(second, 'devices/pump/messages/devicebound/');
    const message = { id: 'm', properties: {}, body: Buffer.from('x') };
    expect(await under.backend.sink('pump').cloudToDevice(message)).toBe(true);
    await got;
    await second.endAsync();
    const third = await under.connect('pump', { clean: true });
    const kept = under.backend.sink('pump').cloudToDevice(message);
    await third.endAsync();
    expect(await kept).toBe(false);
  });

  it('is not sent twice by the broker what it did not acknowledge', async () => {
    const first = await under.connect('pump', { clean: false });
    await first.subscribeAsync('devices/pump/messages/devicebound/#', { qos: 1 });
    first.handleMessage = () => first.stream.destroy();
    const lost = under.backend.sink('pump').cloudToDevice({ id: 'm', properties: {}, body: Buffer.from('x') });
    expect(await lost).toBe(false);
    const seen = vi.fn();
    const second = await under.connect('pump', { clean: false });
    second.on('message', seen);
    const message = { id: 'n', properties: {}, body: Buffer.from('again') };
    expect(await under.backend.sink('pump').cloudToDevice(message)).toBe(true);
    expect(seen).toHaveBeenCalledTimes(1);
  });

  it('has its will delivered as telemetry when its connection breaks', async () => {
    const will = { topic: 'devices/pump/messages/events/why=gone', payload: Buffer.from('bye'), qos: 1 as const };
    const client = await under.connect('pump', { will });
    client.stream.destroy();
    await vi.waitFor(() => expect(under.backend.telemetrySeen).toHaveLength(1));
    expect(under.backend.telemetrySeen[0]?.properties).toEqual({ why: 'gone', 'iothub-MessageType': 'Will' });
  });

  it('is detached and unlisted when it goes, and can be cut off', async () => {
    const client = await under.connect('pump');
    expect(under.head.clients()).toEqual(['pump']);
    under.head.disconnect('pump');
    await closed(client);
    expect(under.head.clients()).toEqual([]);
    expect(under.backend.attached.size).toBe(0);
  });
});

describe('the server certificate', () => {
  it('is replaced for new connections, and those that stand stay', async () => {
    const first = await under.connect('pump');
    const other = await developmentCa(undefined);
    const server = await issue(other, { commonName: 'localhost', names: ['localhost'] });
    under.head.setCertificate({ cert: server.chain, key: server.privateKey });
    await expect(under.connect('valve')).rejects.toThrow(/certificate/);
    await under.connect('valve', { ca: other.certificate });
    await first.publishAsync('devices/pump/messages/events/', 'x', { qos: 1 });
    expect(under.head.clients().sort()).toEqual(['pump', 'valve']);
  });
});

describe('re-authentication', () => {
  it('cuts off a client that is not let in any more', async () => {
    let allowed = true;
    const looking = await startHead({
      reauthenticateMs: 20,
      authenticate: async ({ again }) =>
        again && !allowed ? { refused: 5, reason: 'expired' } : { ok: { deviceId: 'pump', moduleId: null } },
    });
    try {
      const client = await looking.connect('pump');
      await new Promise((resolve) => setTimeout(resolve, 60));
      expect(client.connected).toBe(true);
      allowed = false;
      await closed(client);
    } finally {
      await looking.stop();
    }
  });
});

describe('faults and counts', () => {
  it('answers CONNACK 3 for a status on CONNECT, matched by client id', async () => {
    under.faults.add({ target: 'hub', match: { method: 'CONNECT', path: '^pump$' }, fault: { status: 503 }, times: 1 });
    await under.connect('valve');
    await expect(under.connect('pump')).rejects.toMatchObject({ code: 3 });
    await under.connect('pump');
  });

  it('never answers a CONNECT that hangs', async () => {
    under.faults.add({ target: 'hub', match: { method: 'CONNECT' }, fault: { hang: true } });
    await expect(under.connect('pump', { connectTimeout: 100 })).rejects.toThrow(/connack timeout|closed/);
  });

  it.each(['before', 'after'] as const)('cuts a CONNECT %s it is answered', async (cut) => {
    under.faults.add({ target: 'hub', match: { method: 'CONNECT' }, fault: { cut } });
    await expect(under.connect('pump')).rejects.toThrow();
    expect(under.head.clients()).toEqual([]);
  });

  it('delays a CONNECT', async () => {
    under.faults.add({ target: 'hub', match: { method: 'CONNECT' }, fault: { delayMs: 120 } });
    const started = performance.now();
    await under.connect('pump');
    expect(performance.now() - started).toBeGreaterThan(115);
  });

  it.each([
    ['a status', { status: 500 }, 0],
    ['a cut before', { cut: 'before' }, 0],
    ['a cut after', { cut: 'after' }, 1],
  ])('drops the connection without PUBACK for %s on PUBLISH', async (_name, fault, arrived) => {
    const client = await under.connect('pump');
    under.faults.add({ target: 'hub', match: { method: 'PUBLISH', path: 'messages/events' }, fault });
    const acknowledged = vi.fn();
    client.publish('devices/pump/messages/events/', 'x', { qos: 1 }, (error) => !error && acknowledged());
    await closed(client);
    expect(acknowledged).not.toHaveBeenCalled();
    expect(under.backend.telemetrySeen).toHaveLength(arrived);
  });

  it('never acknowledges a PUBLISH that hangs, and serves the next one', async () => {
    const client = await under.connect('pump');
    under.faults.add({ target: 'hub', match: { method: 'PUBLISH' }, fault: { hang: true }, times: 1 });
    const acknowledged = vi.fn();
    client.publish('devices/pump/messages/events/', 'lost', { qos: 1 }, acknowledged);
    await client.publishAsync('devices/pump/messages/events/', 'kept', { qos: 1 });
    expect(acknowledged).not.toHaveBeenCalled();
    expect(under.backend.telemetrySeen.map((message) => message.body)).toEqual(['kept']);
  });

  it('counts calls by template', async () => {
    const client = await under.connect('pump');
    await client.publishAsync('devices/pump/messages/events/a=1', 'x', { qos: 1 });
    await client.publishAsync('devices/pump/messages/events/a=2', 'x', { qos: 1 });
    expect(under.faults.calls().hub).toEqual({ 'CONNECT {id}': 1, 'PUBLISH devices/{id}/messages/events': 2 });
  });
});
