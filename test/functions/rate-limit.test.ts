import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fieldOf, newId, sasOf, startTestCloud, type TestCloud } from '../support/cloud.ts';

const limit = 10;
let test: TestCloud;
let gateway: string;
/** Two instances of the app on one storage account. */
let instances: string[];

beforeAll(async () => {
  test = await startTestCloud({
    apiEnv: {
      GATEPOST_LIMIT_DEVICE_PER_MINUTE: String(limit),
      GATEPOST_LIMIT_JOIN_PER_MINUTE: String(limit),
      GATEPOST_LIMIT_CALLER_PER_MINUTE: '40',
    },
  });
  gateway = await test.newGateway();
  instances = [test.cloud.api, await test.cloud.addApi()];
});
afterAll(() => test?.close());

async function newDevice(authorization?: string): Promise<{ id: string; key: string }> {
  const id = newId();
  const json = { gateway };
  const answer = await test.call('POST', `/api/v1/devices/${id}/onboard`, {
    json,
    ...(authorization === undefined ? {} : { authorization }),
  });
  return { id, key: fieldOf(answer.json.connectionString, 'SharedAccessKey') ?? '' };
}

/** Makes a call many times, in turn at each instance, and counts the answers by status. */
async function storm(times: number, path: string, init: RequestInit) {
  const began = performance.now();
  const answers = await Promise.all(
    Array.from({ length: times }, (_, n) => fetch(new URL(path, instances[n % instances.length]), init)),
  );
  const limited = answers.filter(({ status }) => status === 429);
  // What came back to the bucket meanwhile may be used too.
  const most = limit + Math.ceil(((performance.now() - began) / 60_000) * limit);
  return { passed: times - limited.length, limited, most };
}

async function expectLimited({ passed, limited, most }: Awaited<ReturnType<typeof storm>>): Promise<void> {
  expect(passed).toBeGreaterThanOrEqual(limit);
  expect(passed).toBeLessThanOrEqual(most);
  const [one] = limited;
  expect(Number(one?.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(Number(one?.headers.get('retry-after'))).toBeLessThanOrEqual(6);
  expect(one?.headers.get('content-type')).toContain('application/problem+json');
  expect(await one?.json()).toMatchObject({ code: 'rate_limited', status: 429 });
}

describe('over two instances of the app', () => {
  it('a device may call so often, and another one all the same', async () => {
    const { id, key } = await newDevice();
    const headers = { authorization: sasOf({ hub: test.cloud.hub.hostname, deviceId: id, key }) };
    await expectLimited(await storm(40, `/api/v1/devices/${id}/sas-token`, { method: 'POST', headers }));
    const other = await newDevice();
    const authorization = sasOf({ hub: test.cloud.hub.hostname, deviceId: other.id, key: other.key });
    expect(await test.outcome('POST', `/api/v1/devices/${other.id}/sas-token`, { authorization })).toBe('200');
  });

  it('its credentials are issued to operators so often, and the device is limited with them', async () => {
    const { id, key } = await newDevice();
    const headers = { authorization: `Bearer ${test.cloud.operatorToken}`, 'content-type': 'application/json' };
    const body = '{"credential":"key"}';
    await expectLimited(await storm(30, `/api/v1/devices/${id}/connection-string`, { method: 'POST', headers, body }));
    const authorization = sasOf({ hub: test.cloud.hub.hostname, deviceId: id, key });
    expect(await test.outcome('GET', `/api/v1/devices/${id}/onboarding`, { authorization })).toBe('429 rate_limited');
  });

  it('an operator may onboard so often, whatever device, and another one all the same', async () => {
    const [one, other] = [await test.tokenWith('Fleet.Provision'), await test.tokenWith('Fleet.Provision')];
    const headers = { authorization: one, 'content-type': 'application/json' };
    const init = { method: 'POST', headers, body: JSON.stringify({ gateway: 'nowhere' }) };
    const { passed, limited } = await storm(80, `/api/v1/devices/${newId()}/onboard`, init);
    expect(passed).toBeGreaterThanOrEqual(40);
    expect(limited.length).toBeGreaterThan(20);
    expect((await newDevice(other)).key).not.toBe('');
    const path = `/api/v1/devices/${newId()}`;
    expect(await test.outcome('PUT', path, { json: { gateway }, authorization: one })).toBe('201');
  });

  it('whoever guesses join tokens is slowed down by address, and another address is not', async () => {
    const init = (address: string) => ({
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-forwarded-for': address },
      body: JSON.stringify({ token: 'a-guess' }),
    });
    await expectLimited(await storm(40, '/api/v1/join', init('1.2.3.4, 203.0.113.7:4711')));
    const { status } = await fetch(`${instances[1]}/api/v1/join`, init('198.51.100.9:4711'));
    expect(status).toBe(401);
  });
});

it('the trust bundle is limited for nobody, and counting costs it no call of storage', async () => {
  await test.call('GET', '/api/v1/trust-bundle', { authorization: null });
  test.cloud.faults.resetCalls();
  const statuses = await Promise.all(
    Array.from({ length: 200 }, async () => (await fetch(`${test.cloud.api}/api/v1/trust-bundle`)).status),
  );
  expect(new Set(statuses)).toEqual(new Set([200]));
  expect(test.cloud.faults.calls().storage).toEqual({});
});
