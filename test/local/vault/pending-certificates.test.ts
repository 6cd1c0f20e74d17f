import 'reflect-metadata';
import { createPrivateKey, webcrypto, X509Certificate } from 'node:crypto';
import type { CertificateOperation, CertificatePolicy } from '@azure/keyvault-certificates';
import * as x509 from '@peculiar/x509';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type KeyedCertificate, selfSigned } from '../../../local/kit/certificates.ts';
import type { VaultRole } from '../../../local/vault/vault.ts';
import { type Clients, collect, refusal, type TestVault, testVault } from './support.ts';

let cloud: TestVault;
let admin: Clients;
let root: KeyedCertificate;

beforeAll(async () => {
  x509.cryptoProvider.set(webcrypto as never);
  cloud = await testVault();
  admin = cloud.as('Key Vault Administrator');
  root = await selfSigned({ commonName: 'Signing root' });
});
afterAll(() => cloud.close());

const quick = { intervalInMs: 1 };

async function operationOf(name: string): Promise<CertificateOperation> {
  const poller = await admin.certificates.getCertificateOperation(name, quick);
  const operation = poller.getOperationState().certificateOperation;
  if (operation === undefined) throw new Error('There is no operation.');
  return operation;
}

async function csrOf(name: string): Promise<x509.Pkcs10CertificateRequest> {
  const { csr } = await operationOf(name);
  if (csr === undefined) throw new Error('There is no request.');
  return new x509.Pkcs10CertificateRequest(csr as Uint8Array<ArrayBuffer>);
}

/** What a certification authority does with the request. */
async function signRequest(request: x509.Pkcs10CertificateRequest): Promise<Buffer> {
  const pkcs8 = createPrivateKey(root.privateKey).export({ type: 'pkcs8', format: 'der' });
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' };
  const signingKey = await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, true, ['sign']);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: request.subject,
    issuer: new x509.X509Certificate(root.certificate).subject,
    notBefore: new Date(Date.now() - 1000),
    notAfter: new Date(Date.now() + 86_400_000),
    publicKey: request.publicKey,
    signingKey,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
  });
  return Buffer.from(certificate.rawData);
}

describe('a certificate from the issuer Self', () => {
  it.each([
    ['EC', { keyType: 'EC', keyCurveName: 'P-256' }],
    ['EC on P-384', { keyType: 'EC', keyCurveName: 'P-384' }],
    ['RSA', { keyType: 'RSA', keySize: 2048 }],
  ] as const)('is made as its policy says: %s', async (label, key) => {
    const name = `self-${label.replaceAll(' ', '-')}`;
    const policy: CertificatePolicy = {
      issuerName: 'Self',
      subject: 'CN=gateway.local',
      subjectAlternativeNames: { dnsNames: ['gateway.local', 'other.local'] },
      validityInMonths: 24,
      enhancedKeyUsage: ['1.3.6.1.5.5.7.3.1'],
      keyUsage: ['digitalSignature'],
      ...key,
    };
    const poller = await admin.certificates.beginCreateCertificate(name, policy, quick);
    const certificate = await poller.pollUntilDone();
    const parsed = new X509Certificate(Buffer.from(certificate.cer ?? []));
    expect(parsed.verify(parsed.publicKey)).toBe(true);
    expect(parsed.subject).toBe('CN=gateway.local');
    expect(parsed.checkHost('other.local')).toBe('other.local');
    expect(parsed.keyUsage).toEqual(['1.3.6.1.5.5.7.3.1']);
    const months = (parsed.validToDate.getTime() - Date.now()) / (86_400_000 * 30.44);
    expect(months).toBeCloseTo(24, 0);
    expect(certificate.policy).toMatchObject({ issuerName: 'Self', validityInMonths: 24 });
    expect(await operationOf(name)).toMatchObject({
      status: 'completed',
      issuerName: 'Self',
      target: `https://gatepost.vault.azure.net/certificates/${name}`,
    });
  });

  it('is never a CA, as a policy has no word for it', async () => {
    const policy = { issuerName: 'Self', subject: 'CN=root', keyUsage: ['keyCertSign' as const] };
    const poller = await admin.certificates.beginCreateCertificate('self-ca', policy, quick);
    expect(new X509Certificate(Buffer.from((await poller.pollUntilDone()).cer ?? [])).ca).toBe(false);
  });

  it('is renewed with a new key, or with the old one where reuse_key says so', async () => {
    const make = async (reuseKey: boolean) => {
      const policy = { issuerName: 'Self', subject: 'CN=renewed', keyType: 'EC' as const, reuseKey };
      const made = await (await admin.certificates.beginCreateCertificate('renewed', policy, quick)).pollUntilDone();
      return new X509Certificate(Buffer.from(made.cer ?? [])).publicKey.export({ type: 'spki', format: 'pem' });
    };
    const [first, second, third] = [await make(false), await make(false), await make(true)];
    expect(second).not.toBe(first);
    expect(third).toBe(second);
    expect(await collect(admin.certificates.listPropertiesOfCertificateVersions('renewed'))).toHaveLength(3);
  });
});

