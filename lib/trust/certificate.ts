import { X509Certificate } from 'node:crypto';

/** What is told of a certificate. */
export interface CertificateFacts {
  /** SHA-256 over the DER, 64 lower-case hexadecimal digits. */
  sha256: string;
  /** RFC 4514 order is not kept: most significant first, as OpenSSL prints it, on one line. */
  subject: string;
  serialNumber: string;
  notBefore: string;
  notAfter: string;
}

const label = 'CERTIFICATE';

/** The facts of a certificate. */
export function factsOf(certificate: X509Certificate): CertificateFacts {
  return {
    sha256: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    subject: certificate.subject.replaceAll('\n', ', '),
    serialNumber: certificate.serialNumber.toLowerCase(),
    notBefore: certificate.validFromDate.toISOString(),
    notAfter: certificate.validToDate.toISOString(),
  };
}

/** One certificate as PEM: lines of 64 characters, a newline at the end, nothing around it. */
export function toPem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** Reads a fingerprint as people paste it: any case, with or without colons. Undefined where it is none. */
export function fingerprint(text: string): string | undefined {
  const digits = text.replaceAll(':', '').toLowerCase();
  return /^[0-9a-f]{64}$/.test(digits) ? digits : undefined;
}

/** The labels of the PEM blocks in a text, in order. */
export function pemLabels(text: string): string[] {
  return [...text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----/g)].map((found) => String(found[1]));
}

/** Reads the one certificate of a PEM text; undefined where it cannot be read. */
export function certificateOf(pem: string): X509Certificate | undefined {
  const block = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/.exec(pem)?.[0];
  try {
    return block === undefined ? undefined : new X509Certificate(block);
  } catch {
    return undefined;
  }
}
