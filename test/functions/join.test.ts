import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { TableClient } from '@azure/data-tables';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { fieldOf, newId, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { asHubOwner } from '../support/hub-owner.ts';

let test: TestCloud;
let gateway: string;
const directory = mkdtempSync(joinPath(tmpdir(), 'gatepost-join-'));
const logFile = joinPath(directory, 'api.log');

beforeAll(async () => {
  test = await startTestCloud({ logFile, apiEnv: { GATEPOST_UPSTREAM_TIMEOUT_MS: '2000' } });
  gateway = await test.newGateway();
});

afterEach(() => test.cloud.faults.clear());

afterAll(async () => {
  await test?.close();
  rmSync(directory, { recursive: true, force: true });
});

async function newDevice(json: Record<string, unknown> = {}): Promise<string> {
  const id = newId();
  await test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway, ...json } });
  return id;
}

const issue = (id: string, json: unknown = {}) => test.call('POST', `/api/v1/devices/${id}/join-token`, { json });
const redeem = (token: string) => test.call('POST', '/api/v1/join', { json: { token }, authorization: null });
const tokenFor = async (id: string, json: unknown = {}): Promise<string> => (await issue(id, json)).json.token;
const table = () =>
  TableClient.fromConnectionString(test.cloud.storage.connectionString, 'gatepostjointokens', {
    allowInsecureConnection: true,
  });
const hashOf = (token: string) => createHash('sha256').update(token).digest('hex');

describe('POST /devices/{id}/join-token', () => {
  it('answers a token of 256 bits for ten minutes, or as long as is asked', async () => {
    const id = await newDevice();
    const answer = await issue(id);
    expect(answer.status).toBe(201);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(Buffer.from(answer.json.token, 'base64url').byteLength).toBe(32);
    const left = (text: string) => (Date.parse(text) - Date.now()) / 1000;
    expect(Math.abs(left(answer.json.expiresAt) - 600)).toBeLessThan(10);
    const longest = await issue(id, { ttlSeconds: 86_400 });
    expect(Math.abs(left(longest.json.expiresAt) - 86_400)).toBeLessThan(10);
  });

  it('needs no body', async () => {
    const answer = await test.call('POST', `/api/v1/devices/${await newDevice()}/join-token`);
    expect(answer.status).toBe(201);
  });

  it('stores the hash of the token and nothing that could be redeemed', async () => {
    const token = await tokenFor(await newDevice());
    const rows: string[] = [];
    for await (const row of table().listEntities()) rows.push(JSON.stringify(row));
    const stored = rows.join('\n');
    expect(stored).toContain(hashOf(token));
    expect(stored).not.toContain(token);
    expect(stored).not.toContain('SharedAccess');
  });

  it.each([
    { ttlSeconds: 59 },
    { ttlSeconds: 86_401 },
    { moduleId: '$edgeHub' },
    { credential: 'password' },
    { colour: 1 },
  ])('refuses the body %j', async (json) => {
    expect((await issue(await newDevice(), json)).json.code).toBe('invalid_request');
  });

  it('is refused where nothing could be handed out', async () => {
    expect((await issue('nobody')).json.code).toBe('device_not_found');
    expect((await issue(gateway)).json.code).toBe('device_is_gateway');
    expect((await issue(await newDevice({ enabled: false }))).json.code).toBe('device_disabled');
    expect((await issue(await newDevice(), { credential: 'x509' })).json.code).toBe('credential_mismatch');
    expect((await issue(await newDevice(), { moduleId: 'nothing' })).json.code).toBe('module_not_found');
    const authorization = await test.tokenWith('Fleet.Provision');
    const path = `/api/v1/devices/${await newDevice()}/join-token`;
    expect(await test.outcome('POST', path, { json: {}, authorization })).toBe('403 role_missing');
  });
});