describe('a certificate from an unknown issuer', () => {
  const policy = { issuerName: 'Unknown', subject: 'CN=device-ca', keyType: 'EC' as const, exportable: false };

  it('waits with a signing request, and is there once what a CA signed is merged', async () => {
    await admin.certificates.beginCreateCertificate('merged', policy, quick);
    expect(await operationOf('merged')).toMatchObject({
      status: 'inProgress',
      statusDetails: 'Pending certificate created. Please Perform Merge to complete the request.',
    });
    const request = await csrOf('merged');
    expect(request.subject).toBe('CN=device-ca');
    expect(await request.verify()).toBe(true);
    const waiting = await admin.certificates.getCertificate('merged');
    expect(waiting.cer).toBeUndefined();
    expect(waiting.properties.enabled).toBe(false);
    expect((await refusal(admin.secrets.getSecret('merged'))).statusCode).toBe(404);

    const signed = await signRequest(request);
    const rootDer = new X509Certificate(root.certificate).raw;
    const merged = await admin.certificates.mergeCertificate('merged', [signed, rootDer]);
    expect(Buffer.from(merged.cer ?? [])).toEqual(signed);
    expect(merged.properties.enabled).toBe(true);
    expect(merged.policy?.exportable).toBe(false);
    const { result } = await admin.crypto(merged.keyId ?? '').signData('ES256', Buffer.from('x'));
    expect(result).toHaveLength(64);
    expect((await admin.certificates.getCertificate('merged')).properties.version).toBe(merged.properties.version);
    expect((await cloud.call('GET', '/certificates/merged/pending')).body.status).toBe('completed');
  });

  it('is what a policy without an issuer means, and answers where to look', async () => {
    const body = { policy: { x509_props: { subject: 'cn=by-hand' } } };
    const answer = await cloud.call('POST', '/certificates/by-hand/create', { body });
    expect(answer.body).toMatchObject({ issuer: { name: 'Unknown' }, status: 'inProgress' });
    expect(answer.headers.location).toBe(
      `https://gatepost.vault.azure.net/certificates/by-hand/pending?api-version=2025-07-01&request_id=${answer.body.request_id}`,
    );
    expect((await csrOf('by-hand')).subject).toBe('CN=by-hand');
  });

  it('is listed only when what is pending is asked for', async () => {
    await admin.certificates.beginCreateCertificate('unlisted', policy, quick);
    const plain = await collect(admin.certificates.listPropertiesOfCertificates());
    const pending = await collect(admin.certificates.listPropertiesOfCertificates({ includePending: true }));
    expect(plain.map(({ name }) => name)).not.toContain('unlisted');
    expect(pending.map(({ name }) => name)).toContain('unlisted');
  });

  it('can be cancelled, ended and then made anew', async () => {
    const poller = await admin.certificates.beginCreateCertificate('cancelled', policy, quick);
    await poller.cancelOperation();
    expect((await cloud.call('GET', '/certificates/cancelled/pending')).body).toMatchObject({
      status: 'inProgress',
      cancellation_requested: true,
    });
    const { request_id: requestId } = (await cloud.call('GET', '/certificates/cancelled/pending')).body;
    expect((await cloud.call('GET', `/certificates/cancelled/pending?request_id=${requestId}`)).status).toBe(200);
    expect((await cloud.call('GET', '/certificates/cancelled/pending?request_id=other')).status).toBe(404);
    await admin.certificates.deleteCertificateOperation('cancelled');
    expect(await cloud.call('GET', '/certificates/cancelled/pending')).toMatchObject({
      status: 404,
      error: { code: 'PendingCertificateNotFound' },
    });
    await admin.certificates.beginCreateCertificate('cancelled', policy, quick);
    expect((await csrOf('cancelled')).subject).toBe('CN=device-ca');
  });

  it('can be deleted and purged before it is complete', async () => {
    await admin.certificates.beginCreateCertificate('abandoned', policy, quick);
    await (await admin.certificates.beginDeleteCertificate('abandoned', quick)).pollUntilDone();
    await admin.certificates.purgeDeletedCertificate('abandoned');
    expect((await refusal(admin.certificates.getCertificate('abandoned'))).statusCode).toBe(404);
  });
});

