import { X509Certificate } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GatepostDeviceError } from '../errors.ts';
import { hasProgram, lastWord, type Machine, run } from './machine.ts';
import type { Step } from './steps.ts';
import { bySha256, isMark, markedCertificate, markOf, type OwnRoot, type TrustStore, toPem } from './store.ts';

/** Name and certificate of each line; what programs print for people is in the language of the system. */
const list =
  "$ErrorActionPreference = 'Stop'; Get-ChildItem -LiteralPath Cert:\\LocalMachine\\Root | " +
  "ForEach-Object { $_.FriendlyName + '|' + [Convert]::ToBase64String($_.RawData) }";

/**
 * The store of the machine, not of the user: services do not see the latter. certutil adds and removes
 * (learn.microsoft.com/windows-server/administration/windows-commands/certutil), and the friendly name, a property that
 * Windows keeps beside the certificate and only an administrator can change, says that it is Gatepost's. What certutil
 * reports is not believed: step-ca reported success where the store did not have the root (smallstep/certificates#2150).
 */
export function windows(machine: Machine): TrustStore {
  return {
    system: 'Windows',
    reads: 'Cert:\\LocalMachine\\Root',
    shell: 'powershell',
    ready: () => ready(machine),
    ours: async () => {
      const entries = await entriesOf(machine);
      return entries.flatMap(({ name, pem }) =>
        isMark(name) ? [{ mark: name, certificate: markedCertificate(name, pem) }] : [],
      );
    },
    trusted: async () => bySha256((await entriesOf(machine)).map(({ pem }) => pem).join('')),
    add: async (roots) => roots.flatMap((root) => addition(machine, root)),
    remove: async (roots) => roots.map(removal),
  };
}

function addition(machine: Machine, root: X509Certificate): Step[] {
  const path = join(machine.environment.TEMP ?? tmpdir(), `${markOf(root)}.crt`);
  const item = `Cert:\\LocalMachine\\Root\\${thumbprint(root)}`;
  return [
    { kind: 'write', path, content: toPem(root) },
    // Without the mark, it would be taken for somebody else's at the next time, and stay for ever.
    { ...certutil('-addstore', '-f', 'Root', path), undo: certutil('-delstore', 'Root', thumbprint(root)) },
    powershell(`(Get-Item -LiteralPath '${item}' -ErrorAction Stop).FriendlyName = '${markOf(root)}'`),
    { kind: 'delete', path },
  ];
}

function removal({ mark, certificate }: OwnRoot): Step {
  if (certificate !== undefined) {
    return certutil('-delstore', 'Root', thumbprint(certificate));
  }
  // The name of Gatepost on somebody else's certificate: the name goes, the certificate stays.
  return powershell(
    `Get-ChildItem -LiteralPath Cert:\\LocalMachine\\Root | Where-Object { $_.FriendlyName -eq '${mark}' } | ForEach-Object { $_.FriendlyName = '' }`,
  );
}

function certutil(...parameters: string[]): Step & { kind: 'run' } {
  return { kind: 'run', command: 'certutil', parameters };
}

function powershell(command: string): Step & { kind: 'run' } {
  return {
    kind: 'run',
    command: 'powershell',
    parameters: ['-NoProfile', '-NonInteractive', '-Command', command],
  };
}

async function ready(machine: Machine): Promise<void> {
  for (const program of ['certutil', 'powershell']) {
    if (await hasProgram(machine, program)) continue;
    throw new GatepostDeviceError('trust_store_unknown', `${program}, a part of Windows, is not found in the PATH.`);
  }
}

async function entriesOf(machine: Machine): Promise<{ name: string; pem: string }[]> {
  const { command, parameters } = powershell(list);
  const outcome = await run(machine, command, parameters);
  if (outcome.code !== 0) {
    throw new GatepostDeviceError(
      'trust_store_unknown',
      `Cert:\\LocalMachine\\Root cannot be read: ${lastWord(outcome)}`,
    );
  }
  return outcome.stdout.split(/\r?\n/).flatMap((line) => {
    const bar = line.lastIndexOf('|');
    const certificate = bar < 0 ? undefined : certificateOf(line.slice(bar + 1));
    return certificate === undefined ? [] : [{ name: line.slice(0, bar), pem: toPem(certificate) }];
  });
}

function certificateOf(base64: string): X509Certificate | undefined {
  try {
    return new X509Certificate(Buffer.from(base64, 'base64'));
  } catch {
    return undefined;
  }
}

/** The SHA-1 that Windows calls a certificate by. It only names; what is trusted is compared by SHA-256. */
function thumbprint(certificate: X509Certificate): string {
  return certificate.fingerprint.replaceAll(':', '');
}
