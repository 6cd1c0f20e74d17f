import { createHash, X509Certificate } from 'node:crypto';
import type { Identity } from '../mqtt/identity.ts';
import { isEnabled } from './scope-cache.ts';
import type { ScopedIdentity } from './scope-client.ts';

/**
 * Why edgeHub refuses this client certificate for `identity`; undefined where it accepts it. `sent` is what the client
 * presented, its own certificate first; `trustBundle` what the gateway trusts for downstream devices
 * (Azure/iotedge, DeviceScopeCertificateAuthenticator.cs and CertificateHelper.cs).
 */
export function refuseCertificate(
  sent: X509Certificate[],
  scoped: ScopedIdentity,
  identity: Identity,
  trustBundle: X509Certificate[],
  now: number,
): string | undefined {
  const [leaf, ...issuers] = sent;
  if (leaf === undefined) return 'no certificate was presented';
  if (identity.moduleId !== null) return 'modules cannot authenticate by X.509';
  if (!isEnabled(scoped)) return 'the identity is disabled';
  const type = scoped.authentication?.type;
  if (type === 'selfSigned') return refuseThumbprint(leaf, scoped, now);
  if (type === 'certificateAuthority') return refuseChain(leaf, issuers, identity.deviceId, trustBundle, now);
  return `the identity authenticates by ${type ?? 'nothing'}, not by a certificate`;
}

function refuseThumbprint(leaf: X509Certificate, scoped: ScopedIdentity, now: number): string | undefined {
  const dates = refuseDates(leaf, now);
  if (dates !== undefined) return dates;
  const { primaryThumbprint, secondaryThumbprint } = scoped.authentication?.x509Thumbprint ?? {};
  const known = [primaryThumbprint, secondaryThumbprint].filter(Boolean).map((text) => text?.toLowerCase());
  const given = ['sha1', 'sha256'].map((hash) => createHash(hash).update(leaf.raw).digest('hex'));
  return given.some((thumbprint) => known.includes(thumbprint)) ? undefined : 'the thumbprint is not a known one';
}

function refuseChain(
  leaf: X509Certificate,
  issuers: X509Certificate[],
  deviceId: string,
  trustBundle: X509Certificate[],
  now: number,
): string | undefined {
  if (commonName(leaf) !== deviceId) return 'the common name is not the device id';
  const dates = refuseDates(leaf, now);
  if (dates !== undefined) return dates;
  if (leaf.ca) return 'a CA certificate is no client certificate';
  // edgeHub installs its trust bundle into the store, so a root that was not sent still completes the chain.
  const chain = buildChain(leaf, [...issuers, ...trustBundle]);
  const late = chain.slice(1).map((issuer) => refuseDates(issuer, now));
  const reason = late.find((text) => text !== undefined);
  if (reason !== undefined) return `an issuer: ${reason}`;
  const trusted = new Set(trustBundle.map((certificate) => certificate.fingerprint256));
  const isTrusted = chain.some((certificate) => trusted.has(certificate.fingerprint256));
  return isTrusted ? undefined : "no certificate of the chain is in the gateway's trust bundle";
}

/** From the certificate upwards as far as issuers are at hand; every link's signature is checked. */
function buildChain(leaf: X509Certificate, issuers: X509Certificate[]): X509Certificate[] {
  const chain = [leaf];
  let last = leaf;
  while (chain.length < 10) {
    const child = last;
    const issuer = issuers.find(
      (candidate) => candidate.ca && child.checkIssued(candidate) && isSigned(child, candidate),
    );
    if (issuer === undefined || chain.some((known) => known.fingerprint256 === issuer.fingerprint256)) break;
    chain.push(issuer);
    last = issuer;
  }
  return chain;
}

function isSigned(certificate: X509Certificate, issuer: X509Certificate): boolean {
  try {
    return certificate.verify(issuer.publicKey);
  } catch {
    // A key of another kind than the signature's.
    return false;
  }
}

function refuseDates(certificate: X509Certificate, now: number): string | undefined {
  if (certificate.validToDate.getTime() < now) return `the certificate ended on ${certificate.validTo}`;
  return certificate.validFromDate.getTime() > now ? `the certificate begins on ${certificate.validFrom}` : undefined;
}

function commonName(certificate: X509Certificate): string | undefined {
  return /^CN=(.*)$/m.exec(certificate.subject)?.[1];
}

/** The certificates of PEM texts, each of which may hold several. */
export function readCertificates(pems: string[]): X509Certificate[] {
  const blocks = pems.flatMap((pem) => pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []);
  return blocks.map((block) => new X509Certificate(block));
}