describe('making a certificate is refused', () => {
  it('while another of the same name is pending', async () => {
    const policy = { issuerName: 'Unknown', subject: 'CN=busy', keyType: 'EC' as const };
    await admin.certificates.beginCreateCertificate('busy', policy, quick);
    const refused = await refusal(admin.certificates.beginCreateCertificate('busy', policy, quick));
    expect(refused).toMatchObject({ statusCode: 409, code: 'Forbidden' });
    expect(refused.message).toBe(
      "A new key vault certificate can not be created or imported while a pending key vault certificate's status is inProgress.",
    );
    const pem = Buffer.from(`${root.privateKey}${root.certificate}`);
    const body = { value: pem.toString(), policy: { secret_props: { contentType: 'application/x-pem-file' } } };
    expect((await cloud.call('POST', '/certificates/busy/import', { body })).status).toBe(409);
  });

  it.each([
    ['without a policy', {}],
    [
      'with an issuer that is not connected',
      { policy: { issuer: { name: 'DigiCert' }, x509_props: { subject: 'CN=x' } } },
    ],
    ['without any name', { policy: { issuer: { name: 'Self' } } }],
    ['with a subject that is none', { policy: { issuer: { name: 'Self' }, x509_props: { subject: 'no subject' } } }],
    [
      'with an unknown key usage',
      { policy: { issuer: { name: 'Self' }, x509_props: { subject: 'CN=x', key_usage: ['fly'] } } },
    ],
    ['for no time', { policy: { issuer: { name: 'Self' }, x509_props: { subject: 'CN=x', validity_months: 0 } } }],
    [
      'with a key of 1024 bits',
      { policy: { issuer: { name: 'Self' }, key_props: { key_size: 1024 }, x509_props: { subject: 'CN=x' } } },
    ],
    [
      'on P-256K',
      {
        policy: { issuer: { name: 'Self' }, key_props: { kty: 'EC', crv: 'P-256K' }, x509_props: { subject: 'CN=x' } },
      },
    ],
  ])('%s', async (_case, body) => {
    expect(await cloud.call('POST', '/certificates/refused/create', { body })).toMatchObject({
      status: 400,
      error: { code: 'BadParameter' },
    });
    expect((await cloud.call('GET', '/certificates/refused/')).status).toBe(404);
  });
});

it('a merge as the README of the client shows it, encoded twice, is taken', async () => {
  const policy = { issuerName: 'Unknown', subject: 'CN=twice', keyType: 'EC' as const };
  await admin.certificates.beginCreateCertificate('twice', policy, quick);
  const signed = await signRequest(await csrOf('twice'));
  const merged = await admin.certificates.mergeCertificate('twice', [Buffer.from(signed.toString('base64'))]);
  expect(Buffer.from(merged.cer ?? [])).toEqual(signed);
});

describe('a merge is refused', () => {
  it('of a certificate for another key, of noise, of nothing, and without a pending certificate', async () => {
    const policy = { issuerName: 'Unknown', subject: 'CN=merge', keyType: 'EC' as const };
    await admin.certificates.beginCreateCertificate('merge', policy, quick);
    const foreign = new X509Certificate(root.certificate).raw;
    const refused = await refusal(admin.certificates.mergeCertificate('merge', [foreign]));
    expect(refused).toMatchObject({ statusCode: 400, code: 'BadParameter' });
    expect(refused.message).toContain('does not match the public part of the specified private key');
    expect((await refusal(admin.certificates.mergeCertificate('merge', [Buffer.from('noise')]))).message).toContain(
      'x5c',
    );
    expect((await cloud.call('POST', '/certificates/merge/pending/merge', { body: { x5c: [] } })).status).toBe(400);
    expect((await refusal(admin.certificates.mergeCertificate('absent', [foreign]))).statusCode).toBe(404);
    expect((await csrOf('merge')).subject).toBe('CN=merge');
  });

  it('once it is complete, and so is a cancellation', async () => {
    await (
      await admin.certificates.beginCreateCertificate('complete', { issuerName: 'Self', subject: 'CN=x' }, quick)
    ).pollUntilDone();
    const cancel = { body: { cancellation_requested: true } };
    expect((await cloud.call('PATCH', '/certificates/complete/pending', cancel)).status).toBe(400);
    const refused = await refusal(
      admin.certificates.mergeCertificate('complete', [new X509Certificate(root.certificate).raw]),
    );
    expect(refused).toMatchObject({ statusCode: 409, code: 'Conflict' });
  });
});

describe('a policy', () => {
  it('is read and changed for the versions to come', async () => {
    const policy = { issuerName: 'Self', subject: 'CN=policy', keyType: 'EC' as const, validityInMonths: 6 };
    await (await admin.certificates.beginCreateCertificate('policy', policy, quick)).pollUntilDone();
    expect(await admin.certificates.getCertificatePolicy('policy')).toMatchObject({
      subject: 'CN=policy',
      validityInMonths: 6,
      lifetimeActions: [{ action: 'AutoRenew', lifetimePercentage: 80 }],
    });
    // The client answers an empty object (4.10.3): what counts is what is read back.
    await admin.certificates.updateCertificatePolicy('policy', { ...policy, validityInMonths: 3 });
    expect((await admin.certificates.getCertificatePolicy('policy')).validityInMonths).toBe(3);
    expect((await refusal(admin.certificates.getCertificatePolicy('absent'))).statusCode).toBe(404);
  });
});

