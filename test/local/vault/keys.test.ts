import {
  constants,
  createHash,
  createPublicKey,
  generateKeyPairSync,
  type JsonWebKey,
  verify,
  webcrypto,
} from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KeyVaultKey } from '@azure/keyvault-keys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { VaultRole } from '../../../local/vault/vault.ts';
import { type Clients, collect, refusal, type TestVault, testVault } from './support.ts';

let cloud: TestVault;
let admin: Clients;

beforeAll(async () => {
  cloud = await testVault();
  admin = cloud.as('Key Vault Administrator');
});
afterAll(() => cloud.close());

const message = Buffer.from('a certificate to be signed');

/** The key as OpenSSL knows it, from nothing but what the vault publishes. */
function publicKey(key: KeyVaultKey) {
  const text = (bytes: Uint8Array | undefined) =>
    bytes === undefined ? undefined : Buffer.from(bytes).toString('base64url');
  const { kty, crv, x, y, n, e } = key.key ?? {};
  const jwk = { kty, crv: crv === 'P-256K' ? 'secp256k1' : crv, x: text(x), y: text(y), n: text(n), e: text(e) };
  return createPublicKey({ key: JSON.parse(JSON.stringify(jwk)) as JsonWebKey, format: 'jwk' });
}

describe('an elliptic curve key', () => {
  it.each([
    ['P-256', 'ES256', 'sha256', 64],
    ['P-384', 'ES384', 'sha384', 96],
    ['P-521', 'ES512', 'sha512', 132],
    ['P-256K', 'ES256K', 'sha256', 64],
  ] as const)(
    '%s signs a digest with %s, which OpenSSL verifies as r||s over the message',
    async (curve, algorithm, hash, length) => {
      const key = await admin.keys.createEcKey(`ec-${curve}`, { curve });
      expect(key).toMatchObject({ keyType: 'EC', keyOperations: ['sign', 'verify'] });
      const digest = createHash(hash).update(message).digest();
      const crypto = admin.crypto(key);
      for (let round = 0; round < 8; round += 1) {
        const { result } = await crypto.sign(algorithm, digest);
        expect(result).toHaveLength(length);
        const options = { key: publicKey(key), dsaEncoding: 'ieee-p1363' as const };
        expect(verify(hash, message, options, result)).toBe(true);
        expect(verify(hash, Buffer.from('another message'), options, result)).toBe(false);
        expect((await crypto.verify(algorithm, digest, result)).result).toBe(true);
      }
    },
  );

  it('signs what WebCrypto verifies, as @peculiar/x509 does with a remote signer', async () => {
    const key = await admin.keys.createEcKey('webcrypto', { curve: 'P-256' });
    const { result } = await admin.crypto(key).signData('ES256', message);
    const imported = await webcrypto.subtle.importKey(
      'spki',
      publicKey(key).export({ type: 'spki', format: 'der' }),
      { name: 'ECDSA', namedCurve: 'P-256' },
      true,
      ['verify'],
    );
    expect(
      await webcrypto.subtle.verify({ name: 'ECDSA', hash: 'SHA-256' }, imported, Buffer.from(result), message),
    ).toBe(true);
  });

  it('also writes signatures whose s is in the upper half, as Key Vault does', async () => {
    const key = await admin.keys.createEcKey('upper', { curve: 'P-256' });
    const half = BigInt('0x7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8');
    const crypto = admin.crypto(key);
    const upper: boolean[] = [];
    for (let round = 0; round < 40 && !upper.includes(true); round += 1) {
      const { result } = await crypto.sign('ES256', createHash('sha256').update(String(round)).digest());
      upper.push(BigInt(`0x${Buffer.from(result.subarray(32)).toString('hex')}`) > half);
    }
    expect(upper).toContain(true);
  });
});

