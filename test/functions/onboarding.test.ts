import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { selfSigned } from '../../local/kit/certificates.ts';
import { fieldOf, newId, startTestCloud, type TestCloud } from '../support/cloud.ts';

let test: TestCloud;
let gateway: string;
let root: string;
const directory = mkdtempSync(join(tmpdir(), 'gatepost-onboarding-'));
const logFile = join(directory, 'api.log');

beforeAll(async () => {
  test = await startTestCloud({ logFile, apiEnv: { GATEPOST_UPSTREAM_TIMEOUT_MS: '2000' } });
  gateway = await test.newGateway();
  root = (await selfSigned({ commonName: 'Plant root' })).certificate;
  const imported = await test.call('POST', '/api/v1/roots', { json: { name: 'plant', pem: root } });
  expect(imported.status).toBe(201);
});

afterEach(() => test.cloud.faults.clear());

afterAll(async () => {
  await test?.close();
  rmSync(directory, { recursive: true, force: true });
});

const onboard = (id: string, json: Record<string, unknown> = {}) =>
  test.call('POST', `/api/v1/devices/${id}/onboard`, { json: { gateway, ...json } });
const outcome = (id: string, json: Record<string, unknown> = {}) =>
  test.outcome('POST', `/api/v1/devices/${id}/onboard`, { json: { gateway, ...json } });
const exists = async (id: string) => (await test.call('GET', `/api/v1/devices/${id}`)).status === 200;

