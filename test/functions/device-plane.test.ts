import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fieldOf, newId, sasOf, startTestCloud, type TestCloud } from '../support/cloud.ts';

let test: TestCloud;
let gateway: string;
let hub: string;

beforeAll(async () => {
  test = await startTestCloud();
  gateway = await test.newGateway({ hostname: 'gw.example.com', ports: { mqtt: 18883 } });
  hub = test.cloud.hub.hostname;
});

afterAll(() => test?.close());

interface Onboarded {
  id: string;
  key: string;
}

async function onboarded(json: Record<string, unknown> = {}): Promise<Onboarded> {
  const id = newId();
  const answer = await test.call('POST', `/api/v1/devices/${id}/onboard`, { json: { gateway, ...json } });
  return { id, key: fieldOf(answer.json.connectionString, 'SharedAccessKey') ?? '' };
}

async function keyOf(id: string, json: unknown, module = ''): Promise<string> {
  const answer = await test.call('POST', `/api/v1/devices/${id}${module}/connection-string`, { json });
  return fieldOf(answer.json.connectionString, 'SharedAccessKey') ?? '';
}

describe('GET /devices/{id}/onboarding', () => {
  it('answers the device the document as it is now, with a fresh SAS token and no key', async () => {
    const { id, key } = await onboarded();
    const authorization = sasOf({ hub, deviceId: id, key });
    const answer = await test.call('GET', `/api/v1/devices/${id}/onboarding`, { authorization });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(answer.json).toMatchObject({
      device: { id, moduleId: null },
      hub: { hostname: hub },
      gateway: { id: gateway, hostname: 'gw.example.com', ports: { mqtt: 18883 } },
      trust: { sequence: expect.any(Number) },
    });
    expect(answer.json.connectionString).toMatch(/;SharedAccessSignature=.+;GatewayHostName=gw\.example\.com:18883$/);
    expect(answer.text).not.toContain(key);
    expect(Math.abs(Date.parse(answer.json.expiresAt) - Date.now() - 3_600_000)).toBeLessThan(10_000);
  });

  it('names the gateway that the device was moved to', async () => {
    const { id, key } = await onboarded();
    const other = await test.newGateway({ hostname: 'other.example.com' });
    await test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway: other } });
    const authorization = sasOf({ hub, deviceId: id, key });
    const { json } = await test.call('GET', `/api/v1/devices/${id}/onboarding`, { authorization });
    expect(json.gateway).toMatchObject({ id: other, hostname: 'other.example.com' });
  });

  it('takes the secondary key as well', async () => {
    const { id } = await onboarded();
    const key = await keyOf(id, { credential: 'key', key: 'secondary' });
    const authorization = sasOf({ hub, deviceId: id, key });
    expect(await test.outcome('GET', `/api/v1/devices/${id}/onboarding`, { authorization })).toBe('200');
  });

  it('answers a module its own document', async () => {
    const { id } = await onboarded({ modules: ['meter'] });
    const key = await keyOf(id, { credential: 'key' }, '/modules/meter');
    const authorization = sasOf({ hub, deviceId: id, moduleId: 'meter', key });
    const { json } = await test.call('GET', `/api/v1/devices/${id}/onboarding`, { authorization });
    expect(json.device).toEqual({ id, moduleId: 'meter' });
    expect(json.connectionString).toContain(`;ModuleId=meter;SharedAccessSignature=`);
  });

  it('refuses everybody else', async () => {
    const { id, key } = await onboarded();
    const other = await onboarded();
    const path = `/api/v1/devices/${id}/onboarding`;
    const tokens = {
      'of another device': sasOf({ hub, deviceId: other.id, key: other.key }),
      'with the key of another device': sasOf({ hub, deviceId: id, key: other.key }),
      expired: sasOf({ hub, deviceId: id, key, expiresInSeconds: -400 }),
      'of another hub': sasOf({ hub: 'other.azure-devices.net', deviceId: id, key }),
      'of an operator': undefined,
    };
    for (const [whose, authorization] of Object.entries(tokens)) {
      const outcome = await test.outcome('GET', path, authorization === undefined ? {} : { authorization });
      expect([whose, outcome]).toEqual([whose, '401 device_token_invalid']);
    }
    expect(await test.outcome('GET', path, { authorization: null })).toBe('401 device_token_invalid');
  });

  it('forgives a clock that is up to five minutes off', async () => {
    const { id, key } = await onboarded();
    const authorization = sasOf({ hub, deviceId: id, key, expiresInSeconds: -200 });
    expect(await test.outcome('GET', `/api/v1/devices/${id}/onboarding`, { authorization })).toBe('200');
  });
});

describe('POST /devices/{id}/sas-token', () => {
  it('gives a token that proves the device as one of its own does', async () => {
    const { id, key } = await onboarded();
    const authorization = sasOf({ hub, deviceId: id, key });
    const path = `/api/v1/devices/${id}/sas-token`;
    const answer = await test.call('POST', path, { authorization, json: { ttlSeconds: 120 } });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    expect(Math.abs(Date.parse(answer.json.expiresAt) - Date.now() - 120_000)).toBeLessThan(10_000);
    expect(answer.json).toMatchObject({
      hub: { hostname: hub },
      gateway: { id: gateway, hostname: 'gw.example.com', ports: { mqtt: 18883, amqp: 5671, websocket: 443 } },
    });
    expect(answer.text).not.toContain(key);
    const again = await test.outcome('POST', path, { authorization: answer.json.sasToken });
    expect(again).toBe('200');
  });

  it('refuses lifetimes out of bounds and fields that it does not know', async () => {
    const { id, key } = await onboarded();
    const authorization = sasOf({ hub, deviceId: id, key });
    for (const json of [{ ttlSeconds: 59 }, { ttlSeconds: 2_592_001 }, { key: 'primary' }]) {
      const outcome = await test.outcome('POST', `/api/v1/devices/${id}/sas-token`, { authorization, json });
      expect(outcome).toBe('400 invalid_request');
    }
  });

  it('is refused to a device that is disabled', async () => {
    const { id, key } = await onboarded();
    await test.call('PUT', `/api/v1/devices/${id}`, { json: { gateway, enabled: false } });
    const authorization = sasOf({ hub, deviceId: id, key });
    const outcome = await test.outcome('POST', `/api/v1/devices/${id}/sas-token`, { authorization });
    expect(outcome).toBe('401 device_token_invalid');
  });
});