describe('an RSA key', () => {
  it.each([
    ['RS256', 'sha256', constants.RSA_PKCS1_PADDING],
    ['RS384', 'sha384', constants.RSA_PKCS1_PADDING],
    ['RS512', 'sha512', constants.RSA_PKCS1_PADDING],
    ['PS256', 'sha256', constants.RSA_PKCS1_PSS_PADDING],
    ['PS384', 'sha384', constants.RSA_PKCS1_PSS_PADDING],
    ['PS512', 'sha512', constants.RSA_PKCS1_PSS_PADDING],
  ] as const)('signs a digest with %s, which OpenSSL verifies', async (algorithm, hash, padding) => {
    const key = await admin.keys.createRsaKey(`rsa-${algorithm}`, { keySize: 2048 });
    const digest = createHash(hash).update(message).digest();
    const { result } = await admin.crypto(key).sign(algorithm, digest);
    const saltLength = padding === constants.RSA_PKCS1_PSS_PADDING ? constants.RSA_PSS_SALTLEN_DIGEST : undefined;
    const options = { key: publicKey(key), padding, ...(saltLength === undefined ? {} : { saltLength }) };
    expect(verify(hash, message, options, result)).toBe(true);
    expect(verify(hash, Buffer.from('another message'), options, result)).toBe(false);
    // The SDK verifies RSA by itself; this asks the vault.
    const path = `${new URL(key.id ?? '').pathname}/verify`;
    const body = {
      alg: algorithm,
      digest: digest.toString('base64url'),
      value: Buffer.from(result).toString('base64url'),
    };
    expect((await cloud.call('POST', path, { body })).body).toEqual({ value: true });
    const other = createHash(hash).update('another message').digest('base64url');
    expect((await cloud.call('POST', path, { body: { ...body, digest: other } })).body).toEqual({ value: false });
    const broken = Buffer.alloc(result.length, 7).toString('base64url');
    expect((await cloud.call('POST', path, { body: { ...body, value: broken } })).body).toEqual({ value: false });
  });

  it.each([3072, 4096])('may have %i bits', async (keySize) => {
    const key = await admin.keys.createRsaKey(`rsa-${keySize}`, { keySize });
    expect(publicKey(key).asymmetricKeyDetails?.modulusLength).toBe(keySize);
    expect(key.keyOperations).toContain('wrapKey');
  });
});

