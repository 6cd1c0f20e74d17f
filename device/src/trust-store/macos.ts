import { createHash, type X509Certificate } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fingerprint } from '../certificates.ts';
import { GatepostDeviceError, systemCode } from '../errors.ts';
import { at, hasProgram, lastWord, type Machine, run } from './machine.ts';
import type { Step } from './steps.ts';
import { bySha256, isMark, markedCertificate, markOf, type OwnRoot, type TrustStore, toPem } from './store.ts';

const keychain = '/Library/Keychains/System.keychain';
/** Keychains have no place for a mark of ours, and `security` wants files: so they are kept. Only root writes here. */
const ledger = '/Library/Application Support/Gatepost/roots';

/**
 * The System keychain and the trust settings of the administrator, both by security(1). They are two things: a
 * certificate can be in the keychain and not be trusted, so a root counts only where both say so.
 */
export function macos(machine: Machine): TrustStore {
  const folder = at(machine, ledger);
  return {
    system: 'macOS',
    reads: `${keychain} and the administrator's trust settings`,
    shell: 'sh',
    ready: () => ready(machine),
    ours: () => ours(folder),
    trusted: () => trusted(machine),
    add: async (roots) => roots.flatMap((root) => addition(folder, root)),
    remove: (roots) => removal(machine, roots),
  };
}

function addition(folder: string, root: X509Certificate): Step[] {
  const path = join(folder, `${markOf(root)}.crt`);
  return [
    { kind: 'write', path, content: toPem(root) },
    security('add-trusted-cert', '-d', '-r', 'trustRoot', '-k', keychain, path),
  ];
}

/** Only what is still there is removed, as `security` fails on what is not; the file goes last, for a retry to find it. */
async function removal(machine: Machine, roots: OwnRoot[]): Promise<Step[]> {
  const settings = await trustSettings(machine);
  const present = await keychainContents(machine);
  return roots.flatMap(({ mark, certificate }): Step[] => {
    const steps: Step[] = [];
    if (certificate !== undefined && settings.has(sha1(certificate))) {
      steps.push(security('remove-trusted-cert', '-d', mark));
    }
    if (certificate !== undefined && present.has(fingerprint(certificate))) {
      steps.push(security('delete-certificate', '-Z', sha1(certificate), keychain));
    }
    return [...steps, { kind: 'delete', path: mark }];
  });
}

function security(...parameters: string[]): Step {
  return { kind: 'run', command: 'security', parameters };
}

async function ready(machine: Machine): Promise<void> {
  if (!(await hasProgram(machine, 'security'))) {
    throw new GatepostDeviceError('trust_store_unknown', 'security, a part of macOS, is not found in the PATH.');
  }
  if (process.getuid?.() === 0) return;
  throw new GatepostDeviceError(
    'trust_not_permitted',
    'The System keychain may be changed by root only, nothing was changed: run it again with sudo. ' +
      'A program of your own needs no root: gatepost-device trust install --app.',
  );
}

async function ours(folder: string): Promise<OwnRoot[]> {
  try {
    const names = (await readdir(folder)).filter((name) => name.endsWith('.crt') && isMark(name.slice(0, -4))).sort();
    return await Promise.all(
      names.map(async (name) => {
        const mark = join(folder, name);
        return { mark, certificate: markedCertificate(name.slice(0, -4), await readFile(mark, 'utf8')) };
      }),
    );
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}

async function trusted(machine: Machine): Promise<Map<string, string>> {
  const settings = await trustSettings(machine);
  const present = await keychainContents(machine);
  // Apple's own roots are in another keychain and no matter of ours.
  return new Map([...present].filter(([, pem]) => settings.has(sha1OfPem(pem))));
}

async function keychainContents(machine: Machine): Promise<Map<string, string>> {
  const outcome = await run(machine, 'security', ['find-certificate', '-a', '-p', keychain]);
  // It also fails where there is no certificate at all.
  if (outcome.code !== 0 && !/could not be found/i.test(outcome.stderr)) {
    throw new GatepostDeviceError('trust_store_unknown', `${keychain} cannot be read: ${lastWord(outcome)}`);
  }
  return bySha256(outcome.stdout);
}

/** The SHA-1 of each certificate that the administrator set trust for: the keys of the list in what is exported. */
async function trustSettings(machine: Machine): Promise<Set<string>> {
  const folder = await mkdtemp(join(tmpdir(), 'gatepost-trust-'));
  try {
    const file = join(folder, 'settings.plist');
    const outcome = await run(machine, 'security', ['trust-settings-export', '-d', file]);
    if (outcome.code !== 0) {
      if (/No Trust Settings were found/i.test(`${outcome.stderr}${outcome.stdout}`)) return new Set();
      throw new GatepostDeviceError('trust_store_unknown', `The trust settings cannot be read: ${lastWord(outcome)}`);
    }
    const plist = await readFile(file, 'utf8');
    return new Set([...plist.matchAll(/<key>([0-9A-F]{40})<\/key>/gi)].map(([, key]) => (key ?? '').toUpperCase()));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function sha1(certificate: X509Certificate): string {
  return certificate.fingerprint.replaceAll(':', '');
}

function sha1OfPem(pem: string): string {
  const [, base64 = ''] = /-----BEGIN CERTIFICATE-----([\s\S]+?)-----END/.exec(pem) ?? [];
  return createHash('sha1').update(Buffer.from(base64, 'base64')).digest('hex').toUpperCase();
}
