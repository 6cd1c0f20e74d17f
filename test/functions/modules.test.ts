import { afterAll, beforeAll, expect, it } from 'vitest';
import { fieldOf, newId, startTestCloud, type TestCloud } from '../support/cloud.ts';

let test: TestCloud;
let gateway: string;
let device: string;

beforeAll(async () => {
  test = await startTestCloud();
  gateway = await test.newGateway();
  device = newId();
  await test.call('PUT', `/api/v1/devices/${device}`, { json: { gateway } });
});

afterAll(() => test?.close());

const path = (moduleId: string, deviceId = device) => `/api/v1/devices/${deviceId}/modules/${moduleId}`;

it('a module is made with and without a body, read, and deleted', async () => {
  const first = await test.call('PUT', path('meter'));
  expect([first.status, first.json]).toEqual([
    201,
    { id: 'meter', deviceId: device, auth: { type: 'sas' }, connection: { state: 'disconnected', lastActivity: null } },
  ]);
  const second = await test.call('PUT', path('meter'), { json: {} });
  expect([second.status, second.json]).toEqual([200, first.json]);
  expect((await test.call('GET', path('meter'))).json).toEqual(first.json);
  expect(await test.outcome('DELETE', path('meter'))).toBe('204');
  expect(await test.outcome('GET', path('meter'))).toBe('404 module_not_found');
  expect(await test.outcome('DELETE', path('meter'))).toBe('404 module_not_found');
});

it('a module is refused on what is no device, with an id of the platform, and with fields', async () => {
  expect(await test.outcome('PUT', path('meter', 'nobody'))).toBe('404 device_not_found');
  expect(await test.outcome('PUT', path('meter', gateway))).toBe('409 device_is_gateway');
  expect(await test.outcome('PUT', path('%24edgeHub'))).toBe('400 invalid_request');
  expect(await test.outcome('PUT', path('meter'), { json: { auth: 'sas' } })).toBe('400 invalid_request');
});

it("a module's connection string names the module and is signed with its own key", async () => {
  await test.call('PUT', path('pump'));
  const issue = (json: unknown) => test.call('POST', `${path('pump')}/connection-string`, { json });
  const [key, secondary] = [await issue({ credential: 'key' }), await issue({ credential: 'key', key: 'secondary' })];
  expect(key.status).toBe(200);
  expect(key.headers.get('cache-control')).toBe('no-store');
  expect(key.json.connectionString).toMatch(
    new RegExp(
      `^HostName=[^;]+;DeviceId=${device};ModuleId=pump;SharedAccessKey=[^;]+;GatewayHostName=gw.example.com$`,
    ),
  );
  const sharedKey = (answer: typeof key) => fieldOf(answer.json.connectionString, 'SharedAccessKey');
  expect(sharedKey(secondary)).not.toBe(sharedKey(key));
  const ofDevice = await test.call('POST', `/api/v1/devices/${device}/connection-string`, {
    json: { credential: 'key' },
  });
  expect(sharedKey(ofDevice)).not.toBe(sharedKey(key));
  const sas = await issue({ credential: 'sas' });
  expect(sas.json.connectionString).toContain(encodeURIComponent(`/devices/${device}/modules/pump`));
  expect((await issue({ credential: 'x509' })).json.code).toBe('credential_mismatch');
  expect(await test.outcome('POST', `${path('nothing')}/connection-string`, { json: { credential: 'key' } })).toBe(
    '404 module_not_found',
  );
});
