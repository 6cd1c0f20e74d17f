import 'reflect-metadata';
import * as x509 from '@peculiar/x509';

/** A degenerate SignedData that carries certificates only (RFC 5652 section 5.1, RFC 5751 section 3.2.2), as DER. */
export function certsOnly(pems: readonly string[]): Uint8Array {
  const certificates = new x509.X509Certificates(pems.map((pem) => new x509.X509Certificate(pem)));
  return new Uint8Array(certificates.export('raw'));
}
