import 'reflect-metadata';
import type { KeyObject, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { ProblemCode } from '../errors.ts';

/** A rule that a certificate breaks, and what to do about it. */
export interface LintFault {
  code: ProblemCode;
  detail: string;
}

const smallestRsaBits = 2048;
const curves = ['prime256v1', 'secp384r1', 'secp521r1'];

/**
 * What keeps a certificate from being the root of a trust bundle: every rule it breaks, none where it breaks none. The
 * rules are those by which TLS clients in the field reject a chain (RFC 5280 sections 4.2.1.3, 4.2.1.9 and 6.1), with the
 * algorithms that Key Vault and the SDKs of IoT Hub know.
 */
export function lintRoot(certificate: X509Certificate, now: Date): LintFault[] {
  const parts = partsOf(certificate);
  if (parts === undefined) {
    return [{ code: 'root_not_pem', detail: 'The certificate is damaged: parts of it cannot be read. Copy it again.' }];
  }
  const faults: (LintFault | undefined)[] = [
    checkCa(parts),
    checkKeyUsage(parts),
    checkSelfSigned(certificate),
    checkValidity(certificate, now),
    checkKey(parts.publicKey),
    checkSignature(parts),
  ];
  return faults.filter((fault) => fault !== undefined);
}

interface Parts {
  publicKey: KeyObject;
  isCa: boolean;
  /** Undefined where the certificate has no key usage, which allows everything; `openssl req -x509` writes none. */
  keyUsages: x509.KeyUsageFlags | undefined;
  signatureHash: string;
}

/** OpenSSL takes certificates whose inner parts are broken, so that some of them throw only when they are looked at. */
function partsOf(certificate: X509Certificate): Parts | undefined {
  try {
    const parsed = new x509.X509Certificate(certificate.raw);
    const { hash } = parsed.signatureAlgorithm as { hash?: { name?: string } };
    return {
      publicKey: certificate.publicKey,
      // Node's own `ca` also says no where only the key usage is wrong: the two have different remedies.
      isCa: parsed.getExtension(x509.BasicConstraintsExtension)?.ca === true,
      keyUsages: parsed.getExtension(x509.KeyUsagesExtension)?.usages,
      signatureHash: hash?.name ?? 'unknown',
    };
  } catch {
    return undefined;
  }
}

function checkCa({ isCa }: Parts): LintFault | undefined {
  if (isCa) return undefined;
  const detail =
    'Its basic constraints do not say CA:TRUE. Give the certificate of the CA, not one that the CA issued.';
  return { code: 'root_not_ca', detail };
}

/** Of a CA only: what else may be in the key usage of another is its own affair. */
function checkKeyUsage({ isCa, keyUsages }: Parts): LintFault | undefined {
  const allows = keyUsages === undefined || (keyUsages & x509.KeyUsageFlags.keyCertSign) !== 0;
  if (allows || !isCa) return undefined;
  const detail = 'Its key usage lacks keyCertSign: TLS clients would refuse what it issued.';
  return { code: 'root_cannot_sign', detail };
}

function checkSelfSigned(certificate: X509Certificate): LintFault | undefined {
  if (certificate.subject === certificate.issuer && isSignedByItself(certificate)) return undefined;
  const detail =
    'It is signed by another CA, and an intermediate alone is no trust anchor for OpenSSL and Node. Give the root at the top of its chain.';
  return { code: 'root_not_self_signed', detail };
}

function isSignedByItself(certificate: X509Certificate): boolean {
  try {
    return certificate.verify(certificate.publicKey);
  } catch {
    return false;
  }
}

function checkValidity(certificate: X509Certificate, now: Date): LintFault | undefined {
  const { validFromDate: from, validToDate: to } = certificate;
  if (to < now) return { code: 'root_expired', detail: `It expired at ${to.toISOString()}.` };
  if (from > now) {
    const detail = `It is valid from ${from.toISOString()}. Wait until then, or check the clock of the machine that made it.`;
    return { code: 'root_not_yet_valid', detail };
  }
  return undefined;
}

function checkKey(key: KeyObject): LintFault | undefined {
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {};
  const type = key.asymmetricKeyType;
  if (type === 'rsa' && modulusLength >= smallestRsaBits) return undefined;
  if (type === 'ec' && curves.includes(namedCurve)) return undefined;
  const found =
    type === 'rsa' ? `RSA of ${modulusLength} bits` : type === 'ec' ? `the curve ${namedCurve}` : String(type);
  const detail = `Its key is ${found}. Use RSA of at least ${smallestRsaBits} bits, or ECDSA on P-256, P-384 or P-521.`;
  return { code: 'root_weak_algorithm', detail };
}

function checkSignature({ signatureHash, publicKey }: Parts): LintFault | undefined {
  if (/^SHA-(?:256|384|512)$/.test(signatureHash)) return undefined;
  // A key that is refused anyway, such as Ed25519, is told of once.
  if (publicKey.asymmetricKeyType !== 'rsa' && publicKey.asymmetricKeyType !== 'ec') return undefined;
  const detail = `It is signed over a ${signatureHash} digest. Sign it anew with SHA-256 or better.`;
  return { code: 'root_weak_algorithm', detail };
}
