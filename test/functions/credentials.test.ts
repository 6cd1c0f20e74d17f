import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { fieldOf, newId, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { asHubOwner } from '../support/hub-owner.ts';

let test: TestCloud;
let gateway: string;

beforeAll(async () => {
  test = await startTestCloud({ apiEnv: { GATEPOST_UPSTREAM_TIMEOUT_MS: '2000' } });
  gateway = await test.newGateway();
});

afterEach(() => test.cloud.faults.clear());

afterAll(() => test?.close());

async function newDevice(json: Record<string, unknown> = {}): Promise<string> {
  const id = newId();
  const answer = await test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway, ...json } });
  expect(answer.status).toBe(201);
  return id;
}

const issue = (id: string, json: unknown) => test.call('POST', `/api/v1/devices/${id}/connection-string`, { json });
const outcome = (id: string, json: unknown) =>
  test.outcome('POST', `/api/v1/devices/${id}/connection-string`, { json });
const keyOf = async (id: string, key: 'primary' | 'secondary') =>
  fieldOf((await issue(id, { credential: 'key', key })).json.connectionString, 'SharedAccessKey');

describe('POST /devices/{id}/connection-string', () => {
  it('gives the key that is asked for, which is the one that the hub has', async () => {
    const id = await newDevice();
    const inHub = JSON.parse((await asHubOwner(test.cloud.hub, 'GET', `/devices/${id}`)).text);
    const { primaryKey, secondaryKey } = inHub.authentication.symmetricKey;
    const answer = await issue(id, { credential: 'key' });
    expect(answer.json).toEqual({
      connectionString: `HostName=${test.cloud.hub.hostname};DeviceId=${id};SharedAccessKey=${primaryKey};GatewayHostName=gw.example.com`,
      expiresAt: null,
    });
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(await keyOf(id, 'secondary')).toBe(secondaryKey);
  });

  it('gives a SAS token of the lifetime that is asked for', async () => {
    const id = await newDevice();
    for (const [ttlSeconds, expected] of [
      [undefined, 3600],
      [60, 60],
      [2_592_000, 2_592_000],
    ]) {
      const { json } = await issue(id, { credential: 'sas', ...(ttlSeconds === undefined ? {} : { ttlSeconds }) });
      const seconds = (Date.parse(json.expiresAt) - Date.now()) / 1000;
      expect(Math.abs(seconds - (expected ?? 0))).toBeLessThan(10);
      const token = fieldOf(json.connectionString, 'SharedAccessSignature');
      expect(token).toContain(`sr=${encodeURIComponent(`${test.cloud.hub.hostname}/devices/${id}`)}&`);
      expect(token).toContain(`&se=${Date.parse(json.expiresAt) / 1000}`);
    }
  });

  it('refuses a credential that the device cannot have', async () => {
    const certificates = await newDevice({ auth: { type: 'certificateAuthority' } });
    expect(await outcome(certificates, { credential: 'key' })).toBe('409 credential_mismatch');
    expect(await outcome(certificates, { credential: 'sas' })).toBe('409 credential_mismatch');
    expect(await outcome(certificates, { credential: 'x509' })).toBe('200');
    expect(await outcome(await newDevice(), { credential: 'x509' })).toBe('409 credential_mismatch');
  });

  it('refuses devices that are unknown, disabled, gateways, or have no gateway', async () => {
    expect(await outcome('nobody', { credential: 'key' })).toBe('404 device_not_found');
    expect(await outcome(await newDevice({ enabled: false }), { credential: 'key' })).toBe('409 device_disabled');
    expect(await outcome(gateway, { credential: 'key' })).toBe('409 device_is_gateway');
    const loose = newId();
    await asHubOwner(test.cloud.hub, 'PUT', `/devices/${loose}`, { deviceId: loose });
    expect(await outcome(loose, { credential: 'key' })).toBe('409 device_has_no_gateway');
  });

  it('refuses a device whose gateway was deleted or made anew, until it is put again', async () => {
    const home = await test.newGateway();
    const id = newId();
    await test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway: home } });
    expect(await outcome(id, { credential: 'key' })).toBe('200');
    await test.call('DELETE', `/api/v1/gateways/${home}?orphan=true`);
    expect(await outcome(id, { credential: 'key' })).toBe('409 device_has_no_gateway');
    await test.call('PUT', `/api/v1/gateways/${home}`, { json: { hostname: 'gw.example.com' } });
    expect(await outcome(id, { credential: 'key' })).toBe('409 device_has_no_gateway');
    await test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway: home } });
    expect(await outcome(id, { credential: 'key' })).toBe('200');
  });

  it('names the host name that the gateway has now', async () => {
    const home = await test.newGateway();
    const id = newId();
    await test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway: home } });
    await test.call('PUT', `/api/v1/gateways/${home}`, { json: { hostname: 'renamed.example.com' } });
    const { json } = await issue(id, { credential: 'key' });
    expect(fieldOf(json.connectionString, 'GatewayHostName')).toBe('renamed.example.com');
  });

  it.each([
    {},
    { credential: 'password' },
    { credential: 'sas', ttlSeconds: 59 },
    { credential: 'sas', ttlSeconds: 2_592_001 },
    { credential: 'key', ttlSeconds: 60 },
    { credential: 'key', colour: 'red' },
  ])('refuses the body %j', async (json) => {
    expect(await outcome(await newDevice(), json)).toBe('400 invalid_request');
  });

  it('needs Credential.Issue', async () => {
    const path = `/api/v1/devices/${await newDevice()}/connection-string`;
    const json = { credential: 'key' };
    const authorization = await test.tokenWith('Fleet.Provision', 'Fleet.Read', 'Trust.Manage');
    expect(await test.outcome('POST', path, { json, authorization })).toBe('403 role_missing');
    const issuer = await test.tokenWith('Credential.Issue');
    expect(await test.outcome('POST', path, { json, authorization: issuer })).toBe('200');
  });
});

