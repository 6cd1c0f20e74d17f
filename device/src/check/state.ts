import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseConnectionString } from '../connection-string.ts';
import { type OnboardingDocument, parseDocument, rootsPem } from '../document.ts';
import { reasonOf, systemCode } from '../errors.ts';
import { type Origin, rootsPath } from '../state.ts';
import type { Check } from './context.ts';
import { type CommonValues, defineCodes, type Finding, finder } from './findings.ts';
import { gatewayIsHub, isHubName } from './peer.ts';

export const stateCodes = defineCodes({
  state_ok: {
    severity: 'ok',
    cause: 'The state folder {state} holds a document that reads, and only its owner can look into it.',
    cure: 'Nothing needs to be done.',
    command: 'ls -la {state}',
  },
  state_missing: {
    severity: 'error',
    cause: 'The state folder {state} holds no onboarding document: this device has not joined.',
    cure: 'Run gatepost-device join, or name the folder that it filled with --state.',
    command: 'ls -la {state}',
  },
  state_unreadable: {
    severity: 'error',
    cause: 'The document in the state folder {state} cannot be read: {reason}.',
    cure: 'Run this as the user who joined, or give the folder to the user who runs it with chown.',
    command: 'id; ls -la {state}',
  },
  state_readable_by_others: {
    severity: 'error',
    cause:
      'Others than its owner may read document.json, which holds the credential (mode {mode}): gatepost-device run refuses it.',
    cure: 'Take the rights away with chmod 600; if others may have looked, have the key rotated and join again.',
    command: 'stat -c "%a %U %n" {state}/document.json',
  },
  state_folder_writable_by_others: {
    severity: 'error',
    cause:
      'Others than its owner may write into the state folder (mode {mode}): they can put roots of their own in place of the trusted ones.',
    cure: 'Take the rights away with chmod 700, and join again if you do not know what was changed.',
    command: 'stat -c "%a %U %n" {state}',
  },
  state_folder_open: {
    severity: 'warning',
    cause: 'Others than its owner may list the state folder (mode {mode}).',
    cure: 'Take the rights away with chmod 700.',
    command: 'stat -c "%a %U %n" {state}',
  },
  state_damaged: {
    severity: 'error',
    cause: 'The document in the state folder {state} is damaged: {reason}.',
    cure: 'Join again; nothing in that file is to be edited by hand.',
    command: 'python3 -m json.tool {state}/document.json >/dev/null',
  },
  gateway_name_contradicts: {
    severity: 'error',
    cause: 'The document names the gateway {documentName}, its connection string says GatewayHostName={stringName}.',
    cure: 'Join again: the two must be equal, and equal to the "hostname" in the config.toml of the gateway.',
    command: 'grep -o "GatewayHostName=[^;\\"]*" {state}/document.json; grep -A 3 \'"gateway"\' {state}/document.json',
  },
  roots_file_differs: {
    severity: 'warning',
    cause: 'The file roots.pem {what}: SDKs that are given this file do not trust what the document says.',
    cure: 'Join again, which writes both.',
    command: 'openssl crl2pkcs7 -nocrl -certfile {roots} | openssl pkcs7 -print_certs -noout',
  },
});

const found = finder(stateCodes);

export interface ExaminedState {
  findings: Finding[];
  /** Absent where the document cannot be used. */
  document?: OnboardingDocument;
  origin?: Origin;
}

/** Reads the state folder. What it holds is told even where its permissions forbid to use it. */
export async function examineState(folder: string, common: CommonValues): Promise<ExaminedState> {
  const path = join(folder, 'document.json');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    const isMissing = ['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '');
    return {
      findings: [
        isMissing ? found('state_missing', common, {}) : found('state_unreadable', common, { reason: reasonOf(error) }),
      ],
    };
  }
  const permissions = await examinePermissions(folder, path, common);
  const read = readDocument(text, common);
  if ('code' in read) return { findings: [...permissions, read] };
  const findings = [...permissions, ...(await examineRoots(folder, read, common))];
  const origin = await readOrigin(folder);
  return {
    findings: findings.length === 0 ? [found('state_ok', common, {}, describe(read, origin))] : findings,
    document: read,
    ...(origin === undefined ? {} : { origin }),
  };
}

