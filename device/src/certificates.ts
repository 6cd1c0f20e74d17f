import { createHash, X509Certificate } from 'node:crypto';
import { GatepostDeviceError } from './errors.ts';

const pemBlock = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** The lower-case hexadecimal SHA-256 of the certificate's DER, as `openssl x509 -fingerprint -sha256` without its colons. */
export function fingerprint(certificate: X509Certificate): string {
  return createHash('sha256').update(certificate.raw).digest('hex');
}

/**
 * Reads a SHA-256 as people paste it: any case, with or without colons or spaces.
 * Throws `usage` where it is not 64 hexadecimal digits.
 */
export function parseFingerprint(text: string): string {
  const digits = text.replace(/^sha256:/i, '').replace(/[\s:]/g, '');
  if (!/^[0-9a-f]{64}$/i.test(digits)) {
    throw new GatepostDeviceError(
      'usage',
      'A root fingerprint is the SHA-256 of the certificate: 64 hexadecimal digits.',
    );
  }
  return digits.toLowerCase();
}

/** Every certificate of a PEM text, in order. Throws what `X509Certificate` throws where one does not read. */
export function readCertificates(pem: string): X509Certificate[] {
  return (pem.match(pemBlock) ?? []).map((block) => new X509Certificate(block));
}

/**
 * Whether TLS may end a chain at this certificate. An intermediate is no anchor, neither for OpenSSL without
 * X509_V_FLAG_PARTIAL_CHAIN nor for Node, so trusting one alone only moves the failure to the first connection.
 */
export function isAnchor(certificate: X509Certificate): boolean {
  return certificate.ca && isIssuedBy(certificate, certificate);
}

/** Whether `issuer` is named in the certificate and its key made the signature. */
export function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

/** The subject on one line: `CN=Contoso root,O=Contoso`. */
export function subjectOf(certificate: X509Certificate): string {
  return certificate.subject.split('\n').join(',');
}