describe('POST /devices/{id}/onboard', () => {
  it('answers everything that a device needs, as one document that no cache keeps', async () => {
    const id = newId();
    const answer = await onboard(id);
    expect(answer.status).toBe(201);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    const hub = test.cloud.hub.hostname;
    expect(answer.json).toEqual({
      device: { id, moduleId: null },
      hub: { hostname: hub },
      gateway: { id: gateway, hostname: 'gw.example.com', ports: { mqtt: 8883, amqp: 5671, websocket: 443 } },
      connectionString: expect.stringMatching(
        new RegExp(
          `^HostName=${hub};DeviceId=${id};SharedAccessKey=[A-Za-z0-9+/]{43}=;GatewayHostName=gw.example.com$`,
        ),
      ),
      expiresAt: null,
      trust: {
        sequence: 1,
        refreshHintSeconds: 3600,
        roots: [
          {
            sha256: expect.any(String),
            subject: 'CN=Plant root',
            notAfter: expect.any(String),
            pem: expect.any(String),
          },
        ],
      },
    });
    expect(answer.json.trust.roots[0].pem.trim()).toBe(root.trim());
  });

  it('answers the same document again', async () => {
    const id = newId();
    const body = { modules: ['meter', 'pump'], tags: { line: 4 } };
    const [first, second] = [await onboard(id, body), await onboard(id, body)];
    expect([first.status, second.status]).toEqual([201, 200]);
    expect(second.text).toBe(first.text);
  });

  it('costs the hub one write for a new device behind a gateway that is remembered, and one read for a repeat', async () => {
    await onboard(newId());
    const id = newId();
    test.hubCalls();
    await onboard(id);
    expect(test.hubCalls()).toEqual({ 'PUT /devices/{id}': 1 });
    await onboard(id);
    expect(test.hubCalls()).toEqual({ 'GET /devices/{id}': 1 });
  });

  it('costs one write more for each module, and one read for all of them in a repeat', async () => {
    await onboard(newId());
    const id = newId();
    test.hubCalls();
    await onboard(id, { modules: ['a', 'b'] });
    expect(test.hubCalls()).toEqual({ 'PUT /devices/{id}': 1, 'PUT /devices/{id}/modules/{moduleId}': 2 });
    await onboard(id, { modules: ['a', 'b'] });
    expect(test.hubCalls()).toEqual({ 'GET /devices/{id}': 1, 'GET /devices/{id}/modules': 1 });
  });

  it('makes the modules and the tags that it is told', async () => {
    const id = newId();
    await onboard(id, { modules: ['meter'], tags: { line: 4 } });
    expect((await test.call('GET', `/api/v1/devices/${id}/modules/meter`)).status).toBe(200);
    expect((await test.call('GET', `/api/v1/devices/${id}`)).json.tags).toEqual({ line: 4 });
    await onboard(id, { modules: ['meter', 'pump'], tags: { line: 5 } });
    expect((await test.call('GET', `/api/v1/devices/${id}/modules/pump`)).status).toBe(200);
    expect((await test.call('GET', `/api/v1/devices/${id}`)).json.tags).toEqual({ line: 5 });
  });

  it('moves a device that stands behind another gateway, with its key', async () => {
    const id = newId();
    const before = await onboard(id);
    const other = await test.newGateway({ hostname: 'other.example.com', ports: { mqtt: 18883 } });
    const after = await onboard(id, { gateway: other });
    expect([after.status, after.json.gateway.id]).toEqual([200, other]);
    expect(after.json.connectionString).toMatch(/;GatewayHostName=other\.example\.com:18883$/);
    const keyOf = (answer: typeof before) => fieldOf(answer.json.connectionString, 'SharedAccessKey');
    expect(keyOf(after)).toBe(keyOf(before));
    expect((await test.call('GET', `/api/v1/devices/${id}`)).json.gateway).toBe(other);
  });

  it('gives a SAS token that lives as long as it is told', async () => {
    const id = newId();
    const { json } = await onboard(id, { credential: 'sas', ttlSeconds: 60 });
    const left = Date.parse(json.expiresAt) - Date.now();
    expect(left).toBeGreaterThan(50_000);
    expect(left).toBeLessThanOrEqual(60_000);
    expect(json.connectionString).toMatch(/;SharedAccessSignature=SharedAccessSignature sr=[^;]+;GatewayHostName=gw/);
    expect(json.connectionString).not.toContain('SharedAccessKey=');
  });

  it('gives x509=true to devices with certificates', async () => {
    for (const auth of [{ type: 'certificateAuthority' }, { type: 'selfSigned', primaryThumbprint: 'AB'.repeat(32) }]) {
      const { status, json } = await onboard(newId(), { auth });
      expect(status).toBe(201);
      expect(json.connectionString).toContain(';x509=true;GatewayHostName=gw.example.com');
    }
  });

  it.each([
    [{ credential: 'x509' }, '409 credential_mismatch'],
    [{ credential: 'key', auth: { type: 'certificateAuthority' } }, '409 credential_mismatch'],
    [{ enabled: false }, '409 device_disabled'],
    [{ gateway: 'nobody' }, '404 gateway_not_found'],
    [{ ttlSeconds: 60 }, '400 invalid_request'],
    [{ credential: 'sas', ttlSeconds: 59 }, '400 invalid_request'],
    [{ modules: ['$edgeHub'] }, '400 invalid_request'],
    [{ colour: 'red' }, '400 invalid_request'],
  ])('refuses %j before anything is written', async (json, expected) => {
    const id = newId();
    expect(await outcome(id, json)).toBe(expected);
    expect(await exists(id)).toBe(false);
  });

  it('refuses what fits no device that is there, and leaves it as it was', async () => {
    const id = newId();
    const other = await test.newGateway();
    await test.call('PUT', `/api/v1/devices/${id}`, {
      json: { gateway: other, auth: { type: 'certificateAuthority' } },
    });
    expect(await outcome(id, { credential: 'key' })).toBe('409 credential_mismatch');
    await test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway: other, enabled: false } });
    expect(await outcome(id)).toBe('409 device_disabled');
    expect((await test.call('GET', `/api/v1/devices/${id}`)).json).toMatchObject({ gateway: other, enabled: false });
    expect((await onboard(id, { enabled: true })).status).toBe(200);
    expect(await outcome(gateway)).toBe('409 device_is_gateway');
  });

  it('makes a module once that is named twice', async () => {
    test.hubCalls();
    await onboard(newId(), { modules: ['a', 'a'] });
    expect(test.hubCalls()).toMatchObject({ 'PUT /devices/{id}/modules/{moduleId}': 1 });
  });

  it('needs Fleet.Provision', async () => {
    const path = `/api/v1/devices/${newId()}/onboard`;
    const authorization = await test.tokenWith('Fleet.Read', 'Credential.Issue', 'Trust.Manage');
    expect(await test.outcome('POST', path, { json: { gateway }, authorization })).toBe('403 role_missing');
    expect(await test.outcome('POST', path, { json: { gateway }, authorization: null })).toBe('401 token_missing');
  });
});

