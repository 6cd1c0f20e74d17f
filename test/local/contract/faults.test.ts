import { readFileSync, rmSync } from 'node:fs';
import { connect } from 'mqtt';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { LocalContract } from '../../../local/cloud/contract.ts';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import { answerOf, type Call, type Outcome, send, tokenOf, tokenRequest } from './requests.ts';
import { newFolder, Running } from './running.ts';

let running: Running;
let local: LocalContract;
let vaultToken: string;
let made = 0;

beforeAll(async () => {
  running = new Running(newFolder(), ['--port', '0']);
  local = await running.ready();
  vaultToken = await tokenOf(local, 'operator', 'https://vault.azure.net/.default');
}, 120_000);
afterEach(async () => {
  await control('DELETE', '');
  await control('DELETE', '/calls');
});
afterAll(async () => {
  await running.end('SIGINT');
  rmSync(running.folder, { recursive: true });
});

async function control(method: string, path: string, body?: object) {
  const answer = await answerOf({
    url: `${local.faultsUrl}${path}`,
    method,
    ...(body && { body: JSON.stringify(body) }),
  });
  return { status: answer.status, body: answer.body === '' ? undefined : JSON.parse(answer.body) };
}

function newName(): string {
  made += 1;
  return `thing-${made}`;
}