function readDocument(text: string, common: CommonValues): OnboardingDocument | Finding {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's message would quote the text, which holds a secret.
    return found('state_damaged', common, { reason: 'it is not JSON' });
  }
  try {
    return parseDocument(value);
  } catch (error) {
    if (isForHub(value as OnboardingDocument)) return gatewayIsHub(common);
    const names = contradiction(value as OnboardingDocument);
    if (names !== undefined) return found('gateway_name_contradicts', common, names);
    return found('state_damaged', common, { reason: reasonOf(error).replace(/\.$/, '') });
  }
}

/** Only where the rest of it reads: otherwise the damage is the cause. */
function contradiction(document: OnboardingDocument) {
  try {
    const stringName = parseConnectionString(document.connectionString).gateway.host;
    const documentName = document.gateway.hostname.toLowerCase();
    return stringName === documentName ? undefined : { stringName, documentName };
  } catch {
    return undefined;
  }
}

function isForHub(document: OnboardingDocument): boolean {
  try {
    const { gateway, hub } = parseConnectionString(document.connectionString);
    return gateway.host === hub || isHubName(gateway.host);
  } catch {
    return false;
  }
}

/** POSIX modes only: Windows has access lists, which the folder inherits from the user's profile. */
async function examinePermissions(folder: string, path: string, common: CommonValues): Promise<Finding[]> {
  if (process.platform === 'win32') return [];
  const [ofFolder, ofFile] = await Promise.all([stat(folder), stat(path)]);
  const findings: Finding[] = [];
  const mode = (bits: number) => (bits & 0o777).toString(8);
  if ((ofFile.mode & 0o077) !== 0) {
    findings.push(found('state_readable_by_others', common, { mode: mode(ofFile.mode) }));
  }
  if ((ofFolder.mode & 0o022) !== 0) {
    findings.push(found('state_folder_writable_by_others', common, { mode: mode(ofFolder.mode) }));
  } else if ((ofFolder.mode & 0o077) !== 0) {
    findings.push(found('state_folder_open', common, { mode: mode(ofFolder.mode) }));
  }
  return findings;
}

async function examineRoots(folder: string, document: OnboardingDocument, common: CommonValues): Promise<Finding[]> {
  try {
    const text = await readFile(rootsPath(folder), 'utf8');
    if (text.trim() === rootsPem(document.trust).trim()) return [];
    return [found('roots_file_differs', common, { what: 'has other certificates than the document' })];
  } catch (error) {
    const what = systemCode(error) === 'ENOENT' ? 'is missing' : `cannot be read (${reasonOf(error)})`;
    return [found('roots_file_differs', common, { what })];
  }
}

/** Not there for an older join, or damaged: then less can be found out, and nothing is wrong. */
async function readOrigin(folder: string): Promise<Origin | undefined> {
  try {
    const origin = JSON.parse(await readFile(join(folder, 'origin.json'), 'utf8')) as Origin;
    return typeof origin === 'object' && origin !== null ? origin : undefined;
  } catch {
    return undefined;
  }
}

function describe({ device, gateway, trust }: OnboardingDocument, origin: Origin | undefined): string[] {
  const id = device.moduleId ? `${device.id}/${device.moduleId}` : device.id;
  const roots = trust.roots.length === 1 ? '1 root' : `${trust.roots.length} roots`;
  return [
    `${id} behind ${gateway.id}; trust sequence ${trust.sequence}, ${roots}`,
    ...(origin?.api ? [`joined at ${origin.api}`] : []),
  ];
}

export const stateCheck: Check = {
  name: 'state',
  title: 'the state folder',
  needs: [],
  ownOnly: true,
  run: ({ stateFindings }) => stateFindings,
};
