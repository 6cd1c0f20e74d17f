import { once } from 'node:events';
import { request } from 'node:https';
import { connect as connectTls } from 'node:tls';
import { connect as connectMqtt, type MqttClient } from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { tokenOf } from '../amqp/sdk.ts';
import { endOf, type KeyedDevice, newName, Site } from '../gateway/site.ts';

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

/** Asks for a WebSocket. Answers the subprotocol that was agreed on, the status of a refusal, or `closed`. */
async function knock(protocols: string[], path = '/$iothub/websocket'): Promise<string | number> {
  const socket = new WebSocket(`wss://localhost:${gateway.ports.websocket}${path}`, protocols, { ca: gateway.root });
  socket.on('error', () => {});
  const answer = await new Promise<string | number>((resolve) => {
    socket.once('open', () => resolve(socket.protocol));
    socket.once('unexpected-response', (_request, response) => resolve(response.statusCode ?? 0));
    socket.once('close', () => resolve('closed'));
  });
  socket.terminate();
  return answer;
}

async function plainRequest(method: string, path: string): Promise<{ status: number; body: string }> {
  const asked = request({ host: 'localhost', port: gateway.ports.websocket, ca: gateway.root, method, path });
  asked.end(method === 'POST' ? '{"temperature":21}' : undefined);
  const [response] = await once(asked, 'response');
  return { status: response.statusCode, body: (await response.toArray()).join('') };
}

async function mqttOver(device: KeyedDevice): Promise<MqttClient> {
  const client = connectMqtt(`wss://localhost:${gateway.ports.websocket}/$iothub/websocket`, {
    clientId: device.deviceId,
    username: `${site.hub.hostname}/${device.deviceId}/?api-version=2021-04-12`,
    password: tokenOf(site, device.deviceId, device.key),
    ca: gateway.root,
    protocolVersion: 4,
    reconnectPeriod: 0,
  });
  site.closeLater({ close: () => client.endAsync(true) });
  await new Promise<void>((resolve, reject) => client.once('connect', () => resolve()).once('error', reject));
  return client;
}

describe('a WebSocket', () => {
  test.each([
    ['mqtt', ['mqtt']],
    ['AMQPWSB10', ['AMQPWSB10']],
    ['amqpwsb10', ['amqpwsb10']],
    ['mqtt', ['mqttv3.1', 'mqtt']],
  ])('speaks %s where it is asked for %j', async (spoken, asked) => {
    expect(await knock(asked)).toBe(spoken);
  });

  test('is refused where it asks for nothing that is spoken', async () => {
    expect(await knock(['soap'])).toBe(400);
    expect(await knock([])).toBe(400);
  });

  test('is served at any path: only the subprotocol counts', async () => {
    expect(await knock(['mqtt'], '/mqtt')).toBe('mqtt');
  });

  test('carries a message of 256 KiB, and the device is seen to come and go', async () => {
    const device = await site.device(newName(), gateway);
    const client = await mqttOver(device);
    expect(gateway.connected()).toContain(device.deviceId);
    const body = Buffer.alloc(262_144, 'a');
    await client.publishAsync(`devices/${device.deviceId}/messages/events/`, body, { qos: 1 });
    expect(site.bodiesFrom(device.deviceId)[0]).toHaveLength(262_144);
    await client.endAsync();
    expect(gateway.connected()).not.toContain(device.deviceId);
  });

  test('is of the same device as a connection without one', async () => {
    const device = await site.device(newName(), gateway);
    const first = await site.stay(gateway, device);
    const closed = endOf(first);
    await mqttOver(device);
    await closed;
    expect(gateway.connected().filter((id) => id === device.deviceId)).toHaveLength(1);
  });
});

describe('HTTPS on the same port', () => {
  test.each([
    ['POST', '/devices/press-1/messages/events?api-version=2021-04-12'],
    ['GET', '/devices/press-1/messages/devicebound'],
    ['POST', '/devices/press-1/files'],
  ])('takes no %s %s, and says what to do', async (method, path) => {
    const answer = await plainRequest(method, path);
    expect(answer.status).toBe(404);
    expect(answer.body).toContain('no telemetry over HTTP');
  });

  test('has the module registry too, which asks who is there', async () => {
    expect((await plainRequest('GET', '/devices/press-1/modules')).status).toBe(401);
  });
});

describe('the port', () => {
  const fingerprint = async (port: number) => {
    const socket = connectTls({ host: '127.0.0.1', port, servername: 'localhost', ca: gateway.root });
    await once(socket, 'secureConnect');
    const certificate = socket.getPeerCertificate();
    socket.destroy();
    return certificate.fingerprint256;
  };

  test('has the certificate of the other protocols, also after it was replaced', async () => {
    const { mqtt, amqp, websocket } = gateway.ports;
    const before = await fingerprint(websocket);
    await gateway.replaceServerCertificate();
    const after = await Promise.all([mqtt, amqp, websocket].map(fingerprint));
    expect(new Set(after).size).toBe(1);
    expect(after).not.toContain(before);
  });

  test('misbehaves as it is told', async () => {
    const arm = (fault: object) => site.faults.add({ target: 'gateway', match: { method: 'GET' }, fault, times: 1 });
    arm({ status: 503 });
    expect(await knock(['mqtt'])).toBe(503);
    arm({ cut: 'before' });
    expect(await knock(['mqtt'])).toBe('closed');
    expect(await knock(['mqtt'])).toBe('mqtt');
  });

  test('counts what asks for a WebSocket', async () => {
    site.faults.resetCalls();
    await knock(['mqtt']);
    expect(site.faults.calls().gateway).toEqual({ 'GET /$iothub/websocket': 1 });
  });
});
