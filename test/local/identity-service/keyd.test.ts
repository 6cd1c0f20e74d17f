import { createHmac, createPublicKey, verify } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { IdentityService } from '../../../local/identity-service/identity-service.ts';
import { ask, Host } from './support.ts';

const v = 'api-version=2021-05-01';
let host: Host;
let services: IdentityService;

beforeAll(async () => {
  host = await Host.open();
  const grants = [{ uid: 4242, keys: ['mine-*', 'one?'] }];
  services = await host.services({ provisioning: { source: 'none' }, grants });
});

afterAll(() => host?.close());

const b64 = (text: string) => Buffer.from(text).toString('base64');
const call = (path: string, body?: object, uid = 0, method?: string) =>
  ask(services.sockets(uid), 'keyd', `${path}?${v}`, {
    ...(body === undefined ? {} : { body }),
    ...(method === undefined ? {} : { method }),
  });

async function newHandle(path: string, body: object): Promise<string> {
  const answer = await call(path, body);
  expect(answer.status).toBe(200);
  return answer.body.keyHandle;
}

const sign = (keyHandle: string, algorithm: string, parameters: object) =>
  call('/sign', { keyHandle, algorithm, parameters });

test('a handle is signed, names its key, and is another one at every call', async () => {
  const handle = await newHandle('/key', { keyId: 'k1', usage: 'sign', keyBytes: b64('secret key') });
  const again = (await call('/key/k1')).body.keyHandle;
  expect(again).not.toBe(handle);
  const [, sr = ''] = /^sr=([^&]+)&sig=[^&]+$/.exec(handle) ?? [];
  expect(JSON.parse(Buffer.from(sr, 'base64').toString())).toEqual({
    key_id: { Key: 'k1' },
    nonce: expect.stringMatching(/^.{88}$/),
  });
  const message = b64('message');
  const expected = createHmac('sha256', 'secret key').update('message').digest('base64');
  for (const each of [handle, again]) {
    expect((await sign(each, 'HMAC-SHA256', { message })).body).toEqual({ signature: expected });
  }
});

test('a handle that was touched is invalid, and so is everything else', async () => {
  const handle = await newHandle('/key', { keyId: 'k2', usage: 'sign' });
  const invalid = {
    status: 400,
    body: { message: 'parameter "handle" has an invalid value\ncaused by: invalid handle' },
  };
  const [sr = '', sig = ''] = handle.split('&sig=');
  const other = Buffer.from(JSON.stringify({ key_id: { Key: 'k1' }, nonce: '' })).toString('base64');
  for (const forged of [`sr=${other}&sig=${sig}`, `${sr}&sig=${b64('x')}`, 'k2', '']) {
    expect(await sign(forged, 'HMAC-SHA256', { message: b64('m') })).toMatchObject(invalid);
  }
});

test('whoever has a handle may use it; ids are for those who are granted them', async () => {
  const handle = await newHandle('/key', { keyId: 'foo', usage: 'sign' });
  const body = { keyHandle: handle, algorithm: 'HMAC-SHA256', parameters: { message: b64('m') } };
  expect((await call('/sign', body, 4242)).status).toBe(200);
  expect(await call('/key/foo', undefined, 4242)).toMatchObject({
    status: 401,
    body: { message: 'user 4242 is not authorized to access the key foo' },
  });
  expect((await call('/key', { keyId: 'mine-1', usage: 'sign' }, 4242)).status).toBe(200);
  expect((await call('/key', { keyId: 'one1', usage: 'sign' }, 4242)).status).toBe(200);
  expect((await call('/key', { keyId: 'one12', usage: 'sign' }, 4242)).status).toBe(401);
});

test('a key is made once, an import overwrites it', async () => {
  const of = async (handle: string) => (await sign(handle, 'HMAC-SHA256', { message: b64('m') })).body.signature;
  const first = await of(await newHandle('/key', { keyId: 'k3', usage: 'derive,sign' }));
  expect(await of(await newHandle('/key', { keyId: 'k3', usage: 'derive,sign' }))).toBe(first);
  const imported = await newHandle('/key', { keyId: 'k3', usage: 'sign', keyBytes: b64('other') });
  expect(await of(imported)).not.toBe(first);
});

test('usage is required, also of an import, and unknown keys are told from refused ones', async () => {
  const missing = await call('/key', { keyId: 'k4', keyBytes: b64('k') });
  expect(missing.status).toBe(422);
  expect(missing.body.message).toMatch(/^missing field `usage` at line 1 column \d+$/);
  expect((await call('/key', { keyId: 'k4', usage: 'everything' })).status).toBe(422);
  expect(await call('/key/nothing')).toMatchObject({
    status: 400,
    body: { message: 'a parameter has an invalid value' },
  });
  const unpadded = { keyId: 'k4', usage: 'sign', keyBytes: b64('a').replaceAll('=', '') };
  expect((await call('/key', unpadded)).status).toBe(422);
});