describe('a key', () => {
  it('never shows its private part', async () => {
    await admin.keys.createEcKey('private', { curve: 'P-256' });
    const raw = await cloud.call('GET', '/keys/private/');
    expect(Object.keys(raw.body.key as object).sort()).toEqual(['crv', 'key_ops', 'kid', 'kty', 'x', 'y']);
  });

  it('that a caller brings signs as the caller’s own', async () => {
    const own = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const jwk = own.privateKey.export({ format: 'jwk' });
    const answer = await cloud.call('PUT', '/keys/imported', { body: { key: jwk, tags: { a: 'b' } } });
    expect(answer.status).toBe(200);
    const { result } = await admin.crypto(await admin.keys.getKey('imported')).signData('ES256', message);
    expect(verify('sha256', message, { key: own.publicKey, dsaEncoding: 'ieee-p1363' }, result)).toBe(true);
  });

  it('has versions; the latest is what an identifier without a version means', async () => {
    const first = await admin.keys.createEcKey('versions', { curve: 'P-256' });
    const second = await admin.keys.rotateKey('versions');
    expect(second.properties.version).not.toBe(first.properties.version);
    expect(second.key?.crv).toBe('P-256');
    expect((await admin.keys.getKey('versions')).id).toBe(second.id);
    const old = await admin.keys.getKey('versions', { version: first.properties.version ?? '' });
    expect(publicKey(old).export({ format: 'jwk' })).toEqual(publicKey(first).export({ format: 'jwk' }));
    expect(await collect(admin.keys.listPropertiesOfKeyVersions('versions'))).toHaveLength(2);
    const listed = await collect(admin.keys.listPropertiesOfKeys());
    expect(listed.filter(({ name }) => name === 'versions')).toHaveLength(1);
    const digest = createHash('sha256').update(message).digest('base64url');
    const signed = await cloud.call('POST', '/keys/versions//sign', { body: { alg: 'ES256', value: digest } });
    expect(signed.body.kid).toBe(second.id);
  });

  it('opened by its identifier costs one read and then one request a signature', async () => {
    const key = await admin.keys.createEcKey('counted', { curve: 'P-256' });
    const crypto = admin.crypto(key.id ?? '');
    cloud.faults.resetCalls();
    await crypto.signData('ES256', message);
    await crypto.signData('ES256', message);
    expect(cloud.faults.calls().vault).toEqual({
      'GET /keys/{name}/{version}': 2,
      'POST /keys/{name}/{version}/sign': 2,
    });
  });

  it('is deleted, recovered and purged', async () => {
    const key = await admin.keys.createEcKey('deleted', { curve: 'P-256' });
    const deleted = await (await admin.keys.beginDeleteKey('deleted', { intervalInMs: 1 })).pollUntilDone();
    expect(deleted.properties.recoveryId).toBe('https://gatepost.vault.azure.net/deletedkeys/deleted');
    expect(await refusal(admin.keys.getKey('deleted'))).toMatchObject({ statusCode: 404, code: 'KeyNotFound' });
    expect(await refusal(admin.crypto(key).signData('ES256', message))).toMatchObject({ statusCode: 404 });
    const conflict = await cloud.call('POST', '/keys/deleted/create', { body: { kty: 'EC' } });
    expect(conflict).toMatchObject({ status: 409, error: { innererror: { code: 'ObjectIsDeletedButRecoverable' } } });
    expect((await collect(admin.keys.listDeletedKeys())).map(({ name }) => name)).toContain('deleted');
    await (await admin.keys.beginRecoverDeletedKey('deleted', { intervalInMs: 1 })).pollUntilDone();
    expect((await admin.keys.getKey('deleted')).id).toBe(key.id);
    await (await admin.keys.beginDeleteKey('deleted', { intervalInMs: 1 })).pollUntilDone();
    await admin.keys.purgeDeletedKey('deleted');
    expect(await refusal(admin.keys.getDeletedKey('deleted'))).toMatchObject({ statusCode: 404 });
  });

  it('signs the same over a restart', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-vault-'));
    const other = await testVault({ stateFile: join(directory, 'vault.json') });
    try {
      const key = await other.as('Key Vault Administrator').keys.createEcKey('kept', { curve: 'P-256' });
      await other.restart();
      const { result } = await other.as('Key Vault Crypto User').crypto(key).signData('ES256', message);
      expect(verify('sha256', message, { key: publicKey(key), dsaEncoding: 'ieee-p1363' }, result)).toBe(true);
    } finally {
      await other.close();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe('a key is refused', () => {
  it.each([
    ['without a type', {}],
    ['of an unknown type', { kty: 'OKP' }],
    ['in hardware, which this tier does not have', { kty: 'EC-HSM' }],
    ['on an unknown curve', { kty: 'EC', crv: 'P-224' }],
    ['of 1024 bits', { kty: 'RSA', key_size: 1024 }],
    ['with an unknown operation', { kty: 'EC', key_ops: ['bake'] }],
    ['that is exportable without a release policy', { kty: 'EC', attributes: { exportable: true } }],
  ])('%s', async (_case, body) => {
    expect(await cloud.call('POST', '/keys/refused/create', { body })).toMatchObject({
      status: 400,
      error: { code: 'BadParameter' },
    });
    expect((await cloud.call('GET', '/keys/refused/')).status).toBe(404);
  });

  it('that is imported without its private part, or not at all', async () => {
    const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' });
    for (const body of [{ key: jwk }, { key: { kty: 'EC' } }, {}]) {
      expect((await cloud.call('PUT', '/keys/refused', { body })).error.code).toBe('BadParameter');
    }
  });
});

describe('a signature is refused', () => {
  const digest = createHash('sha256').update(message).digest();

  it('of another length than the digest’s, in the service’s words', async () => {
    const key = await admin.keys.createEcKey('length', { curve: 'P-256' });
    const refused = await refusal(admin.crypto(key).sign('ES256', digest.subarray(0, 31)));
    expect(refused).toMatchObject({ statusCode: 400, code: 'BadParameter' });
    expect(refused.message).toBe(
      "Invalid length of 'value': 31 bytes. ES256 requires 32 bytes, encoded with base64url.",
    );
  });

  it('with an algorithm of another type or curve', async () => {
    const key = await admin.keys.createEcKey('type', { curve: 'P-384' });
    const type = await refusal(admin.crypto(key).sign('RS256', digest));
    expect(type.message).toContain(
      `Key and signing algorithm are incompatible. Key ${key.id} is of type 'EC', and algorithm 'RS256' can only be used`,
    );
    const curve = await refusal(admin.crypto(key).sign('ES256', digest));
    expect(curve.message).toBe(
      `Key and signing algorithm are incompatible. Key ${key.id} uses curve 'P-384', and algorithm 'ES256' can only be used with curve 'P-256'.`,
    );
    expect((await refusal(admin.crypto(key).sign('XS256', digest))).statusCode).toBe(400);
  });

  it('of noise', async () => {
    await admin.keys.createEcKey('noise', { curve: 'P-256' });
    for (const body of [{}, { alg: 'ES256' }, { alg: 'ES256', value: '!' }, { value: digest.toString('base64url') }]) {
      expect((await cloud.call('POST', '/keys/noise//sign', { body })).error.code).toBe('BadParameter');
    }
  });

  it('while the key is disabled', async () => {
    const key = await admin.keys.createEcKey('disabled', { curve: 'P-256' });
    const signature = (await admin.crypto(key).sign('ES256', digest)).result;
    await admin.keys.updateKeyProperties('disabled', key.properties.version ?? '', { enabled: false });
    const refused = await refusal(admin.crypto(key).sign('ES256', digest));
    expect(refused).toMatchObject({ statusCode: 403, message: 'Operation sign is not allowed on a disabled key.' });
    expect((await refusal(admin.crypto(key).verify('ES256', digest, signature))).statusCode).toBe(403);
    expect((await admin.keys.getKey('disabled')).properties.enabled).toBe(false);
  });

  it.each([
    ['after its end', { expiresOn: new Date(Date.now() - 60_000) }, 'KeyExpired'],
    ['before its start', { notBefore: new Date(Date.now() + 60_000) }, 'KeyNotYetValid'],
  ])('%s, while verifying goes on', async (_case, dates, code) => {
    const key = await admin.keys.createEcKey(`dated-${code}`, { curve: 'P-256' });
    const { result } = await admin.crypto(key).sign('ES256', digest);
    await admin.keys.updateKeyProperties(key.name, key.properties.version ?? '', dates);
    const path = new URL(key.id ?? '').pathname;
    const body = { alg: 'ES256', value: digest.toString('base64url') };
    expect(await cloud.call('POST', `${path}/sign`, { body })).toMatchObject({
      status: 403,
      error: { code: 'Forbidden', innererror: { code } },
    });
    expect((await admin.crypto(key).verify('ES256', digest, result)).result).toBe(true);
  });

  it('where key_ops does not name it', async () => {
    const key = await admin.keys.createEcKey('verify-only', { curve: 'P-256', keyOps: ['verify'] });
    const path = new URL(key.id ?? '').pathname;
    const body = { alg: 'ES256', value: digest.toString('base64url') };
    expect(await cloud.call('POST', `${path}/sign`, { body })).toMatchObject({
      status: 403,
      error: { message: 'Operation sign is not permitted on this key.', innererror: { code: 'KeyOperationForbidden' } },
    });
  });
});

describe('Azure RBAC for keys', () => {
  const all: (VaultRole | 'none')[] = [
    'Key Vault Administrator',
    'Key Vault Secrets Officer',
    'Key Vault Certificates Officer',
    'Key Vault Certificate User',
    'Key Vault Crypto Officer',
    'Key Vault Crypto User',
    'Key Vault Reader',
    'none',
  ];
  const officers = ['Key Vault Administrator', 'Key Vault Crypto Officer'];
  const users = [...officers, 'Key Vault Crypto User'];
  const readers = [...users, 'Key Vault Certificate User', 'Key Vault Reader'];

  it.each([
    ['GET', '/keys/absent/', 'keys/read', readers],
    ['POST', '/keys/absent/0/sign', 'keys/sign/action', users],
    ['POST', '/keys/absent/0/verify', 'keys/verify/action', readers],
    ['POST', '/keys/absent/create', 'keys/create/action', officers],
    ['POST', '/keys/absent/rotate', 'keys/rotate/action', officers],
    ['PUT', '/keys/absent', 'keys/import/action', officers],
    ['PATCH', '/keys/absent/0', 'keys/update/action', users],
    ['DELETE', '/keys/absent', 'keys/delete', officers],
    ['POST', '/deletedkeys/absent/recover', 'keys/recover/action', officers],
    ['DELETE', '/deletedkeys/absent', 'keys/purge/action', officers],
  ])('%s %s needs %s', async (method, path, action, allowed) => {
    for (const role of all) {
      const answer = await cloud.call(method, path, { authorization: `Bearer ${await cloud.token(role)}` });
      expect([role, answer.status === 403]).toEqual([role, !allowed.includes(role)]);
      if (answer.status === 403)
        expect(answer.error.message).toContain(`Action: 'Microsoft.KeyVault/vaults/${action}'`);
    }
  });
});