describe('a call that is cut off', () => {
  const steps = [
    ['making the device', { method: 'PUT', path: '^/devices/[^/?]+\\?' }],
    ['writing its tags', { method: 'PATCH' }],
    ['making its module', { method: 'PUT', path: '/modules/' }],
  ] as const;
  const body = { tags: { line: 4 }, modules: ['meter'] };

  it.each(steps)('once after the hub did the work of %s answers as if nothing had happened', async (_what, match) => {
    const id = newId();
    test.cloud.faults.add({ target: 'hub', match, fault: { cut: 'after' }, times: 1 });
    const answer = await onboard(id, body);
    expect(answer.json).toMatchObject({ device: { id }, gateway: { id: gateway } });
    expect((await onboard(id, body)).text).toBe(answer.text);
  });

  it.each(steps)('for good at %s is a 503 with Retry-After, and heals when it is repeated', async (_what, match) => {
    for (const cut of ['before', 'after'] as const) {
      const id = newId();
      test.cloud.faults.add({ target: 'hub', match, fault: { cut } });
      const failed = await onboard(id, body);
      expect(failed).toMatchObject({ status: 503, json: { code: 'upstream_unavailable' } });
      expect(failed.headers.get('retry-after')).toMatch(/^\d+$/);
      test.cloud.faults.clear();
      expect((await onboard(id, body)).json).toMatchObject({ device: { id }, gateway: { id: gateway } });
      expect((await test.call('GET', `/api/v1/devices/${id}`)).json).toMatchObject({ gateway, tags: { line: 4 } });
      expect((await test.call('GET', `/api/v1/devices/${id}/modules/meter`)).status).toBe(200);
    }
  });

  it('by a hub that hangs is a 504 in time, and heals when it is repeated', async () => {
    const id = newId();
    test.cloud.faults.add({ target: 'hub', match: { method: 'PUT' }, fault: { hang: true } });
    const started = performance.now();
    expect(await outcome(id)).toBe('504 upstream_timeout');
    expect(performance.now() - started).toBeLessThan(4000);
    test.cloud.faults.clear();
    expect((await onboard(id)).status).toBeLessThan(300);
  });

  it('by throttling waits as it is told, or passes the wait on', async () => {
    test.cloud.faults.add({ target: 'hub', match: { method: 'PUT' }, fault: { status: 429, retryAfter: 1 }, times: 1 });
    expect((await onboard(newId())).status).toBe(201);
    test.cloud.faults.add({ target: 'hub', match: { method: 'PUT' }, fault: { status: 429, retryAfter: 40 } });
    const refused = await onboard(newId());
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '40']);
  });

  it('by two 500s goes on', async () => {
    test.cloud.faults.add({ target: 'hub', fault: { status: 500 }, times: 2 });
    expect((await onboard(newId())).status).toBe(201);
  });
});

it('many concurrent calls for one device make one device and answer one document', async () => {
  const id = newId();
  const answers = await Promise.all(Array.from({ length: 20 }, () => onboard(id)));
  expect(new Set(answers.map((answer) => answer.text)).size).toBe(1);
  expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1);
});

it('no key and no token is in what the API logs', async () => {
  const [key, sas] = [await onboard(newId()), await onboard(newId(), { credential: 'sas' })];
  test.cloud.faults.add({ target: 'hub', fault: { status: 500 } });
  await onboard(newId());
  test.cloud.faults.clear();
  const secrets = [
    fieldOf(key.json.connectionString, 'SharedAccessKey'),
    /sig=([^&]+)/.exec(sas.json.connectionString)?.[1],
    test.cloud.operatorToken,
  ];
  const logged = readFileSync(logFile, 'utf8');
  expect(logged).toContain('device_onboarded');
  for (const secret of secrets) {
    expect(secret).toBeTruthy();
    expect(logged).not.toContain(secret);
  }
  expect(logged).not.toMatch(/SharedAccess|Bearer/);
});
