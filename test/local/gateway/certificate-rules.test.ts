import { createHash, X509Certificate } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { readCertificates, refuseCertificate } from '../../../local/gateway/certificate-rules.ts';
import type { ScopedIdentity } from '../../../local/gateway/scope-client.ts';
import { issue, type KeyedCertificate, selfSigned } from '../../../local/kit/certificates.ts';

const now = Date.now();
const day = 86_400_000;
const identity = { deviceId: 'press-01', moduleId: null };
const root = await selfSigned({ commonName: 'Plant root' });
const intermediate = await issue(root, { commonName: 'Plant intermediate', ca: 0 });
const leafOptions = { commonName: 'press-01', usages: ['clientAuth'] as ['clientAuth'] };
const leaf = await issue(intermediate, leafOptions);

function read(...certificates: KeyedCertificate[]): X509Certificate[] {
  return readCertificates(certificates.map(({ certificate }) => certificate));
}

function thumbprint(certificate: KeyedCertificate, hash: string): string {
  return createHash(hash).update(new X509Certificate(certificate.certificate).raw).digest('hex').toUpperCase();
}

const bySelfSigned = (primaryThumbprint: string, secondaryThumbprint?: string): ScopedIdentity => ({
  deviceId: 'press-01',
  status: 'enabled',
  authentication: {
    type: 'selfSigned',
    x509Thumbprint: { primaryThumbprint, secondaryThumbprint: secondaryThumbprint ?? null },
  },
});
const byAuthority: ScopedIdentity = {
  deviceId: 'press-01',
  status: 'enabled',
  authentication: { type: 'certificateAuthority' },
};

describe('a self-signed certificate', () => {
  test.each(['sha1', 'sha256'])('is known by its %s thumbprint, primary or secondary, in any case', async (hash) => {
    const certificate = await selfSigned({ ...leafOptions, ca: false });
    const given = thumbprint(certificate, hash);
    expect(refuseCertificate(read(certificate), bySelfSigned(given), identity, [], now)).toBeUndefined();
    const asSecondary = bySelfSigned('0'.repeat(40), given.toLowerCase());
    expect(refuseCertificate(read(certificate), asSecondary, identity, [], now)).toBeUndefined();
  });

  test('with another thumbprint is refused', async () => {
    const other = await selfSigned({ ...leafOptions, ca: false });
    const record = bySelfSigned(thumbprint(leaf, 'sha256'));
    expect(refuseCertificate(read(other), record, identity, [], now)).toMatch(/thumbprint/);
  });

  test('outside its dates is refused', async () => {
    const ended = await selfSigned({
      ...leafOptions,
      ca: false,
      notBefore: new Date(now - 2 * day),
      notAfter: new Date(now - day),
    });
    const record = bySelfSigned(thumbprint(ended, 'sha256'));
    expect(refuseCertificate(read(ended), record, identity, [], now)).toMatch(/ended/);
    expect(refuseCertificate(read(ended), record, identity, [], now - 3 * day)).toMatch(/begins/);
  });

  test('of a device that is disabled, or that uses keys, is refused', async () => {
    const record = bySelfSigned(thumbprint(leaf, 'sha256'));
    expect(refuseCertificate(read(leaf), { ...record, status: 'disabled' }, identity, [], now)).toMatch(/disabled/);
    const keys: ScopedIdentity = { ...record, authentication: { ...record.authentication, type: 'sas' } };
    expect(refuseCertificate(read(leaf), keys, identity, [], now)).toMatch(/not by a certificate/);
  });
});

describe('a certificate from a certification authority', () => {
  test('is good where its root is in the trust bundle, sent or not', () => {
    const bundle = read(root);
    expect(refuseCertificate(read(leaf, intermediate), byAuthority, identity, bundle, now)).toBeUndefined();
    expect(refuseCertificate(read(leaf, intermediate, root), byAuthority, identity, bundle, now)).toBeUndefined();
  });

  test('is good where its intermediate alone is in the trust bundle', () => {
    expect(refuseCertificate(read(leaf), byAuthority, identity, read(intermediate), now)).toBeUndefined();
  });

  test('is refused where the client sent no intermediate and the bundle has only the root', () => {
    expect(refuseCertificate(read(leaf), byAuthority, identity, read(root), now)).toMatch(/trust bundle/);
  });

  test('of an authority that the gateway does not trust is refused, also when it has the same name', async () => {
    const namesake = await selfSigned({ commonName: 'Plant root' });
    expect(refuseCertificate(read(leaf, intermediate), byAuthority, identity, read(namesake), now)).toMatch(
      /trust bundle/,
    );
    const forged = await issue(namesake, leafOptions);
    expect(refuseCertificate(read(forged, root), byAuthority, identity, read(root), now)).toMatch(/trust bundle/);
  });

  test('must bear the device id as its common name, in the same case', async () => {
    const shouting = await issue(intermediate, { ...leafOptions, commonName: 'PRESS-01' });
    expect(refuseCertificate(read(shouting, intermediate), byAuthority, identity, read(root), now)).toMatch(
      /common name/,
    );
  });

  test('must not be a CA', async () => {
    const ca = await issue(root, { commonName: 'press-01', ca: 0 });
    expect(refuseCertificate(read(ca), byAuthority, identity, read(root), now)).toMatch(/CA certificate/);
  });

  test('must be in its dates, and its issuers too', async () => {
    const ended = { notBefore: new Date(now - 2 * day), notAfter: new Date(now - day) };
    const old = await issue(intermediate, { ...leafOptions, ...ended });
    expect(refuseCertificate(read(old, intermediate), byAuthority, identity, read(root), now)).toMatch(/ended/);
    const oldCa = await issue(root, { commonName: 'Old intermediate', ca: 0, ...ended });
    const young = await issue(oldCa, leafOptions);
    expect(refuseCertificate(read(young, oldCa), byAuthority, identity, read(root), now)).toMatch(/an issuer/);
  });

  test('is refused for a module', () => {
    const module = { deviceId: 'press-01', moduleId: 'camera' };
    expect(refuseCertificate(read(leaf, intermediate), byAuthority, module, read(root), now)).toMatch(/modules/);
  });
});
