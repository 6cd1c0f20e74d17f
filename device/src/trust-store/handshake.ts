import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import * as tls from 'node:tls';
import { GatepostDeviceError } from '../errors.ts';
import { probeGateway } from '../probe.ts';
import { hasProgram, lastWord, type Machine, run } from './machine.ts';
import type { GatewayToProve } from './roots.ts';
import { type TrustStore, toPem } from './store.ts';

/** In what way the handshake used the system's trust, and what there is to say about it. */
export interface Proof {
  by: string;
  remarks: string[];
}

/**
 * Connects to the gateway trusting what the system trusts, in the most honest way there is:
 * 1. Linux with openssl: `openssl s_client` without any CA option, so OpenSSL itself searches the system's store;
 * 2. Windows and macOS with Node 22.15 or newer: `tls.getCACertificates('system')`, which asks the system;
 * 3. else (Node 20, no openssl): the certificates as they were read back from the store, as the only trust of Node.
 * Node itself never looks into the system's store by default, so a plain connection would prove nothing.
 * Throws the codes of {@link probeGateway} and `trust_unverified`.
 */
export async function proveBySystemTrust(
  store: TrustStore,
  { host, port }: GatewayToProve,
  roots: X509Certificate[],
  machine: Machine,
): Promise<Proof> {
  const isThisSystem = machine.root === '/' && machine.platform === process.platform;
  if (isThisSystem && machine.platform === 'linux' && (await hasProgram(machine, 'openssl'))) {
    const outcome = await run(machine, 'openssl', openssl(host, port), {
      timeoutMs: 15_000,
      // Where OpenSSL shall look instead of the system's store, if somebody says so.
      environment: { SSL_CERT_FILE: undefined, SSL_CERT_DIR: undefined },
    });
    const said = `${outcome.stdout}\n${outcome.stderr}`;
    if (outcome.code === 0 && /Verification: OK/.test(said)) {
      return { by: 'openssl s_client with the trust of the system', remarks: [] };
    }
    const proof = await proveByReadBack(store, host, port, roots);
    const reason = /verify error:(.*)/.exec(said)?.[1] ?? lastWord(outcome);
    return {
      ...proof,
      remarks: [`the openssl in the PATH does not trust it (${reason}): it looks elsewhere than in ${store.reads}`],
    };
  }
  const ofSystem = isThisSystem && machine.platform !== 'linux' ? systemCertificates() : undefined;
  if (ofSystem === undefined) return proveByReadBack(store, host, port, roots);
  await prove(host, port, ofSystem, roots, store.reads);
  return { by: "Node with the system's certificates", remarks: [] };
}

function openssl(host: string, port: number): string[] {
  const name = isIP(host) === 0 ? ['-servername', host, '-verify_hostname', host] : ['-verify_ip', host];
  return ['s_client', '-connect', `${host}:${port}`, ...name, '-verify_return_error', '-brief'];
}

async function proveByReadBack(
  store: TrustStore,
  host: string,
  port: number,
  roots: X509Certificate[],
): Promise<Proof> {
  await prove(host, port, [...(await store.trusted()).values()], roots, store.reads);
  return { by: `Node with what was read back from ${store.reads}`, remarks: [] };
}

/** A failure is explained by the roots in question only: with all of the system's, the message would name hundreds. */
async function prove(host: string, port: number, trust: string[], roots: X509Certificate[], reads: string) {
  const readable = trust.filter(isReadable);
  try {
    await probeGateway({ host, port, roots: readable.join('') });
  } catch (error) {
    if (error instanceof GatepostDeviceError && !error.code.startsWith('chain_')) throw error;
    await probeGateway({ host, port, roots: roots.map(toPem).join('') });
    throw new GatepostDeviceError(
      'trust_unverified',
      `${host}:${port} is proven by the root, but not by what ${reads} holds: the system does not trust it.`,
      { cause: error },
    );
  }
}

/** `tls.getCACertificates` came with Node 22.15 and 23.10 (nodejs.org/api/tls.html). */
function systemCertificates(): string[] | undefined {
  const { getCACertificates } = tls as { getCACertificates?: (type: 'system') => string[] };
  return getCACertificates?.('system');
}

function isReadable(pem: string): boolean {
  try {
    return new X509Certificate(pem) !== undefined;
  } catch {
    return false;
  }
}
