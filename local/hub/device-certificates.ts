import type { X509Certificate } from 'node:crypto';
import { X509Certificate as Certificate } from 'node:crypto';
import type { Device, Principal } from './model.ts';

interface CertificateContext {
  certificateAuthorities: readonly string[];
  now(): Date;
}

/** Whether the certificates that a client showed, leaf first, are those of this identity. */
export function hasCertificate(
  context: CertificateContext,
  certificates: readonly X509Certificate[],
  principal: Principal,
  device: Device,
): boolean {
  const [own] = certificates;
  if (own === undefined || !isInDates(own, context.now())) return false;
  const { type, x509Thumbprint } = principal.authentication;
  if (type === 'selfSigned') {
    const known = [x509Thumbprint.primaryThumbprint, x509Thumbprint.secondaryThumbprint];
    const shown = [own.fingerprint, own.fingerprint256].map((print) => print.replaceAll(':', ''));
    return known.some((print) => print !== null && shown.includes(print.toUpperCase()));
  }
  if (type !== 'certificateAuthority' || commonName(own) !== device.deviceId) return false;
  const roots = context.certificateAuthorities.map((pem) => new Certificate(pem));
  return chainsTo(own, certificates.slice(1), roots, context.now());
}

/** True where a chain of the certificates that were sent leads from `own` to one of `roots`. */
function chainsTo(
  own: X509Certificate,
  sent: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  now: Date,
): boolean {
  let current = own;
  // No chain is longer than what was sent.
  for (let step = 0; step <= sent.length; step += 1) {
    if (roots.some((root) => isInDates(root, now) && isIssuedBy(current, root))) return true;
    const issuer = sent.find((one) => one.ca && isInDates(one, now) && isIssuedBy(current, one));
    if (issuer === undefined || issuer.fingerprint256 === current.fingerprint256) return false;
    current = issuer;
  }
  return false;
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function isInDates(certificate: X509Certificate, now: Date): boolean {
  return new Date(certificate.validFrom) <= now && now < new Date(certificate.validTo);
}

function commonName(certificate: X509Certificate): string | undefined {
  const line = certificate.subject.split('\n').find((part) => part.startsWith('CN='));
  return line?.slice(3);
}
