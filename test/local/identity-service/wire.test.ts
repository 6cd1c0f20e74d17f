import { existsSync, statSync } from 'node:fs';
import { Agent } from 'node:http';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import type { IdentityService } from '../../../local/identity-service/identity-service.ts';
import { ask, Host } from './support.ts';

// What all three daemons have in common.
const v = 'api-version=2020-09-01';
let host: Host;
let services: IdentityService;
let root: string;

beforeAll(async () => {
  host = await Host.open();
  services = await host.services({ provisioning: { source: 'none' } });
  root = services.sockets(0);
});

afterAll(() => host?.close());

test('api-version is asked for before anything else', async () => {
  const missing = { status: 400, body: { message: 'api-version not specified' } };
  expect(await ask(root, 'identityd', '/identities/identity')).toMatchObject(missing);
  expect(await ask(root, 'keyd', '/nowhere')).toMatchObject(missing);
  expect(await ask(root, 'certd', '/certificates/x?api-version=2099-01-01')).toMatchObject({
    status: 400,
    contentType: 'application/json',
    body: { message: 'invalid api-version "2099-01-01"' },
  });
});

test('each daemon has its own versions', async () => {
  const status = async (service: 'identityd' | 'keyd' | 'certd', version: string) =>
    (await ask(root, service, `/nowhere?api-version=${version}`)).status;
  expect(await status('identityd', '2022-08-01')).toBe(404);
  expect(await status('identityd', '2021-05-01')).toBe(400);
  expect(await status('keyd', '2021-05-01')).toBe(404);
  expect(await status('certd', '2021-05-01')).toBe(400);
});

test('provisioning information is unknown to the first version', async () => {
  expect(await ask(root, 'identityd', `/identities/provisioning?${v}`)).toMatchObject({
    status: 404,
    body: { message: 'not found' },
  });
  expect((await ask(root, 'identityd', '/identities/provisioning?api-version=2021-12-01')).status).toBe(200);
});

test('a method that a path does not know is a 400, a path that nobody knows a 404', async () => {
  expect(await ask(root, 'identityd', `/identities/identity?${v}`, { method: 'DELETE' })).toMatchObject({
    status: 400,
    body: { message: 'method not allowed' },
  });
  expect((await ask(root, 'identityd', `/identities/identity?${v}`, { method: 'PATCH' })).status).toBe(400);
  expect((await ask(root, 'identityd', `/identities?${v}`)).status).toBe(404);
});

test('bodies: absent, of another type, and broken', async () => {
  const device = `/identities/device?${v}`;
  const message = (text: string) => ({ body: { message: text } });
  const post = (sent: object) => ask(root, 'identityd', device, { method: 'POST', ...sent });
  expect(await post({})).toMatchObject({ status: 400, ...message('missing request body') });
  const plain = { raw: '{"type":"aziot"}', headers: { 'content-type': 'text/plain' } };
  expect(await post(plain)).toMatchObject({ status: 400, ...message('missing request body') });
  expect((await post({ raw: '{"type":"aziot"}' })).body).toEqual({ message: 'device identity not found' });
  const withCharset = { raw: '{"type":"aziot"}', headers: { 'content-type': 'application/json; charset=utf-8' } };
  expect((await post(withCharset)).body).toEqual({ message: 'device identity not found' });
  expect((await post({ raw: '{' })).status).toBe(422);
  expect(await post({ raw: '{}' })).toMatchObject({
    status: 422,
    ...message('missing field `type` at line 1 column 2'),
  });
  const put = { method: 'PUT', raw: '{}', headers: { 'content-type': 'text/plain' } };
  expect(await ask(root, 'identityd', `/identities/modules/m?type=aziot&${v}`, put)).toMatchObject({
    status: 415,
    ...message('request body must be application/json'),
  });
});

test('a body that does not arrive is given up after five seconds', { timeout: 10_000 }, async () => {
  const socket = connect(join(root, 'keyd.sock'));
  onTestFinished(() => void socket.destroy());
  socket.write(`POST /sign?${v} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{`);
  const answer = await new Promise<string>((resolve) => socket.once('data', (data) => resolve(String(data))));
  expect(answer).toMatch(/^HTTP\/1\.1 408 /);
});

test('the authority is not looked at', async () => {
  const answer = await ask(root, 'identityd', `http://foo/trust-bundle?${v}`, { headers: { host: 'bar' } });
  expect(answer.body).toEqual({ certificate: '' });
});

test('sockets are for owner and group', () => {
  for (const name of ['identityd', 'keyd', 'certd']) {
    expect(statSync(join(root, `${name}.sock`)).mode & 0o777).toBe(0o660);
  }
});

test('the eleventh connection of a user is closed without a word; another user is not concerned', async () => {
  const user = services.sockets(4242);
  const open: Socket[] = [];
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
  });
  for (let count = 0; count < 10; count += 1) {
    const socket = connect(join(user, 'certd.sock'));
    open.push(socket);
    await new Promise((resolve) => socket.once('connect', resolve));
  }
  await expect.poll(() => services.connections('certd')).toBe(10);
  await expect(ask(user, 'certd', `/certificates/x?${v}`)).rejects.toThrow(/hang up|ECONNRESET|EPIPE/);
  expect((await ask(root, 'certd', `/certificates/x?${v}`)).status).toBe(400);
  expect((await ask(user, 'keyd', `/key/x?${v}`)).status).toBe(401);
  open.pop()?.destroy();
  await expect.poll(() => services.connections('certd')).toBe(9);
  expect((await ask(user, 'certd', `/certificates/x?${v}`)).status).toBe(400);
});

test('a pool of kept connections uses up the ten', async () => {
  const user = services.sockets(4242);
  const agent = new Agent({ keepAlive: true });
  onTestFinished(() => agent.destroy());
  await Promise.all(Array.from({ length: 10 }, () => ask(user, 'certd', `/certificates/x?${v}`, { agent })));
  await expect(ask(user, 'certd', `/certificates/x?${v}`)).rejects.toThrow(/hang up|ECONNRESET|EPIPE/);
});

test('refuses connections, and takes them again', async () => {
  await services.stop('keyd');
  expect(existsSync(join(root, 'keyd.sock'))).toBe(true);
  await expect(ask(root, 'keyd', `/key/x?${v}`)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  await services.start('keyd');
  expect((await ask(root, 'keyd', `/key/x?${v}`)).status).toBe(400);
});

test('misbehaves as it is told', async () => {
  const get = () => ask(root, 'certd', `/certificates/x?${v}`);
  services.misbehave({ service: 'certd', fault: 'internal', times: 1 });
  expect(await get()).toMatchObject({ status: 500, body: { message: 'internal error' } });
  services.misbehave({ service: 'certd', match: /^GET \/certificates/, fault: 'cut', times: 1 });
  await expect(get()).rejects.toThrow(/hang up|ECONNRESET/);
  services.misbehave({ service: 'certd', fault: { delayMs: 50 }, times: 1 });
  const begun = performance.now();
  await get();
  expect(performance.now() - begun).toBeGreaterThanOrEqual(49);
  services.misbehave({ service: 'certd', fault: 'hang' });
  const hanging = get();
  await expect(Promise.race([hanging, new Promise((resolve) => setTimeout(resolve, 50, 'nothing'))])).resolves.toBe(
    'nothing',
  );
  services.behave();
  expect((await get()).status).toBe(400);
  hanging.catch(() => {});
});