function hubCall(method: string, path: string, body?: object): Call {
  const { hostname, port, caFile, connectionString } = local.hub;
  const key = /SharedAccessKey=([^;]+)/.exec(connectionString)?.[1] ?? '';
  const authorization = makeSasToken(hostname, key, Math.floor(Date.now() / 1000) + 60, 'iothubowner');
  return {
    url: `https://${hostname}${path}?api-version=2021-04-12`,
    method,
    port,
    caFile,
    headers: { authorization, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  };
}

function vaultCall(method: string, path: string, body?: object): Call {
  return {
    url: `${local.vault.url}${path}?api-version=7.4`,
    method,
    port: local.vault.port,
    caFile: local.vault.caFile,
    headers: { authorization: `Bearer ${vaultToken}`, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  };
}

/** Unsigned, so its regular answer is a refusal. What faults mean for data is tested beside the storage double. */
function storageCall(): Call {
  const endpoint = /QueueEndpoint=([^;]+?)\/?;/.exec(local.storage.connectionString)?.[1];
  return { url: `${endpoint}/${newName()}`, method: 'PUT' };
}

/** What a client of each HTTP double does, the status it expects, and whether the work was done. */
const doubles = {
  hub: {
    expected: 200,
    path: '/devices/',
    work: (name: string) => hubCall('PUT', `/devices/${name}`, { deviceId: name, authentication: { type: 'sas' } }),
    isDone: async (name: string) => (await answerOf(hubCall('GET', `/devices/${name}`))).status === 200,
  },
  vault: {
    expected: 200,
    path: '/secrets/',
    work: (name: string) => vaultCall('PUT', `/secrets/${name}`, { value: 'x' }),
    isDone: async (name: string) => (await answerOf(vaultCall('GET', `/secrets/${name}`))).status === 200,
  },
  entra: {
    expected: 200,
    path: '/token$',
    work: () => tokenRequest(local, 'operator', `${local.entra.audience}/.default`),
    isDone: undefined,
  },
  storage: { expected: 403, path: '/devstoreaccount1/', work: storageCall, isDone: undefined },
};

describe.each(Object.entries(doubles))('a fault of the %s', (target, double) => {
  async function withFault(fault: object, giveUpMs = 10_000): Promise<{ outcome: Outcome; name: string }> {
    const name = newName();
    const call = double.work(name);
    const rule = { target, match: { method: call.method, path: double.path }, fault, times: 1 };
    expect((await control('POST', '', rule)).status).toBe(201);
    const outcome = await send({ ...call, giveUpMs });
    expect((await control('GET', '')).body).toEqual([{ ...rule, struck: 1 }]);
    return { outcome, name };
  }

  async function expectDone(name: string, done: boolean): Promise<void> {
    if (double.isDone !== undefined) expect(await double.isDone(name)).toBe(done);
  }

  test('that is a status is answered with it and its Retry-After, once; nothing is done', async () => {
    const { outcome, name } = await withFault({ status: 429, retryAfter: 7 });
    expect(outcome).toMatchObject({ status: 429, headers: { 'retry-after': '7' } });
    await expectDone(name, false);
    expect(await send(double.work(newName()))).toMatchObject({ status: double.expected });
  });

  test('that is a delay answers late and does its work', async () => {
    const { outcome, name } = await withFault({ delayMs: 250 });
    expect(outcome).toMatchObject({ status: double.expected });
    expect((outcome as { ms: number }).ms).toBeGreaterThanOrEqual(249);
    await expectDone(name, true);
  });

  test('that hangs never answers, and does nothing', async () => {
    const { outcome, name } = await withFault({ hang: true }, 400);
    expect(outcome).toBe('nothing');
    await expectDone(name, false);
  });

  test('that cuts before drops the connection, and nothing is done', async () => {
    const { outcome, name } = await withFault({ cut: 'before' });
    expect(outcome).toBe('cut');
    await expectDone(name, false);
  });

  test('that cuts after drops the connection once the work is done', async () => {
    const { outcome, name } = await withFault({ cut: 'after' });
    expect(outcome).toBe('cut');
    await expectDone(name, true);
  });
});

describe('a fault of the gateway', () => {
  let deviceId: string;
  let token: string;

  beforeAll(async () => {
    deviceId = newName();
    const edge = JSON.parse((await answerOf(hubCall('GET', '/devices/gateway-1'))).body);
    const body = { deviceId, deviceScope: edge.deviceScope, authentication: { type: 'sas' } };
    const device = JSON.parse((await answerOf(hubCall('PUT', `/devices/${deviceId}`, body))).body);
    const key = device.authentication.symmetricKey.primaryKey;
    token = makeSasToken(`${local.hub.hostname}/devices/${deviceId}`, key, Math.floor(Date.now() / 1000) + 600);
  });

  /** Connects and sends one message. Answers how far it got. */
  async function sendOne(body: string, giveUpMs = 5000): Promise<'acknowledged' | 'closed' | 'nothing'> {
    const [gateway] = local.gateways;
    const client = connect(`mqtts://localhost:${gateway?.ports.mqtt}`, {
      clientId: deviceId,
      username: `${local.hub.hostname}/${deviceId}/?api-version=2021-04-12`,
      password: token,
      ca: readFileSync(gateway?.rootFile ?? ''),
      protocolVersion: 4,
      reconnectPeriod: 0,
    });
    client.on('error', () => {});
    const outcome = await new Promise<'acknowledged' | 'closed' | 'nothing'>((resolve) => {
      client.once('close', () => resolve('closed'));
      setTimeout(() => resolve('nothing'), giveUpMs).unref();
      client.publish(`devices/${deviceId}/messages/events/`, body, { qos: 1 }, (error) => {
        if (!error) resolve('acknowledged');
      });
    });
    await client.endAsync(true);
    return outcome;
  }

  async function hasArrived(body: string): Promise<boolean> {
    const lines = (await answerOf({ url: local.hub.telemetryUrl })).body;
    return lines.includes(`"body":"${Buffer.from(body).toString('base64')}"`);
  }

  test.each([
    ['CONNECT', { status: 503 }, 'closed', false],
    ['CONNECT', { cut: 'before' }, 'closed', false],
    ['CONNECT', { cut: 'after' }, 'closed', false],
    ['CONNECT', { hang: true }, 'nothing', false],
    ['PUBLISH', { status: 503 }, 'closed', false],
    ['PUBLISH', { cut: 'before' }, 'closed', false],
    ['PUBLISH', { cut: 'after' }, 'closed', true],
    ['PUBLISH', { hang: true }, 'nothing', false],
    ['PUBLISH', { delayMs: 200 }, 'acknowledged', true],
  ])('at %s, %j: %s', async (method, fault, outcome, arrives) => {
    const rule = { target: 'gateway', match: { method, path: deviceId }, fault, times: 1 };
    expect((await control('POST', '', rule)).status).toBe(201);
    const body = newName();
    expect(await sendOne(body, 'hang' in fault ? 400 : 5000)).toBe(outcome);
    expect((await control('GET', '')).body).toEqual([{ ...rule, struck: 1 }]);
    expect(await hasArrived(body)).toBe(arrives);
    expect(await sendOne(`${body} again`)).toBe('acknowledged');
  });
});

describe('faults and calls', () => {
  test('a fault without a count strikes until it is cleared, and only what it matches', async () => {
    await control('POST', '', { target: 'hub', match: { method: 'get', path: '/devices/x' }, fault: { status: 500 } });
    for (let index = 0; index < 3; index += 1) {
      expect(await send(hubCall('GET', '/devices/x1'))).toMatchObject({ status: 500 });
    }
    expect(await send(hubCall('GET', '/devices/y'))).toMatchObject({ status: 404 });
    expect(await send(hubCall('DELETE', '/devices/x1'))).not.toMatchObject({ status: 500 });
    expect((await control('GET', '')).body).toMatchObject([{ struck: 3 }]);
    await control('DELETE', '');
    expect(await send(hubCall('GET', '/devices/x1'))).toMatchObject({ status: 404 });
  });

  test('what does not read as a fault is refused with a reason', async () => {
    const refused = await control('POST', '', { target: 'hub', fault: { status: 200 } });
    expect(refused).toMatchObject({ status: 400, body: { error: expect.stringContaining('fault') } });
  });

  test('calls are counted for every double by method and template, faults included, and reset', async () => {
    const [one, two] = [newName(), newName()];
    for (const name of [one, two]) await send(doubles.hub.work(name));
    await control('POST', '', { target: 'hub', fault: { status: 500 }, times: 1 });
    await send(hubCall('GET', `/devices/${one}`));
    await send(doubles.vault.work(one));
    await send(doubles.entra.work());
    const calls = (await control('GET', '/calls')).body;
    expect(calls.hub).toMatchObject({ 'PUT /devices/{id}': 2, 'GET /devices/{id}': 1 });
    expect(Object.values(calls.vault)).toContain(1);
    expect(calls.entra['POST /{tenant}/oauth2/v2.0/token']).toBe(1);
    expect(Object.keys(calls).sort()).toEqual(['entra', 'gateway', 'hub', 'storage', 'vault']);
    expect((await control('DELETE', '/calls')).status).toBe(204);
    expect((await control('GET', '/calls')).body.entra).toEqual({});
  });
});