test('a derived key signs with the HMAC of what it is derived by, can be exported, and not derived from again', async () => {
  const base = await newHandle('/key', { keyId: 'master', usage: 'derive', keyBytes: b64('master') });
  const derived = await newHandle('/derivedkey', { baseKeyHandle: base, derivationData: b64('m:1:primary') });
  expect(derived.length).toBeGreaterThan(500);
  const key = createHmac('sha256', 'master').update('m:1:primary').digest();
  expect((await call('/derivedkey/export', { keyHandle: derived })).body).toEqual({ key: key.toString('base64') });
  const signature = createHmac('sha256', key).update('message').digest('base64');
  expect((await sign(derived, 'HMAC-SHA256', { message: b64('message') })).body).toEqual({ signature });
  const nested = await call('/derivedkey', { baseKeyHandle: derived, derivationData: b64('x') });
  expect(nested.status).toBe(400);
  expect(nested.body.message).toContain('nested derived keys are not supported');
  expect((await call('/derivedkey/export', { keyHandle: base })).body.message).toContain('not for a derived key');
});

test('a key pair signs digests, tells its public key, and moves', async () => {
  const handle = await newHandle('/keypair', { keyId: 'pair', preferredAlgorithms: 'ec-p256:rsa-2048' });
  const parameter = async (name: string) => (await call(`/parameters/${name}`, { keyHandle: handle })).body.value;
  expect(await parameter('algorithm')).toBe('ECDSA');
  const point = Buffer.from(await parameter('ec-point'), 'base64');
  const key = createPublicKey({
    key: {
      kty: 'EC',
      crv: 'P-256',
      x: point.subarray(1, 33).toString('base64url'),
      y: point.subarray(33).toString('base64url'),
    },
    format: 'jwk',
  });
  const { createHash } = await import('node:crypto');
  const digest = createHash('sha256').update('text').digest('base64');
  const signed = await sign(handle, 'ECDSA', { digest });
  expect(verify('sha256', Buffer.from('text'), key, Buffer.from(signed.body.signature, 'base64'))).toBe(true);
  expect(await sign(handle, 'HMAC-SHA256', { message: b64('m') })).toMatchObject({
    status: 400,
    body: {
      message: 'parameter "mechanism" has an invalid value\ncaused by: mechanism cannot be used with this key type',
    },
  });
  expect((await call('/keypair/moved', { from: 'pair' })).status).toBe(204);
  expect((await call('/keypair/pair')).status).toBe(400);
  expect((await call('/keypair/moved', { from: 'moved' })).status).toBe(400);
  const moved = (await call('/keypair/moved')).body.keyHandle;
  expect((await call('/keypair', { keyHandle: moved }, 0, 'DELETE')).status).toBe(204);
  expect((await call('/keypair/moved')).status).toBe(400);
});

test('an RSA pair is used through encrypt', async () => {
  const handle = await newHandle('/keypair', { keyId: 'rsa', preferredAlgorithms: 'rsa-2048' });
  const parameter = async (name: string) => (await call(`/parameters/${name}`, { keyHandle: handle })).body.value;
  const n = Buffer.from(await parameter('rsa-modulus'), 'base64').toString('base64url');
  const e = Buffer.from(await parameter('rsa-exponent'), 'base64').toString('base64url');
  const key = createPublicKey({ key: { kty: 'RSA', n, e }, format: 'jwk' });
  const body = { keyHandle: handle, algorithm: 'RSA-PKCS1', plaintext: b64('padded by the caller') };
  const { ciphertext } = (await call('/encrypt', body)).body;
  const { publicDecrypt } = await import('node:crypto');
  expect(publicDecrypt(key, Buffer.from(ciphertext, 'base64')).toString()).toBe('padded by the caller');
});

test('AEAD seals with a version byte and opens again', async () => {
  const keyHandle = await newHandle('/key', { keyId: 'aead', usage: 'encrypt' });
  const parameters = { iv: b64('123456789012'), aad: b64('aad') };
  const sealed = await call('/encrypt', { keyHandle, algorithm: 'AEAD', parameters, plaintext: b64('plain') });
  const bytes = Buffer.from(sealed.body.ciphertext, 'base64');
  expect(bytes[0]).toBe(2);
  expect(bytes).toHaveLength(1 + 5 + 16);
  const open = (aad: string) =>
    call('/decrypt', {
      keyHandle,
      algorithm: 'AEAD',
      parameters: { ...parameters, aad },
      ciphertext: sealed.body.ciphertext,
    });
  expect((await open(b64('aad'))).body).toEqual({ plaintext: b64('plain') });
  expect(await open(b64('bad'))).toMatchObject({ status: 500, body: { message: 'internal error' } });
});

test('handles outlive a restart, unless their key was lost', async () => {
  const handle = await newHandle('/key', { keyId: 'k5', usage: 'sign' });
  services.restartKeyd();
  expect((await sign(handle, 'HMAC-SHA256', { message: b64('m') })).status).toBe(200);
  services.restartKeyd({ forgetHandles: true });
  expect((await sign(handle, 'HMAC-SHA256', { message: b64('m') })).body.message).toContain('invalid handle');
  const fresh = (await call('/key/k5')).body.keyHandle;
  expect((await sign(fresh, 'HMAC-SHA256', { message: b64('m') })).status).toBe(200);
  expect((await call('/key', { keyHandle: fresh }, 0, 'DELETE')).status).toBe(204);
  expect((await call('/key/k5')).status).toBe(400);
});