describe('contacts and issuers', () => {
  it('are kept, answered and deleted', async () => {
    expect((await refusal(admin.certificates.getContacts())).statusCode).toBe(404);
    await admin.certificates.setContacts([{ email: 'a@example.com', name: 'A' }]);
    expect(await admin.certificates.getContacts()).toEqual([{ email: 'a@example.com', name: 'A' }]);
    await admin.certificates.deleteContacts();
    expect((await refusal(admin.certificates.getContacts())).statusCode).toBe(404);
    expect((await cloud.call('PUT', '/certificates/contacts', { body: { contacts: [{}] } })).status).toBe(400);

    await admin.certificates.createIssuer('acme', 'Test', { accountId: 'me', password: 'hidden' });
    expect(await admin.certificates.getIssuer('acme')).toMatchObject({
      provider: 'Test',
      accountId: 'me',
      enabled: true,
    });
    expect((await collect(admin.certificates.listPropertiesOfIssuers())).map(({ id }) => id)).toEqual([
      'https://gatepost.vault.azure.net/certificates/issuers/acme',
    ]);
    expect(JSON.stringify((await cloud.call('GET', '/certificates/issuers/acme')).body)).not.toContain('hidden');
    await cloud.call('PATCH', '/certificates/issuers/acme', { body: { attributes: { enabled: false } } });
    expect((await admin.certificates.getIssuer('acme')).enabled).toBe(false);
    await admin.certificates.deleteIssuer('acme');
    expect((await refusal(admin.certificates.getIssuer('acme'))).statusCode).toBe(404);
    expect((await cloud.call('PUT', '/certificates/issuers/acme', { body: {} })).status).toBe(400);
  });
});

describe('Azure RBAC for certificates', () => {
  const all: (VaultRole | 'none')[] = [
    'Key Vault Administrator',
    'Key Vault Secrets Officer',
    'Key Vault Certificates Officer',
    'Key Vault Certificate User',
    'Key Vault Crypto Officer',
    'Key Vault Reader',
    'none',
  ];
  const officers = ['Key Vault Administrator', 'Key Vault Certificates Officer'];
  const readers = [...officers, 'Key Vault Certificate User', 'Key Vault Reader'];

  it.each([
    ['GET', '/certificates/absent/', 'certificates/read', readers],
    ['POST', '/certificates/absent/import', 'certificates/import/action', officers],
    ['POST', '/certificates/absent/create', 'certificates/create/action', officers],
    ['POST', '/certificates/absent/pending/merge', 'certificates/create/action', officers],
    ['PATCH', '/certificates/absent/0', 'certificates/update/action', officers],
    ['PATCH', '/certificates/absent/pending', 'certificates/update/action', officers],
    ['DELETE', '/certificates/absent', 'certificates/delete', officers],
    ['POST', '/deletedcertificates/absent/recover', 'certificates/recover/action', officers],
    ['DELETE', '/deletedcertificates/absent', 'certificates/purge/action', officers],
    ['GET', '/certificates/contacts', 'certificatecontacts/write', officers],
    ['GET', '/certificates/issuers/absent', 'certificatecas/read', [...officers, 'Key Vault Reader']],
    ['DELETE', '/certificates/issuers/absent', 'certificatecas/delete', officers],
  ])('%s %s needs %s', async (method, path, action, allowed) => {
    for (const role of all) {
      const answer = await cloud.call(method, path, { authorization: `Bearer ${await cloud.token(role)}` });
      expect([role, answer.status === 403]).toEqual([role, !allowed.includes(role)]);
      if (answer.status === 403)
        expect(answer.error.message).toContain(`Action: 'Microsoft.KeyVault/vaults/${action}'`);
    }
  });

  it('a Certificates Officer alone cannot read the secret or use the key behind a certificate', async () => {
    const officer = cloud.as('Key Vault Certificates Officer');
    const policy = { issuerName: 'Self', subject: 'CN=officer', keyType: 'EC' as const };
    const made = await (await officer.certificates.beginCreateCertificate('officer', policy, quick)).pollUntilDone();
    expect((await refusal(officer.secrets.getSecret('officer'))).statusCode).toBe(403);
    expect((await refusal(officer.crypto(made.keyId ?? '').signData('ES256', Buffer.from('x')))).statusCode).toBe(403);
  });
});