describe('POST /join', () => {
  it('answers the document that onboarding answers, without any other proof', async () => {
    const id = newId();
    const onboarded = await test.call('POST', `/api/v1/devices/${id}/onboard`, { json: { gateway } });
    const joined = await redeem(await tokenFor(id));
    expect(joined.status).toBe(200);
    expect(joined.headers.get('cache-control')).toBe('no-store');
    expect(joined.text).toBe(onboarded.text);
  });

  it('gives the credential and the module that the token was issued for', async () => {
    const id = await newDevice();
    const sas = await redeem(await tokenFor(id, { credential: 'sas' }));
    expect(sas.json.connectionString).toContain('SharedAccessSignature=');
    expect(sas.json.expiresAt).not.toBeNull();
    await test.call('PUT', `/api/v1/devices/${id}/modules/meter`);
    const module = await redeem(await tokenFor(id, { moduleId: 'meter' }));
    expect(module.json.device).toEqual({ id, moduleId: 'meter' });
    expect(fieldOf(module.json.connectionString, 'ModuleId')).toBe('meter');
    const certificates = await newDevice({ auth: { type: 'certificateAuthority' } });
    expect((await redeem(await tokenFor(certificates))).json.connectionString).toContain(';x509=true;');
  });

  it('is granted to exactly one of a hundred concurrent calls', async () => {
    const token = await tokenFor(await newDevice());
    const answers = await Promise.all(Array.from({ length: 100 }, () => redeem(token)));
    const codes = answers.map((answer) => (answer.status === 200 ? 'won' : answer.json.code));
    expect(codes.filter((code) => code === 'won')).toHaveLength(1);
    expect(codes.filter((code) => code === 'join_token_invalid')).toHaveLength(99);
  });

  it('refuses wrong, malformed, used, expired and foreign tokens in the same words', async () => {
    const used = await tokenFor(await newDevice());
    await redeem(used);

    const expired = await tokenFor(await newDevice());
    const rowKey = hashOf(expired);
    const past = new Date(Date.now() - 1000);
    await table().updateEntity({ partitionKey: rowKey.slice(0, 2), rowKey, expiresAt: past }, 'Merge');

    const deleted = await newDevice();
    const ofDeleted = await tokenFor(deleted);
    await test.call('DELETE', `/api/v1/devices/${deleted}`);

    const remade = await newDevice();
    const ofRemade = await tokenFor(remade);
    await test.call('DELETE', `/api/v1/devices/${remade}`);
    await test.call('PUT', `/api/v1/devices/${remade}`, { json: { gateway } });

    const disabled = await newDevice();
    const ofDisabled = await tokenFor(disabled);
    await test.call('PUT', `/api/v1/devices/${disabled}`, { json: { gateway, enabled: false } });

    const changed = await newDevice();
    const ofChanged = await tokenFor(changed, { credential: 'key' });
    await test.call('PUT', `/api/v1/devices/${changed}`, { json: { gateway, auth: { type: 'certificateAuthority' } } });

    const foreign = await tokenFor(await newDevice());
    const foreignKey = hashOf(foreign);
    const elsewhere = { hubHostname: 'other.azure-devices.net' };
    await table().updateEntity({ partitionKey: foreignKey.slice(0, 2), rowKey: foreignKey, ...elsewhere }, 'Merge');

    const wrong = Buffer.alloc(32, 7).toString('base64url');
    const tokens = [wrong, 'x', 'ä', `${used}=`, used, expired, ofDeleted, ofRemade, ofDisabled, ofChanged, foreign];
    const bodies = new Set<string>();
    for (const token of tokens) {
      const { status, json } = await redeem(token);
      bodies.add(JSON.stringify([status, { ...json, instance: undefined }]));
    }
    expect([...bodies]).toHaveLength(1);
    expect([...bodies][0]).toContain('join_token_invalid');
  });

  it('refuses a body that is no token, and says which field', async () => {
    for (const json of [{}, { token: '' }, { token: 5 }, { token: 'x', colour: 'red' }]) {
      expect(await test.outcome('POST', '/api/v1/join', { json, authorization: null })).toBe('400 invalid_request');
    }
  });

  it('costs no token when the hub or storage fails on the way', async () => {
    const id = await newDevice();
    const token = await tokenFor(id);
    test.cloud.faults.add({ target: 'hub', fault: { status: 503 } });
    expect((await redeem(token)).status).toBe(503);
    test.cloud.faults.clear();
    test.cloud.faults.add({ target: 'storage', match: { method: 'PUT' }, fault: { status: 503 } });
    expect((await redeem(token)).status).toBe(503);
    test.cloud.faults.clear();
    expect((await redeem(token)).json.device).toEqual({ id, moduleId: null });
    expect((await redeem(token)).json.code).toBe('join_token_invalid');
  });

  it('is granted when the answer of storage to using the token up is lost', async () => {
    const token = await tokenFor(await newDevice());
    test.cloud.faults.add({ target: 'storage', match: { method: 'PUT' }, fault: { cut: 'after' }, times: 1 });
    expect((await redeem(token)).status).toBe(200);
    expect((await redeem(token)).json.code).toBe('join_token_invalid');
  });
});

it('no token and no key is in what the API logs', async () => {
  const id = await newDevice();
  const token = await tokenFor(id);
  const { json } = await redeem(token);
  await redeem(token);
  const inHub = JSON.parse((await asHubOwner(test.cloud.hub, 'GET', `/devices/${id}`)).text);
  const logged = readFileSync(logFile, 'utf8');
  expect(logged).toContain('device_joined');
  for (const secret of [
    token,
    fieldOf(json.connectionString, 'SharedAccessKey'),
    inHub.authentication.symmetricKey.secondaryKey,
  ]) {
    expect(secret).toBeTruthy();
    expect(logged).not.toContain(secret);
  }
});
