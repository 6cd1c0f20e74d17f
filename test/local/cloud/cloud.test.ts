import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { callHub } from '../../../local/cloud/hub-api.ts';
import { FolderInUseError } from '../../../local/cloud/lock.ts';
import { type LocalCloud, startCloud } from '../../../local/cloud.ts';

describe('a cloud without the API', () => {
  let cloud: LocalCloud;

  beforeAll(async () => {
    cloud = await startCloud({ api: false, gateways: 0 });
  });
  afterAll(() => cloud.close());

  function registry(path: string, headers: Record<string, string> = {}): Promise<{ status: number; body: unknown }> {
    const { hostname, port, connectionString, caFile } = cloud.contract.hub;
    const access = { hostname, port, connectionString, ca: readFileSync(caFile, 'utf8') };
    return callHub(access, 'GET', path, undefined, headers);
  }

  test('says so where its API is asked for', () => {
    expect(() => cloud.api).toThrow('without the API');
    expect(() => cloud.host).toThrow('without the API');
    expect(cloud.contract.api).toBe('');
  });

  test('begins with nobody having been called', () => {
    expect(cloud.faults.calls()).toEqual({ hub: {}, vault: {}, entra: {}, storage: {}, gateway: {} });
  });

  test('adds gateways, each an Edge device of the hub with a root of its own, and tells the contract', async () => {
    const first = await cloud.addGateway();
    const second = await cloud.addGateway({ id: 'line-2', hostname: 'edge.plant.local' });
    expect(cloud.gateways.map(({ id }) => id)).toEqual(['gateway-1', 'line-2']);
    expect(first.root).not.toBe(second.root);
    for (const { id, hostname, ports, rootFile = '' } of [first, second]) {
      expect((await registry(`/devices/${id}`)).body).toMatchObject({ capabilities: { iotEdge: true } });
      expect(cloud.contract.gateways).toContainEqual({ id, hostname, ports, rootFile });
      expect(readFileSync(rootFile, 'utf8')).toContain('BEGIN CERTIFICATE');
    }
    await expect(cloud.addGateway({ id: 'line-2' })).rejects.toThrow('line-2 runs already');
  });

  test('lets the identity of the API into the hub, and other identities of the tenant not', async () => {
    const { endpoint, header, clientId } = cloud.entra.managedIdentity;
    const aud = 'https://iothubs.azure.net';
    const query = new URLSearchParams({ resource: aud, client_id: clientId, 'api-version': '2019-08-01' });
    const answer = await fetch(`${endpoint}?${query}`, { headers: { 'x-identity-header': header } });
    const { access_token: token } = (await answer.json()) as { access_token: string };
    expect((await registry('/devices/nobody', { authorization: `Bearer ${token}` })).status).toBe(404);
    const other = await cloud.entra.issue({ aud });
    expect([401, 403]).toContain((await registry('/devices/nobody', { authorization: `Bearer ${other}` })).status);
  });
});

describe('the folder of a cloud', () => {
  test('is a temporary one that is removed, where none is given', async () => {
    const cloud = await startCloud({ api: false });
    const directory = dirname(cloud.contract.hub.caFile);
    expect(existsSync(directory)).toBe(true);
    await cloud.close();
    expect(existsSync(directory)).toBe(false);
  });

  test('is held by one cloud at a time, and given back', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-cloud-test-'));
    const cloud = await startCloud({ api: false, gateways: 0, directory });
    await expect(startCloud({ api: false, directory })).rejects.toThrow(FolderInUseError);
    await cloud.close();
    const again = await startCloud({ api: false, gateways: 0, directory, fresh: true });
    expect(again.contract.hub.connectionString).not.toBe(cloud.contract.hub.connectionString);
    await again.close();
    rmSync(directory, { recursive: true });
  });
});

describe('the ports of a gateway', () => {
  test('are those that it would like, where they are free', async () => {
    const free = await freePorts(3);
    const [mqtt = 0, amqp = 0, websocket = 0] = free;
    const cloud = await startCloud({ api: false, gatewayPorts: { mqtt, amqp, websocket } });
    expect(cloud.contract.gateways[0]?.ports).toEqual({ mqtt, amqp, websocket });
    await cloud.close();
  });

  test('are kept over a restart, and one that somebody has taken meanwhile is replaced', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-cloud-test-'));
    const first = await startCloud({ api: false, directory });
    const before = first.gateways[0]?.ports;
    await first.close();
    const squatter = createServer().listen(before?.amqp, '127.0.0.1');
    await once(squatter, 'listening');
    const second = await startCloud({ api: false, directory });
    const after = second.gateways[0]?.ports;
    expect(after).toMatchObject({ mqtt: before?.mqtt, websocket: before?.websocket });
    expect(after?.amqp).toBeGreaterThan(0);
    expect(after?.amqp).not.toBe(before?.amqp);
    await second.close();
    squatter.close();
    rmSync(directory, { recursive: true });
  });

  async function freePorts(count: number): Promise<number[]> {
    const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
    await Promise.all(servers.map((server) => once(server, 'listening')));
    const ports = servers.map((server) => (server.address() as AddressInfo).port);
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    return ports;
  }
});

describe('a cloud with the API', () => {
  let cloud: LocalCloud;

  beforeAll(async () => {
    cloud = await startCloud({ gateways: 0, apiEnv: { GATEPOST_REFRESH_HINT_SECONDS: '77' } });
  });
  afterAll(() => cloud.close());

  test('serves it, with the settings that were given', async () => {
    expect((await fetch(`${cloud.api}/api/v1/health`)).status).toBe(200);
    const root = await cloud.addGateway();
    const headers = { authorization: `Bearer ${cloud.operatorToken}`, 'content-type': 'application/json' };
    const body = JSON.stringify({ name: 'plant', pem: root.root });
    expect((await fetch(`${cloud.api}/api/v1/roots`, { method: 'POST', headers, body })).status).toBe(201);
    const bundle = await fetch(`${cloud.api}/api/v1/trust-bundle`);
    expect(bundle.headers.get('cache-control')).toContain('max-age=77');
  });

  test('starts it anew, at the same address', async () => {
    const before = cloud.api;
    await cloud.restartApi();
    expect(cloud.api).toBe(before);
    expect((await fetch(`${cloud.api}/api/v1/health`)).status).toBe(200);
  });
});
