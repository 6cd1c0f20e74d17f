import { request } from 'node:https';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import { issue, selfSigned } from '../../../local/kit/certificates.ts';
import { type KeyedDevice, Site } from './site.ts';

// As aziot-identityd asks its parent: api-version 2017-11-08-preview, on behalf of nobody but its own device.
let site: Site;
let gateway: Gateway;
let device: KeyedDevice;

beforeAll(async () => {
  site = await Site.open();
  gateway = await site.gateway({ id: 'gateway-1', scope: { identityRefreshDelayMs: 0 } });
  device = await site.device('press-1', gateway);
});

afterAll(() => site?.close());

interface Sent {
  body?: object;
  headers?: Record<string, string>;
  certificate?: { cert: string; key: string };
}

function call(method: string, path: string, { body, headers = {}, certificate }: Sent = {}) {
  const text = body === undefined ? '' : JSON.stringify(body);
  return new Promise<{ status: number; body: unknown }>((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        servername: 'localhost',
        port: gateway.ports.websocket,
        ca: gateway.root,
        method,
        path: `${path}?api-version=2017-11-08-preview`,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers },
        agent: false,
        ...certificate,
      },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('end', () => {
          const received = Buffer.concat(chunks).toString('utf8');
          resolve({ status: answer.statusCode ?? 0, body: received === '' ? undefined : JSON.parse(received) });
        });
      },
    );
    sent.once('error', reject);
    sent.end(text);
  });
}

const token = (key = device.key, deviceId = device.deviceId) => ({
  authorization: makeSasToken(`${site.hub.hostname}/devices/${deviceId}`, key, Math.floor(Date.now() / 1000) + 30),
});

const path = '/devices/press-1/modules/agent';
const body = { deviceId: 'press-1', moduleId: 'agent' };

test('a device makes, reads, changes, lists and deletes its modules through its gateway', async () => {
  const made = await call('PUT', path, { body, headers: token() });
  expect(made).toMatchObject({ status: 200, body: { ...body, generationId: expect.stringMatching(/^\d+$/) } });
  const keys = {
    primaryKey: Buffer.alloc(32, 1).toString('base64'),
    secondaryKey: Buffer.alloc(32, 2).toString('base64'),
  };
  const changed = await call('PUT', path, {
    body: { ...body, authentication: { type: 'sas', symmetricKey: keys } },
    headers: { ...token(), 'if-match': '*' },
  });
  expect(changed).toMatchObject({ status: 200, body: { authentication: { symmetricKey: keys } } });
  expect(await call('GET', path, { headers: token() })).toMatchObject({ status: 200, body });
  expect(await call('GET', '/devices/press-1/modules', { headers: token() })).toMatchObject({
    status: 200,
    body: [body],
  });
  const gone = await call('DELETE', path, { headers: { ...token(), 'if-match': '*' } });
  expect(gone).toEqual({ status: 204, body: undefined });
  expect(await call('GET', path, { headers: token() })).toMatchObject({
    status: 404,
    body: { Message: expect.stringContaining('not registered') },
  });
});

test('what the hub refuses comes through as it is', async () => {
  const again = { body: { deviceId: 'press-1', moduleId: 'twice' }, headers: token() };
  await call('PUT', '/devices/press-1/modules/twice', again);
  expect(await call('PUT', '/devices/press-1/modules/twice', again)).toMatchObject({
    status: 409,
    body: { Message: expect.stringContaining('ModuleAlreadyExistsOnDevice') },
  });
});

test('refuses another key, no token, the token of another device, and a device that is not behind it', async () => {
  const other = await site.device('press-2', gateway);
  const outside = await site.device('outside');
  expect(await call('GET', path, { headers: token(other.key) })).toEqual({ status: 401, body: undefined });
  expect((await call('GET', path)).status).toBe(401);
  expect((await call('GET', path, { headers: token(other.key, 'press-2') })).status).toBe(401);
  const own = { headers: token(outside.key, 'outside') };
  expect((await call('GET', '/devices/outside/modules', own)).status).toBe(401);
});

test('refuses a body about another module', async () => {
  expect(await call('PUT', path, { body: { ...body, moduleId: 'else' }, headers: token() })).toMatchObject({
    status: 400,
    body: { errorMessage: expect.stringContaining("doesn't match") },
  });
});

test('says 500 where it has no way to the hub', async () => {
  gateway.setOnline(false);
  try {
    expect(await call('GET', path, { headers: token() })).toMatchObject({
      status: 500,
      body: { errorMessage: expect.any(String) },
    });
  } finally {
    gateway.setOnline(true);
  }
});

test('a device with a certificate sends no token', async () => {
  const root = await selfSigned({ commonName: 'Device CA' });
  const { chain, privateKey, certificate } = await issue(root, { commonName: 'press-x', usages: ['clientAuth'] });
  const { X509Certificate } = await import('node:crypto');
  const primaryThumbprint = new X509Certificate(certificate).fingerprint256.replaceAll(':', '');
  await site.x509('selfSigned', 'press-x', gateway, { x509Thumbprint: { primaryThumbprint } });
  const own = { certificate: { cert: chain, key: privateKey } };
  const made = { body: { deviceId: 'press-x', moduleId: 'm' }, ...own };
  expect((await call('PUT', '/devices/press-x/modules/m', made)).status).toBe(200);
  const stranger = await issue(root, { commonName: 'press-x', usages: ['clientAuth'] });
  const forged = { certificate: { cert: stranger.chain, key: stranger.privateKey } };
  expect((await call('GET', '/devices/press-x/modules', forged)).status).toBe(401);
});
