import type { X509Certificate } from 'node:crypto';

/** How far up a server's certificate can be followed. */
export interface Path {
  /** From the server's own certificate upwards, as far as it leads; the trusted one at its end is included. */
  certificates: X509Certificate[];
  /** The trusted certificate in which it ends. */
  anchor: X509Certificate | undefined;
  /** A trusted certificate that has the name of the missing issuer, and another key. */
  namesake: X509Certificate | undefined;
}

/**
 * Follows names and signatures, and nothing else: whether an issuer may issue, and its dates, are other questions with
 * other answers. OpenSSL gives one answer for all of them, and a different one for each order in which it meets them.
 */
export function followPath(sent: readonly X509Certificate[], trusted: readonly X509Certificate[]): Path {
  const [leaf, ...others] = sent;
  if (leaf === undefined) return { certificates: [], anchor: undefined, namesake: undefined };
  const certificates = [leaf];
  let last = leaf;
  for (;;) {
    const child = last;
    const itself = trusted.find((each) => each.raw.equals(child.raw));
    if (itself !== undefined) return { certificates, anchor: itself, namesake: undefined };
    const anchor = trusted.find((each) => isSignedBy(child, each));
    if (anchor !== undefined) return { certificates: [...certificates, anchor], anchor, namesake: undefined };
    const next = others.find((each) => !certificates.includes(each) && isSignedBy(child, each));
    if (next === undefined || isSelfSigned(child)) {
      const namesake = trusted.find((each) => each.subject === child.issuer);
      return { certificates, anchor: undefined, namesake };
    }
    certificates.push(next);
    last = next;
  }
}

export function isSelfSigned(certificate: X509Certificate): boolean {
  return isSignedBy(certificate, certificate);
}

/** By name and signature. `checkIssued` also looks at key usage and key ids. */
export function isSignedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  if (certificate.issuer !== issuer.subject) return false;
  try {
    return certificate.verify(issuer.publicKey);
  } catch {
    // A key of another kind than the signature.
    return false;
  }
}

export function commonNameOf(certificate: X509Certificate): string | undefined {
  return /^CN=(.*)$/m.exec(certificate.subject)?.[1];
}
