import { createHash, X509Certificate } from 'node:crypto';
import { fingerprint } from '../certificates.ts';
import type { Shell, Step } from './steps.ts';

/** A certificate that Gatepost installed. `certificate` is undefined where what stands under its mark is damaged. */
export interface OwnRoot {
  /** The file, or the name in the store, by which it is known as Gatepost's. */
  mark: string;
  certificate: X509Certificate | undefined;
}

/** The trust store of one system. Reading it needs no rights; the steps need those of an administrator. */
export interface TrustStore {
  /** As its vendor calls the system: `Debian GNU/Linux 12 (bookworm)`. */
  system: string;
  /** What is read back, in words. */
  reads: string;
  shell: Shell;
  /** Throws `trust_store_unknown` where a tool is missing, and `trust_not_permitted`. Changes nothing. */
  ready(): Promise<void>;
  /** What Gatepost installed, found by its marks and by nothing else. */
  ours(): Promise<OwnRoot[]>;
  /** All that the system trusts for TLS servers now: PEM by the SHA-256 of the certificate. */
  trusted(): Promise<Map<string, string>>;
  add(roots: X509Certificate[]): Promise<Step[]>;
  remove(roots: OwnRoot[]): Promise<Step[]>;
}

const mark = /^gatepost-([0-9a-f]{16})$/;

/** The name under which Gatepost installs a root: its own, and different for each certificate. */
export function markOf(root: X509Certificate): string {
  return `gatepost-${fingerprint(root).slice(0, 16)}`;
}

/** Whether a name is one of {@link markOf}. */
export function isMark(name: string): boolean {
  return mark.test(name);
}

/** The certificate in a text, if it is the one that its mark names. */
export function markedCertificate(name: string, pem: string): X509Certificate | undefined {
  try {
    const certificate = new X509Certificate(pem);
    return markOf(certificate) === name ? certificate : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Every certificate of a bundle, by its SHA-256. A bundle of a system may hold what Node cannot parse: the hash is that
 * of the bytes, and only what is looked for is ever parsed.
 */
export function bySha256(bundle: string): Map<string, string> {
  const found = new Map<string, string>();
  // `TRUSTED CERTIFICATE` blocks of OpenSSL hold more than the certificate and are not meant.
  for (const [pem, base64] of bundle.matchAll(/-----BEGIN CERTIFICATE-----([\s\S]+?)-----END CERTIFICATE-----/g)) {
    const der = Buffer.from(base64 ?? '', 'base64');
    found.set(createHash('sha256').update(der).digest('hex'), `${pem}\n`);
  }
  return found;
}

/** The certificate as PEM with a newline at its end: Alpine's update-ca-certificates joins files without adding one. */
export function toPem(root: X509Certificate): string {
  return `${root.toString().trim()}\n`;
}
