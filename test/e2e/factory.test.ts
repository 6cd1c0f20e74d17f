import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  type Caller,
  callerWith,
  clientCredentialsToken,
  expectStatus,
  type Site,
  sendTheDocumentedWay,
  startSite,
  telemetryFrom,
} from './support.ts';

let site: Site;
let factory: Caller;

beforeAll(async () => {
  site = await startSite();
  factory = callerWith(site.cloud, `Bearer ${await clientCredentialsToken(site.cloud, 'factory')}`);
});

afterAll(() => site?.cloud.close());

it('takes a device from nothing to telemetry with a client-credentials token, one call per step', async () => {
  const device = '/devices/line-4.press-7';
  const created = expectStatus(await factory('POST', `${device}/onboard`, { gateway: site.gateway.id }), 201);
  expect(created.headers.get('cache-control')).toBe('no-store');
  const again = expectStatus(await factory('POST', `${device}/onboard`, { gateway: site.gateway.id }), 200);
  expect(again.body).toEqual(created.body);

  const read = expectStatus(await factory('GET', device), 200);
  expect(read.body).toMatchObject({ id: 'line-4.press-7', gateway: site.gateway.id, enabled: true });
  expect(JSON.stringify(read.body)).not.toMatch(/key/i);

  const issued = expectStatus(await factory('POST', `${device}/connection-string`, { credential: 'key' }), 200);
  expect(issued.body.connectionString).toBe(created.body.connectionString);
  await sendTheDocumentedWay(issued.body.connectionString, created.body.trust.roots[0].pem, { step: 'tested' });
  expect(await telemetryFrom(site.cloud, 'line-4.press-7')).toEqual([
    { body: { step: 'tested' }, gatewayId: site.gateway.id, moduleId: null },
  ]);

  const listed = expectStatus(await factory('GET', `/devices?gateway=${site.gateway.id}`), 200);
  expect(listed.body.value.map(({ id }: { id: string }) => id)).toContain('line-4.press-7');
  expectStatus(await factory('DELETE', device), 204);
  expectStatus(await factory('GET', device), 404);
});

it('rolls one key: the string with the rolled key is refused by the gateway, the other one goes on', async () => {
  const device = '/devices/roll-1';
  const { body: before } = expectStatus(await factory('POST', `${device}/onboard`, { gateway: site.gateway.id }), 201);
  expectStatus(await factory('POST', `${device}/keys/rotate`, { key: 'secondary' }), 200);
  await sendTheDocumentedWay(before.connectionString, site.gateway.root, { n: 1 });
  expectStatus(await factory('POST', `${device}/keys/rotate`, { key: 'primary' }), 200);
  // What a gateway remembers of a device it looks up again on its own terms; here it is told to.
  await site.gateway.refreshScope();
  await expect(sendTheDocumentedWay(before.connectionString, site.gateway.root, { n: 2 })).rejects.toThrow();
  const fresh = expectStatus(await factory('POST', `${device}/connection-string`, { credential: 'key' }), 200);
  await sendTheDocumentedWay(fresh.body.connectionString, site.gateway.root, { n: 3 });
  expect((await telemetryFrom(site.cloud, 'roll-1', 2)).map(({ body }) => body.n)).toEqual([1, 3]);
});

it('may not manage trust', async () => {
  const answer = await factory('POST', '/roots', { name: 'another', pem: site.gateway.root });
  expect([answer.status, answer.body.code]).toEqual([403, 'role_missing']);
});

it.each([
  ['nobody', 403, 'role_missing'],
  ['reader', 403, 'role_missing'],
])('the application "%s" may not onboard', async (name, status, code) => {
  const caller = callerWith(site.cloud, `Bearer ${await clientCredentialsToken(site.cloud, name)}`);
  const answer = await caller('POST', '/devices/nope/onboard', { gateway: site.gateway.id });
  expect([answer.status, answer.body.code]).toEqual([status, code]);
});

it('answers a problem that names what to do, and nothing without a token', async () => {
  const unknown = await factory('POST', '/devices/d-9/onboard', { gateway: 'nowhere' });
  expect(unknown.headers.get('content-type')).toContain('application/problem+json');
  expect([unknown.status, unknown.body.code]).toEqual([404, 'gateway_not_found']);
  const anonymous = await callerWith(site.cloud)('GET', '/devices');
  expect([anonymous.status, anonymous.body.code]).toEqual([401, 'token_missing']);
});
