import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { TableClient } from '@azure/data-tables';
import iotDevice from 'azure-iot-device';
import { Mqtt } from 'azure-iot-device-mqtt';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LocalContract } from '../../../local/cloud/contract.ts';
import { callHub } from '../../../local/cloud/hub-api.ts';
import { answerOf, tokenOf } from './requests.ts';
import { isAlive, newFolder, Running, startScript } from './running.ts';

const folders: string[] = [];
const started: Running[] = [];

function begin(options: string[] = [], folder = newFolder()): Running {
  folders.push(folder);
  const running = new Running(folder, options.includes('--port') ? options : ['--port', '0', ...options]);
  started.push(running);
  return running;
}

afterAll(async () => {
  await Promise.all(started.map((running) => running.end('SIGINT')));
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function hubOf({ hub }: LocalContract) {
  return { ...hub, ca: readFileSync(hub.caFile, 'utf8') };
}

async function api(local: LocalContract, method: string, path: string, body?: object, token = local.operatorToken) {
  const answer = await answerOf({
    url: `${local.api}/api/v1${path}`,
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
    giveUpMs: 20_000,
  });
  return { status: answer.status, body: answer.body === '' ? undefined : JSON.parse(answer.body) };
}

describe('npm start', () => {
  let running: Running;
  let local: LocalContract;

  beforeAll(async () => {
    running = begin();
    local = await running.ready();
  }, 120_000);

  test('writes a contract with exactly the fields that tools rely on, for its owner only', () => {
    expect(Object.keys(local)).toEqual([
      'api',
      'operatorToken',
      'entra',
      'hub',
      'vault',
      'storage',
      'gateways',
      'faultsUrl',
    ]);
    expect(Object.keys(local.entra)).toEqual(['issuer', 'tokenUrl', 'audience', 'clients']);
    expect(local.entra.clients.map(({ name }) => name)).toEqual(['operator', 'factory', 'reader', 'nobody']);
    for (const client of local.entra.clients) {
      expect(Object.keys(client)).toEqual(['name', 'clientId', 'clientSecret', 'roles']);
    }
    expect(Object.keys(local.hub)).toEqual(['hostname', 'port', 'connectionString', 'caFile', 'telemetryUrl']);
    expect(Object.keys(local.vault)).toEqual(['url', 'port', 'caFile']);
    expect(Object.keys(local.storage)).toEqual(['connectionString']);
    const [gateway] = local.gateways;
    expect(Object.keys(gateway ?? {})).toEqual(['id', 'hostname', 'ports', 'rootFile']);
    expect(gateway?.hostname).toBe('localhost');
    expect(Object.keys(gateway?.ports ?? {})).toEqual(['mqtt', 'amqp', 'websocket']);
    for (const port of Object.values(gateway?.ports ?? {})) expect(port).toBeGreaterThan(0);
    expect(local.gateways).toHaveLength(1);
    expect(statSync(running.contractFile).mode & 0o777).toBe(0o600);
  });

  test('prints no secret', () => {
    const secrets = [
      local.operatorToken,
      local.hub.connectionString,
      ...local.entra.clients.map((c) => c.clientSecret),
    ];
    for (const secret of secrets) expect(running.output).not.toContain(secret);
  });

  test('gives an operator token that the API takes, valid eight hours, with every role', async () => {
    expect((await api(local, 'GET', '/roots')).status).toBe(200);
    const claims = JSON.parse(Buffer.from(local.operatorToken.split('.')[1] ?? '', 'base64url').toString());
    expect(claims.exp - Date.now() / 1000).toBeGreaterThan(7.9 * 3600);
    expect(claims.exp - Date.now() / 1000).toBeLessThan(8.1 * 3600);
    const roles = ['Audit.Read', 'Credential.Issue', 'Fleet.Provision', 'Fleet.Read', 'Trust.Manage', 'Trust.Read'];
    expect([...claims.roles].sort()).toEqual(roles);
  });

  test('has a client for each kind of caller, who gets tokens with its roles', async () => {
    const scope = `${local.entra.audience}/.default`;
    expect((await api(local, 'GET', '/gateways', undefined, await tokenOf(local, 'reader', scope))).status).toBe(200);
    expect((await api(local, 'GET', '/gateways', undefined, await tokenOf(local, 'nobody', scope))).status).toBe(403);
  });

  test('has made its gateway an Edge device of the hub, and no more than that', async () => {
    const id = local.gateways[0]?.id;
    const device = await callHub(hubOf(local), 'GET', `/devices/${id}`);
    expect(device.body).toMatchObject({ capabilities: { iotEdge: true }, status: 'enabled' });
    const twin = (await callHub(hubOf(local), 'GET', `/twins/${id}`)).body as { tags?: object };
    expect(twin.tags ?? {}).toEqual({});
    expect((await api(local, 'GET', `/gateways/${id}`)).status).toBe(404);
  });

  test('refuses to run twice in one folder, in one sentence', async () => {
    const ended = await begin([], running.folder).end();
    expect(ended.code).toBe(1);
    expect(ended.output).toMatch(new RegExp(`already runs in .*process ${running.child.pid}`));
    // No stack: it is the reader's doing, not ours.
    expect(ended.output.trim().split('\n')).toHaveLength(1);
    expect(existsSync(running.contractFile)).toBe(true);
  });

  const tools = ['sh', 'curl', 'node'].filter((tool) => spawnSync(tool, ['--version']).error !== undefined);
  test.skipIf(tools.length > 0)(
    `prints first steps that work when they are pasted (needs ${tools.join(', ') || 'no more tools'})`,
    async () => {
      const lines = running.output.split('\n').filter((line) => /^ {2}(TOKEN|node|curl)/.test(line));
      expect(lines).toHaveLength(5);
      const script = lines.join('\n').replaceAll('curl -sS', 'curl -sS -f');
      execFileSync('sh', ['-e', '-c', script], { cwd: running.folder });
      expect((await api(local, 'GET', '/devices/press-01')).body).toMatchObject({
        id: 'press-01',
        gateway: 'gateway-1',
      });
      expect((await answerOf({ url: `${local.api}/api/v1/trust-bundle` })).body).toContain('BEGIN CERTIFICATE');
    },
  );

  test('shows the telemetry of a device that was onboarded, and the gateway it came by', async () => {
    const [gateway] = local.gateways;
    const pem = readFileSync(gateway?.rootFile ?? '', 'utf8');
    await api(local, 'POST', '/roots', { name: 'gateway-1', pem });
    await api(local, 'PUT', '/gateways/gateway-1', { hostname: 'localhost', ports: { mqtt: gateway?.ports.mqtt } });
    const onboarded = await api(local, 'POST', '/devices/press-02/onboard', { gateway: 'gateway-1' });
    const client = iotDevice.Client.fromConnectionString(onboarded.body.connectionString, Mqtt);
    await client.setOptions({ ca: pem });
    await client.open();
    await client.sendEvent(new iotDevice.Message('{"force":12}'));
    await client.close();
    const lines = (await answerOf({ url: local.hub.telemetryUrl })).body.trimEnd().split('\n');
    const message = lines.map((line) => JSON.parse(line)).find((one) => one.deviceId === 'press-02');
    expect(Object.keys(message).sort()).toEqual([
      'body',
      'deviceId',
      'enqueuedAt',
      'gatewayId',
      'moduleId',
      'properties',
    ]);
    expect(message).toMatchObject({ moduleId: null, gatewayId: 'gateway-1' });
    expect(Buffer.from(message.body, 'base64').toString()).toBe('{"force":12}');
  });

  test('ends at Ctrl-C with exit code 0, and leaves no process and no contract behind', async () => {
    const descendants = running.descendants();
    expect(descendants.length).toBeGreaterThanOrEqual(2);
    const ended = await running.end('SIGINT');
    expect(ended).toMatchObject({ code: 0, signal: null });
    expect(descendants.filter(isAlive)).toEqual([]);
    expect(existsSync(running.contractFile)).toBe(false);
    expect(existsSync(`${running.folder}/.gatepost/lock`)).toBe(false);
  });
});

// Each of these brings a whole cloud up, some of them twice: on a busy machine that takes its time.
const patience = { timeout: 120_000 };

describe('a local cloud that was started again', patience, () => {
  test('remembers all of its parts, at the same addresses', async () => {
    const first = begin();
    const before = await first.ready();
    const pem = readFileSync(before.gateways[0]?.rootFile ?? '', 'utf8');
    expect((await api(before, 'POST', '/roots', { name: 'plant', pem })).status).toBe(201);
    const ports = { mqtt: before.gateways[0]?.ports.mqtt };
    await api(before, 'PUT', '/gateways/gateway-1', { hostname: 'localhost', ports });
    const onboarded = await api(before, 'POST', '/devices/press-01/onboard', { gateway: 'gateway-1' });
    const table = (of: LocalContract) =>
      TableClient.fromConnectionString(of.storage.connectionString, 'kept', { allowInsecureConnection: true });
    await table(before).createTable();
    await table(before).createEntity({ partitionKey: 'a', rowKey: '1' });
    expect((await first.end('SIGTERM')).code).toBe(0);

    const second = begin([], first.folder);
    const after = await second.ready();
    expect(after.entra).toEqual(before.entra);
    expect(after.hub.connectionString).toBe(before.hub.connectionString);
    expect(after.gateways).toEqual(before.gateways);
    expect(readFileSync(after.gateways[0]?.rootFile ?? '', 'utf8')).toBe(pem);
    // A token from before the restart is still good: the keys of the tenant were kept.
    expect((await api(after, 'GET', '/roots', undefined, before.operatorToken)).body.value).toHaveLength(1);
    const again = await api(after, 'POST', '/devices/press-01/onboard', { gateway: 'gateway-1' });
    expect(again.body).toEqual(onboarded.body);
    expect((await table(after).getEntity('a', '1')).rowKey).toBe('1');
    await second.end('SIGINT');
  });

  test('has forgotten everything with --fresh, and runs as many gateways as asked for', async () => {
    const first = begin();
    const before = await first.ready();
    await first.end('SIGINT');
    const after = await begin(['--fresh', '--gateways', '2'], first.folder).ready();
    expect(after.entra.clients[0]?.clientId).not.toBe(before.entra.clients[0]?.clientId);
    expect(after.gateways.map(({ id }) => id)).toEqual(['gateway-1', 'gateway-2']);
    expect(after.gateways[0]?.ports.mqtt).not.toBe(after.gateways[1]?.ports.mqtt);
  });

  test('takes over a folder whose process was killed; what that one had started has ended by itself', async () => {
    const first = begin();
    await first.ready();
    const descendants = first.descendants();
    await first.end('SIGKILL');
    await expect.poll(() => descendants.filter(isAlive), { timeout: 15_000 }).toEqual([]);
    const second = begin([], first.folder);
    await second.ready();
    expect((await second.end('SIGINT')).code).toBe(0);
  });
});

test('Ctrl-C while it is starting ends it as well, with nothing left behind', patience, async () => {
  const running = begin();
  await expect.poll(() => running.descendants().length, { timeout: 60_000 }).toBeGreaterThan(0);
  const descendants = running.descendants();
  const ended = await running.end('SIGINT');
  expect(ended).toMatchObject({ code: 0, signal: null });
  expect(descendants.filter(isAlive)).toEqual([]);
  expect(existsSync(running.contractFile)).toBe(false);
});

test.skipIf(process.platform === 'win32')(
  'ends when npm is ended, which ends the shell around it',
  patience,
  async () => {
    const folder = newFolder();
    folders.push(folder);
    const env = { ...process.env, npm_lifecycle_event: 'start' };
    const script = `"${process.execPath}" "${startScript}" --port 0; true`;
    const shell = spawn('sh', ['-c', script], { cwd: folder, env, stdio: 'ignore' });
    const state = (name: string) => `${folder}/.gatepost/${name}`;
    await expect.poll(() => existsSync(state('local.json')), { timeout: 60_000 }).toBe(true);
    const pid = Number(readFileSync(state('lock'), 'utf8'));
    shell.kill('SIGTERM');
    await expect.poll(() => isAlive(pid), { timeout: 15_000 }).toBe(false);
    expect(existsSync(state('local.json'))).toBe(false);
  },
);

describe('the command line', patience, () => {
  test('teaches with --help', async () => {
    const ended = await begin(['--port', '0', '--help']).end();
    expect(ended.code).toBe(0);
    for (const option of ['--fresh', '--port', '--gateways', 'local.json']) expect(ended.output).toContain(option);
  });

  test.each([
    [['--port', 'x'], '--port takes a whole number'],
    [['--port', '70000'], '--port takes a whole number'],
    [['--port', '0', '--gateways', '-1'], 'gateways'],
    [['--port', '0', '--frsh'], '--frsh'],
    [['--port', '0', 'now'], 'now'],
  ])('refuses %j with a reason and the help', async (options, reason) => {
    const running = begin(options);
    const ended = await running.end();
    expect(ended.code).toBe(1);
    expect(ended.output).toContain(reason);
    expect(ended.output).toContain('--fresh');
    expect(existsSync(`${running.folder}/.gatepost`)).toBe(false);
  });

  test('replaces a port that is taken by a free one', async () => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, '127.0.0.1', resolve));
    const { port } = holder.address() as { port: number };
    const running = begin(['--port', String(port)]);
    const local = await running.ready();
    holder.close();
    expect(new URL(local.api).port).not.toBe(String(port));
    expect((await answerOf({ url: `${local.api}/api/v1/health` })).status).toBe(200);
    await running.end('SIGINT');
  });

  test('uses the port that was asked for', async () => {
    const probe = createServer();
    await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
    const { port } = probe.address() as { port: number };
    await new Promise((resolve) => probe.close(resolve));
    const running = begin(['--port', String(port)]);
    expect((await running.ready()).api).toBe(`http://127.0.0.1:${port}`);
    await running.end('SIGINT');
  });
});
