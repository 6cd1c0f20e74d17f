import { createPrivateKey, createPublicKey, generateKeyPairSync, verify, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { KeyVaultCertificateWithPolicy } from '@azure/keyvault-certificates';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { issue, type KeyedCertificate, type KeyType, selfSigned } from '../../../local/kit/certificates.ts';
import { readPfx } from '../../../local/vault/pfx.ts';
import { type Clients, collect, refusal, type TestVault, testVault } from './support.ts';

let cloud: TestVault;
let admin: Clients;
let root: KeyedCertificate;

beforeAll(async () => {
  cloud = await testVault();
  admin = cloud.as('Key Vault Administrator');
  root = await selfSigned({ commonName: 'Fixture root' });
});
afterAll(() => cloud.close());

const quick = { intervalInMs: 1 };

interface ImportOptions {
  exportable?: boolean;
  password?: string;
  tags?: Record<string, string>;
}

/**
 * Imports with a policy. CertificateClient 4.10.3 reads `policy.contentType` for the encoding, but sends only
 * `certificatePolicy`, which its types do not have: without this, nothing of the policy arrives, `exportable` included.
 */
function importWithPolicy(
  name: string,
  bytes: Buffer,
  contentType: 'application/x-pem-file' | 'application/x-pkcs12',
  { exportable, ...options }: ImportOptions,
): Promise<KeyVaultCertificateWithPolicy> {
  const sent = {
    ...options,
    policy: { contentType },
    certificatePolicy: {
      secretProperties: { contentType },
      ...(exportable === undefined ? {} : { keyProperties: { exportable } }),
    },
  };
  return admin.certificates.importCertificate(name, bytes, sent);
}

function importPem(name: string, pem: string, options: ImportOptions = {}): Promise<KeyVaultCertificateWithPolicy> {
  return importWithPolicy(name, Buffer.from(pem), 'application/x-pem-file', options);
}

function fixture(name: string): Buffer {
  return readFileSync(new URL(`fixtures/${name}.pfx`, import.meta.url));
}

function der(pem: string): Buffer {
  return new X509Certificate(pem).raw;
}

/** Asks the vault to sign with the key behind a certificate, and OpenSSL to verify it with the certificate. */
async function expectKeyBehind(certificate: KeyVaultCertificateWithPolicy): Promise<void> {
  const parsed = new X509Certificate(Buffer.from(certificate.cer ?? []));
  const isEc = parsed.publicKey.asymmetricKeyType === 'ec';
  const curve = parsed.publicKey.asymmetricKeyDetails?.namedCurve;
  const algorithm = isEc ? (curve === 'secp384r1' ? 'ES384' : 'ES256') : 'RS256';
  const message = Buffer.from('signed behind a certificate');
  const { result } = await admin.crypto(certificate.keyId ?? '').signData(algorithm, message);
  const key = isEc ? { key: parsed.publicKey, dsaEncoding: 'ieee-p1363' as const } : parsed.publicKey;
  expect(verify(algorithm === 'ES384' ? 'sha384' : 'sha256', message, key, result)).toBe(true);
}

describe('a PEM certificate with its key', () => {
  it.each(['ec-p256', 'ec-p384', 'rsa-2048'] satisfies KeyType[])(
    'is imported, %s, and its key signs',
    async (keyType) => {
      const made = await selfSigned({ commonName: `Imported ${keyType}`, keyType });
      const certificate = await importPem(`pem-${keyType}`, `${made.privateKey}${made.certificate}`, {
        tags: { a: 'b' },
      });
      expect(Buffer.from(certificate.cer ?? []).equals(der(made.certificate))).toBe(true);
      const parsed = new X509Certificate(made.certificate);
      expect(certificate.properties.x509ThumbprintString).toBe(parsed.fingerprint.replaceAll(':', '').toLowerCase());
      expect(certificate.properties).toMatchObject({
        tags: { a: 'b' },
        enabled: true,
        notBefore: parsed.validFromDate,
        expiresOn: parsed.validToDate,
        recoveryLevel: 'Recoverable+Purgeable',
      });
      expect(certificate.policy).toMatchObject({
        issuerName: 'Unknown',
        subject: `CN=Imported ${keyType}`,
        exportable: true,
        keyType: keyType === 'rsa-2048' ? 'RSA' : 'EC',
      });
      await expectKeyBehind(certificate);
    },
  );

  it('has a secret of the same name and version with key and chain, and a key of the same name and version', async () => {
    const leaf = await issue(root, { commonName: 'Leaf' });
    const certificate = await importPem('owner', `${root.certificate}${leaf.certificate}${leaf.privateKey}`);
    expect(Buffer.from(certificate.cer ?? []).equals(der(leaf.certificate))).toBe(true);
    const { version } = certificate.properties;
    const secret = await admin.secrets.getSecret('owner');
    expect(secret.properties).toMatchObject({ version, managed: true, contentType: 'application/x-pem-file' });
    expect(secret.properties.certificateKeyId ?? certificate.keyId).toBe(certificate.keyId);
    expect(createPrivateKey(secret.value ?? '').export({ format: 'jwk' })).toEqual(
      createPrivateKey(leaf.privateKey).export({ format: 'jwk' }),
    );
    const blocks = secret.value?.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    expect(blocks.map((block) => der(block))).toEqual([der(leaf.certificate), der(root.certificate)]);
    const key = await admin.keys.getKey('owner');
    expect(key.id).toBe(`https://gatepost.vault.azure.net/keys/owner/${version}`);
    expect(key.properties).toMatchObject({ managed: true, exportable: true });
    const listed = await collect(admin.secrets.listPropertiesOfSecrets());
    expect(listed.find(({ name }) => name === 'owner')?.managed).toBe(true);
  });

  it('may come as base64 of the PEM', async () => {
    const made = await selfSigned({ commonName: 'Encoded' });
    const value = Buffer.from(`${made.privateKey}${made.certificate}`).toString('base64');
    const body = { value, policy: { secret_props: { contentType: 'application/x-pem-file' } } };
    expect((await cloud.call('POST', '/certificates/encoded/import', { body })).status).toBe(200);
  });

  it('that may not be exported leaves only the certificate in the secret, and still signs', async () => {
    const made = await selfSigned({ commonName: 'Kept in' });
    const certificate = await importPem('kept-in', `${made.privateKey}${made.certificate}`, { exportable: false });
    expect(certificate.policy?.exportable).toBe(false);
    const secret = await admin.secrets.getSecret('kept-in');
    expect(secret.value).toContain('BEGIN CERTIFICATE');
    expect(secret.value).not.toContain('PRIVATE KEY');
    expect((await admin.keys.getKey('kept-in')).properties.exportable).toBe(false);
    await expectKeyBehind(certificate);
  });

  it('gets a new version when it is imported again', async () => {
    const [one, two] = [await selfSigned({ commonName: 'One' }), await selfSigned({ commonName: 'Two' })];
    const first = await importPem('again', `${one.privateKey}${one.certificate}`);
    const second = await importPem('again', `${two.privateKey}${two.certificate}`);
    expect(Buffer.from((await admin.certificates.getCertificate('again')).cer ?? [])).toEqual(der(two.certificate));
    const old = await admin.certificates.getCertificateVersion('again', first.properties.version ?? '');
    expect(Buffer.from(old.cer ?? [])).toEqual(der(one.certificate));
    const versions = await collect(admin.certificates.listPropertiesOfCertificateVersions('again'));
    expect(versions.map(({ version }) => version).sort()).toEqual(
      [first.properties.version, second.properties.version].sort(),
    );
  });
});

describe('a PFX', () => {
  it.each([
    ['ec-aes256', 'EC'],
    ['ec-3des', 'EC'],
    ['ec-rc2', 'EC'],
    ['rsa-aes256', 'RSA'],
    ['rsa-3des', 'RSA'],
    ['rsa-rc2', 'RSA'],
  ])('as %s is imported, and its key signs', async (name, keyType) => {
    const certificate = await admin.certificates.importCertificate(`pfx-${name}`, fixture(name), {
      password: 'fixture',
    });
    expect(certificate.policy).toMatchObject({ keyType, contentType: 'application/x-pkcs12' });
    const parsed = new X509Certificate(Buffer.from(certificate.cer ?? []));
    expect(parsed.subject).toBe(`CN=fixture-${keyType.toLowerCase()}`);
    const { certificates } = readPfx(fixture(name), 'fixture');
    const issuer = certificates
      .map((bytes) => new X509Certificate(bytes))
      .find(({ subject }) => subject === 'CN=Fixture CA');
    // Not one byte of the certificate was changed on the way: its signature still holds.
    expect(parsed.verify(issuer?.publicKey ?? createPublicKey(root.certificate))).toBe(true);
    await expectKeyBehind(certificate);
  });

  it.each(['ec', 'rsa'])('without a password is imported (%s)', async (type) => {
    const certificate = await admin.certificates.importCertificate(`bare-${type}`, fixture(`${type}-no-password`));
    await expectKeyBehind(certificate);
  });

  it.each(['ec-aes256', 'rsa-aes256'])('comes back from the secret as a PFX that OpenSSL opens (%s)', async (name) => {
    await admin.certificates.importCertificate(`back-${name}`, fixture(name), { password: 'fixture' });
    const secret = await admin.secrets.getSecret(`back-${name}`);
    expect(secret.properties.contentType).toBe('application/x-pkcs12');
    const pfx = Buffer.from(secret.value ?? '', 'base64');
    // Node hands it to OpenSSL, which checks the MAC and that key and certificate belong together.
    expect(() => createSecureContext({ pfx, passphrase: '' })).not.toThrow();
    const before = readPfx(fixture(name), 'fixture');
    const after = readPfx(pfx, '');
    expect(after.certificates).toEqual(before.certificates);
    expect(after.keys[0]?.export({ format: 'jwk' })).toEqual(before.keys[0]?.export({ format: 'jwk' }));
  });

  it('that may not be exported comes back without its key', async () => {
    const options = { password: 'fixture', exportable: false };
    await importWithPolicy('pfx-kept-in', fixture('ec-aes256'), 'application/x-pkcs12', options);
    const { value } = await admin.secrets.getSecret('pfx-kept-in');
    const content = readPfx(Buffer.from(value ?? '', 'base64'), '');
    expect([content.keys.length, content.certificates.length]).toEqual([0, 2]);
  });
});

describe('the policy of an import', () => {
  it('does not arrive as CertificateClient 4.10.3 documents it: what was to stay inside can be exported', async () => {
    const options = {
      password: 'fixture',
      policy: { contentType: 'application/x-pkcs12' as const, exportable: false },
    };
    const certificate = await admin.certificates.importCertificate('trap', fixture('ec-aes256'), options);
    expect(certificate.policy?.exportable).toBe(true);
    const { value } = await admin.secrets.getSecret('trap');
    expect(readPfx(Buffer.from(value ?? '', 'base64'), '').keys).toHaveLength(1);
  });
});

describe('an import is refused', () => {
  const noKey =
    'No certificate with private key found in the specified X.509 certificate content. Please specify X.509 certificate content with only one certificate containing private key.';

  it('without a private key, in the service’s words', async () => {
    const refused = await refusal(importPem('public-only', root.certificate));
    expect(refused).toMatchObject({ statusCode: 400, code: 'BadParameter', message: noKey });
    const pfx = await refusal(
      admin.certificates.importCertificate('public-only', fixture('rsa-no-key'), { password: 'fixture' }),
    );
    expect(pfx).toMatchObject({ statusCode: 400, message: noKey });
    expect(await refusal(admin.certificates.getCertificate('public-only'))).toMatchObject({
      statusCode: 404,
      code: 'CertificateNotFound',
    });
  });

  it('without a certificate', async () => {
    expect((await refusal(importPem('key-only', root.privateKey))).message).toBe(noKey);
  });

  it('with two private keys', async () => {
    const other = await selfSigned({ commonName: 'Other' });
    const both = `${root.privateKey}${root.certificate}${other.privateKey}${other.certificate}`;
    expect((await refusal(importPem('two-keys', both))).message).toBe(noKey);
  });

  it.each(['ec', 'rsa'] as const)('with the key in its old form (PKCS#1, SEC 1): %s', async (type) => {
    const keyType = type === 'rsa' ? 'rsa-2048' : 'ec-p256';
    const made = await selfSigned({ commonName: 'Old form', keyType });
    const old = createPrivateKey(made.privateKey).export({ type: type === 'rsa' ? 'pkcs1' : 'sec1', format: 'pem' });
    expect((await refusal(importPem('old-form', `${old}${made.certificate}`))).message).toBe(
      'The specified PEM X.509 certificate content is in an unexpected format. Please check if certificate is in valid PEM format.',
    );
  });

  it('with a key that is encrypted as OpenSSL 1 did it', async () => {
    const made = await selfSigned({ commonName: 'Old form', keyType: 'rsa-2048' });
    const options = { type: 'pkcs1', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' } as const;
    const old = createPrivateKey(made.privateKey).export(options);
    const refused = await refusal(importPem('encrypted', `${old}${made.certificate}`, { password: 'secret' }));
    expect(refused.message).toContain('is in an unexpected format');
  });

  it('with a key that is encrypted', async () => {
    const encrypted = createPrivateKey(root.privateKey).export({
      type: 'pkcs8',
      format: 'pem',
      cipher: 'aes-256-cbc',
      passphrase: 'secret',
    });
    const refused = await refusal(importPem('encrypted', `${encrypted}${root.certificate}`, { password: 'secret' }));
    expect(refused.message).toContain('is in an unexpected format');
  });

  it('with a key that is not the certificate’s', async () => {
    const other = await selfSigned({ commonName: 'Other' });
    const refused = await refusal(importPem('mismatch', `${other.privateKey}${root.certificate}`));
    expect(refused.message).toContain('does not match the public part of the specified private key');
  });

  it('of a PEM without the policy that says so, of noise, and with a wrong password', async () => {
    const unreadable = /The specified PKCS#12 X\.509 certificate content can not be read/;
    const pem = Buffer.from(`${root.privateKey}${root.certificate}`);
    expect((await refusal(admin.certificates.importCertificate('noise', pem))).message).toMatch(unreadable);
    expect((await refusal(admin.certificates.importCertificate('noise', Buffer.from('noise')))).message).toMatch(
      unreadable,
    );
    const wrong = admin.certificates.importCertificate('noise', fixture('ec-aes256'), { password: 'wrong' });
    expect((await refusal(wrong)).message).toMatch(unreadable);
    expect((await refusal(importPem('noise', 'noise'))).message).toContain(
      'Accepted formats: PEM content or Base64 encoded PEM content.',
    );
  });

  it('of a key of a size or kind that Key Vault does not hold', async () => {
    const small = generateKeyPairSync('ec', { namedCurve: 'secp224r1' }).privateKey.export({
      type: 'pkcs8',
      format: 'pem',
    });
    const refused = await refusal(importPem('unsupported', `${small}${root.certificate}`));
    expect(refused.statusCode).toBe(400);
  });

  it('with an unknown content type', async () => {
    const body = { value: 'AAAA', policy: { secret_props: { contentType: 'text/plain' } } };
    expect((await cloud.call('POST', '/certificates/unknown/import', { body })).error.code).toBe('BadParameter');
    expect((await cloud.call('POST', '/certificates/unknown/import', { body: {} })).error.code).toBe('BadParameter');
  });

  it('under the name of a secret or key that is not a certificate’s', async () => {
    await admin.secrets.setSecret('taken', 'value');
    const refused = await refusal(importPem('taken', `${root.privateKey}${root.certificate}`));
    expect(refused).toMatchObject({ statusCode: 409, code: 'Conflict' });
    expect((await admin.secrets.getSecret('taken')).value).toBe('value');
  });
});

describe('what a certificate owns', () => {
  beforeAll(async () => {
    await importPem('owned', `${root.privateKey}${root.certificate}`);
  });

  it.each([
    ['DELETE', '/secrets/owned', 'delete', 'SecretManagedByKeyVault'],
    ['PUT', '/secrets/owned', 'set', 'SecretManagedByKeyVault'],
    ['PATCH', '/secrets/owned', 'update', 'SecretManagedByKeyVault'],
    ['DELETE', '/keys/owned', 'delete', 'KeyManagedByKeyVault'],
    ['POST', '/keys/owned/create', 'create', 'KeyManagedByKeyVault'],
    ['PUT', '/keys/owned', 'import', 'KeyManagedByKeyVault'],
    ['POST', '/keys/owned/rotate', 'rotate', 'KeyManagedByKeyVault'],
    ['PATCH', '/keys/owned', 'update', 'KeyManagedByKeyVault'],
  ])('refuses %s %s by itself', async (method, path, operation, code) => {
    const body = { value: 'v', kty: 'EC' };
    const answer = await cloud.call(method, path, method === 'DELETE' ? {} : { body });
    expect(answer).toMatchObject({ status: 403, error: { code: 'Forbidden', innererror: { code } } });
    expect(answer.error.message).toBe(
      `Operation "${operation}" is not allowed as this object's lifetime is managed by Key Vault.`,
    );
  });

  it('is disabled and enabled with it', async () => {
    const { properties } = await importPem('switch', `${root.privateKey}${root.certificate}`);
    const version = properties.version ?? '';
    await admin.certificates.updateCertificateProperties('switch', version, { enabled: false, tags: { state: 'off' } });
    const off = await admin.certificates.getCertificate('switch');
    expect(off.properties).toMatchObject({ enabled: false, tags: { state: 'off' } });
    expect((await refusal(admin.secrets.getSecret('switch'))).statusCode).toBe(403);
    expect((await refusal(admin.crypto(off.keyId ?? '').signData('ES256', Buffer.from('x')))).statusCode).toBe(403);
    await admin.certificates.updateCertificateProperties('switch', version, { enabled: true });
    await expectKeyBehind(await admin.certificates.getCertificate('switch'));
  });

  it('is deleted, recovered and purged with it', async () => {
    const certificate = await importPem('fate', `${root.privateKey}${root.certificate}`);
    const deleted = await (await admin.certificates.beginDeleteCertificate('fate', quick)).pollUntilDone();
    expect(deleted.recoveryId).toBe('https://gatepost.vault.azure.net/deletedcertificates/fate');
    expect((await refusal(admin.secrets.getSecret('fate'))).statusCode).toBe(404);
    expect((await refusal(admin.keys.getKey('fate'))).statusCode).toBe(404);
    expect((await collect(admin.certificates.listDeletedCertificates())).map(({ name }) => name)).toContain('fate');
    // The owned ones are found by name, and listed nowhere.
    expect((await admin.secrets.getDeletedSecret('fate')).name).toBe('fate');
    expect((await collect(admin.secrets.listDeletedSecrets())).map(({ name }) => name)).not.toContain('fate');
    for (const [method, path] of [
      ['POST', '/deletedsecrets/fate/recover'],
      ['DELETE', '/deletedsecrets/fate'],
      ['POST', '/deletedkeys/fate/recover'],
      ['DELETE', '/deletedkeys/fate'],
    ] as const) {
      expect((await cloud.call(method, path)).error.innererror?.code).toMatch(/ManagedByKeyVault$/);
    }
    const conflict = await refusal(importPem('fate', `${root.privateKey}${root.certificate}`));
    expect(conflict).toMatchObject({ statusCode: 409, code: 'Conflict' });
    expect(conflict.message).toContain('Certificate fate is currently in a deleted but recoverable state');
    expect((await refusal(admin.secrets.setSecret('fate', 'value'))).statusCode).toBe(409);

    await (await admin.certificates.beginRecoverDeletedCertificate('fate', quick)).pollUntilDone();
    await expectKeyBehind(await admin.certificates.getCertificate('fate'));
    expect((await admin.secrets.getSecret('fate')).properties.version).toBe(certificate.properties.version);

    await (await admin.certificates.beginDeleteCertificate('fate', quick)).pollUntilDone();
    await admin.certificates.purgeDeletedCertificate('fate');
    expect((await refusal(admin.secrets.getDeletedSecret('fate'))).statusCode).toBe(404);
    expect((await admin.secrets.setSecret('fate', 'free')).value).toBe('free');
  });
});

describe('a list of certificates', () => {
  it('shows each once, without policy and recovery attributes', async () => {
    await importPem('listed', `${root.privateKey}${root.certificate}`);
    const items = await collect(admin.certificates.listPropertiesOfCertificates());
    expect(items.filter(({ name }) => name === 'listed')).toHaveLength(1);
    const raw = (await cloud.call('GET', '/certificates?maxresults=25')).body.value as Record<string, unknown>[];
    const item = raw.find(({ id }) => id === 'https://gatepost.vault.azure.net/certificates/listed');
    expect(Object.keys(item?.attributes as object)).not.toContain('recoveryLevel');
    expect(item).not.toHaveProperty('policy');
  });
});

describe('a restart', () => {
  it('keeps certificates with their keys, secrets and what is pending', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-vault-'));
    const other = await testVault({ stateFile: join(directory, 'vault.json') });
    try {
      const before = other.as('Key Vault Administrator');
      const made = await before.certificates.importCertificate('kept', fixture('ec-aes256'), { password: 'fixture' });
      await before.certificates.beginCreateCertificate(
        'waiting',
        { issuerName: 'Unknown', subject: 'CN=waiting' },
        quick,
      );
      const { csr } = await pendingOf(before, 'waiting');
      await other.restart();
      const after = other.as('Key Vault Administrator');
      expect((await after.certificates.getCertificate('kept')).cer).toEqual(made.cer);
      expect((await after.secrets.getSecret('kept')).properties.version).toBe(made.properties.version);
      expect((await pendingOf(after, 'waiting')).csr).toEqual(csr);
    } finally {
      await other.close();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

async function pendingOf(clients: Clients, name: string): Promise<{ csr: Uint8Array | undefined }> {
  const poller = await clients.certificates.getCertificateOperation(name, quick);
  return { csr: poller.getOperationState().certificateOperation?.csr };
}