describe('POST /devices/{id}/keys/rotate', () => {
  const rotate = (id: string, key: string) => test.call('POST', `/api/v1/devices/${id}/keys/rotate`, { json: { key } });

  it.each(['primary', 'secondary'] as const)('rolls the %s key and keeps the other', async (which) => {
    const kept = which === 'primary' ? 'secondary' : 'primary';
    const id = await newDevice();
    const before = [await keyOf(id, which), await keyOf(id, kept)];
    const answer = await rotate(id, which);
    expect(answer).toMatchObject({ status: 200, json: { id, rotated: which, kept } });
    expect(answer.json.note).toMatch(/3600/);
    const after = [await keyOf(id, which), await keyOf(id, kept)];
    expect(after[0]).not.toBe(before[0]);
    expect(Buffer.from(after[0] ?? '', 'base64').byteLength).toBe(32);
    expect(after[1]).toBe(before[1]);
    for (const key of [...before, ...after]) expect(answer.text).not.toContain(key);
    expect((await test.call('GET', `/api/v1/devices/${id}`)).json).toMatchObject({ gateway, enabled: true });
  });

  it('rolls a key once when the answer of the hub is lost', async () => {
    const id = await newDevice();
    const before = await keyOf(id, 'primary');
    test.cloud.faults.add({ target: 'hub', match: { method: 'PUT' }, fault: { cut: 'after' }, times: 1 });
    expect((await rotate(id, 'primary')).status).toBe(200);
    expect(await keyOf(id, 'primary')).not.toBe(before);
  });

  it('rolls both keys when both are rolled at once', async () => {
    const id = await newDevice();
    const before = [await keyOf(id, 'primary'), await keyOf(id, 'secondary')];
    const both = await Promise.all([rotate(id, 'primary'), rotate(id, 'secondary')]);
    expect(both.map((each) => each.status)).toEqual([200, 200]);
    expect(await keyOf(id, 'primary')).not.toBe(before[0]);
    expect(await keyOf(id, 'secondary')).not.toBe(before[1]);
  });

  it('is refused where there is no such device or key', async () => {
    expect((await rotate('nobody', 'primary')).json.code).toBe('device_not_found');
    expect((await rotate(gateway, 'primary')).json.code).toBe('device_is_gateway');
    expect((await rotate(await newDevice(), 'both')).json.code).toBe('invalid_request');
    const certificates = await newDevice({ auth: { type: 'certificateAuthority' } });
    expect((await rotate(certificates, 'primary')).json.code).toBe('credential_mismatch');
  });
});
