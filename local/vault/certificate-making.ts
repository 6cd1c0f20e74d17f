import 'reflect-metadata';
import { createPublicKey, type KeyObject, randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { CertificatePolicy } from './certificate-policy.ts';
import { badParameter } from './errors.ts';
import { curveOf } from './signatures.ts';

/** Node's own Web Crypto; its types and those that the library knows differ in name only. */
const crypto = webcrypto as never;

type Names = ConstructorParameters<typeof x509.SubjectAlternativeNameExtension>[0];

/** The signing request of a pending certificate, as DER. */
export async function makeRequest(policy: CertificatePolicy, privateKey: KeyObject): Promise<Buffer> {
  const keys = await importPair(privateKey);
  const request = await x509.Pkcs10CertificateRequestGenerator.create(
    {
      name: subjectOf(policy),
      keys,
      signingAlgorithm: signingAlgorithm(privateKey),
      extensions: requestedExtensions(policy),
    },
    crypto,
  );
  return Buffer.from(request.rawData);
}

/**
 * The certificate that the issuer `Self` makes, as DER. A policy has no word for basic constraints, so that it is never
 * a CA's.
 */
export async function makeSelfSigned(policy: CertificatePolicy, privateKey: KeyObject, now: Date): Promise<Buffer> {
  const keys = await importPair(privateKey);
  const notAfter = new Date(now);
  notAfter.setUTCMonth(notAfter.getUTCMonth() + policy.x509_props.validity_months);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      // A first byte of 40 keeps the number positive and of one length.
      serialNumber: `40${randomBytes(15).toString('hex')}`,
      name: subjectOf(policy),
      notBefore: new Date(now.getTime() - 10 * 60_000),
      notAfter,
      keys,
      signingAlgorithm: signingAlgorithm(privateKey),
      extensions: [
        ...requestedExtensions(policy),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, crypto),
        await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey, false, crypto),
      ],
    },
    crypto,
  );
  return Buffer.from(certificate.rawData);
}

/** The key usages of a certificate, in the names that a policy has for them. */
export function keyUsages(der: Buffer): string[] {
  const extension = new x509.X509Certificate(new Uint8Array(der)).getExtension(x509.KeyUsagesExtension);
  const flags = extension?.usages ?? 0;
  const known = Object.entries(x509.KeyUsageFlags).filter(([, flag]) => typeof flag === 'number');
  return known.filter(([, flag]) => (flags & Number(flag)) !== 0).map(([name]) => name);
}

function requestedExtensions(policy: CertificatePolicy): x509.Extension[] {
  const { key_usage: usages = [], ekus = [] } = policy.x509_props;
  const names = alternativeNames(policy);
  return [
    new x509.BasicConstraintsExtension(false),
    ...(usages.length === 0 ? [] : [new x509.KeyUsagesExtension(usageFlags(usages), true)]),
    ...(ekus.length === 0 ? [] : [new x509.ExtendedKeyUsageExtension(ekus)]),
    ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
  ];
}

function usageFlags(usages: string[]): x509.KeyUsageFlags {
  let flags = 0;
  for (const usage of usages) {
    const flag = x509.KeyUsageFlags[usage as keyof typeof x509.KeyUsageFlags];
    if (typeof flag !== 'number') throw badParameter(`Property key_usage has invalid value: '${usage}'.`);
    flags |= flag;
  }
  return flags;
}

function alternativeNames(policy: CertificatePolicy): Extract<Names, unknown[]> {
  const types = { dns_names: 'dns', emails: 'email', upns: 'upn', uris: 'url', ipAddresses: 'ip' } as const;
  return Object.entries(types).flatMap(([kind, type]) =>
    (policy.x509_props.sans?.[kind] ?? []).map((value) => ({ type, value })),
  );
}

function subjectOf(policy: CertificatePolicy): string {
  const { subject } = policy.x509_props;
  const invalid = badParameter(`Property subject has invalid value: '${subject}'.`);
  let read: string;
  try {
    // The service takes `cn=` for `CN=`, the library does not.
    read = new x509.Name(
      subject.replace(/(^|[,+]\s*)([a-z]+)=/g, (_all, before, type) => `${before}${type.toUpperCase()}=`),
    ).toString();
  } catch {
    throw invalid;
  }
  // The library leaves out what it cannot read.
  if (subject !== '' && read === '') throw invalid;
  return read;
}

function signingAlgorithm(key: KeyObject): { name: string; hash: string } {
  if (key.asymmetricKeyType === 'rsa') return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
  const hashes: Record<string, string> = { 'P-384': 'SHA-384', 'P-521': 'SHA-512' };
  return { name: 'ECDSA', hash: hashes[curveOf(key)] ?? 'SHA-256' };
}

async function importPair(privateKey: KeyObject): Promise<webcrypto.CryptoKeyPair> {
  const algorithm =
    privateKey.asymmetricKeyType === 'rsa'
      ? { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
      : { name: 'ECDSA', namedCurve: curveOf(privateKey) };
  const pkcs8 = privateKey.export({ type: 'pkcs8', format: 'der' });
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  return {
    privateKey: await webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, true, ['sign']),
    publicKey: await webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify']),
  };
}
