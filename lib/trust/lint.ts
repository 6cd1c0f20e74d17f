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
  const faults: (LintFault | undefined)[] = [
    checkCa(certificate),
    checkKeyUsage(certificate),
    checkSelfSigned(certificate),
    checkValidity(certificate, now),
    checkKey(certificate.publicKey),
    checkSignature(certificate),
  ];
  return faults.filter((fault) => fault !== undefined);
}

/** Node's own `ca` also says no where only the key usage is wrong: the two have different remedies. */
function checkCa(certificate: X509Certificate): LintFault | undefined {
  if (isCa(certificate)) return undefined;
  const detail =
    'Its basic constraints do not say CA:TRUE. Give the certificate of the CA, not one that the CA issued.';
  return { code: 'root_not_ca', detail };
}

function isCa(certificate: X509Certificate): boolean {
  return parsed(certificate)?.getExtension(x509.BasicConstraintsExtension)?.ca === true;
}

/** Of a CA only: what else may be in the key usage of another is its own affair. Absent, it allows everything. */
function checkKeyUsage(certificate: X509Certificate): LintFault | undefined {
  const usage = parsed(certificate)?.getExtension(x509.KeyUsagesExtension);
  const allows = usage === undefined || usage === null || (usage.usages & x509.KeyUsageFlags.keyCertSign) !== 0;
  if (allows || !isCa(certificate)) return undefined;
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

function checkSignature(certificate: X509Certificate): LintFault | undefined {
  const algorithm = parsed(certificate)?.signatureAlgorithm as { name?: string; hash?: { name?: string } } | undefined;
  const hash = algorithm?.hash?.name ?? 'unknown';
  if (/^SHA-(?:256|384|512)$/.test(hash)) return undefined;
  // A key that is refused anyway, such as Ed25519, is told of once.
  if (certificate.publicKey.asymmetricKeyType !== 'rsa' && certificate.publicKey.asymmetricKeyType !== 'ec')
    return undefined;
  return {
    code: 'root_weak_algorithm',
    detail: `It is signed over a ${hash} digest. Sign it anew with SHA-256 or better.`,
  };
}

function parsed(certificate: X509Certificate): x509.X509Certificate | undefined {
  try {
    return new x509.X509Certificate(certificate.raw);
  } catch {
    return undefined;
  }
}
