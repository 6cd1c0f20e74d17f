import { readFile } from 'node:fs/promises';
import { rootCertificates } from 'node:tls';
import { GatepostDeviceError, reasonOf, systemCode } from '../errors.ts';

/** Where OpenSSL's default store is as one file: Debian, Fedora and RHEL, openSUSE, Alpine. */
const systemBundles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  '/etc/ssl/ca-bundle.pem',
  '/etc/ssl/cert.pem',
];

export interface TrustOptions {
  /** PEM file. */
  ca?: string | undefined;
  environment?: NodeJS.ProcessEnv;
}

/**
 * The roots that an agent trusts, as PEM: a file that is named, else the store of the system. That is what identityd itself
 * trusts (OpenSSL's defaults), so that a gateway whose root it knows is known to its agents too. Node's own list is what is
 * left where there is no such store.
 */
export async function agentRoots(options: TrustOptions = {}): Promise<string> {
  const { ca, environment = process.env } = options;
  if (ca !== undefined) return readNamed(ca);
  const named = environment.SSL_CERT_FILE;
  if (named) return readNamed(named);
  for (const path of systemBundles) {
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw unreadable(path, error);
    }
  }
  return rootCertificates.join('\n');
}

async function readNamed(path: string): Promise<string> {
  let pem: string;
  try {
    pem = await readFile(path, 'utf8');
  } catch (error) {
    throw unreadable(path, error);
  }
  if (pem.includes('-----BEGIN CERTIFICATE-----')) return pem;
  throw new GatepostDeviceError('usage', `${path} holds no PEM certificate.`);
}

function unreadable(path: string, error: unknown): GatepostDeviceError {
  return new GatepostDeviceError('usage', `${path} cannot be read: ${reasonOf(error)}`, { cause: error });
}
