import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GatepostDeviceError, reasonOf, systemCode } from '../errors.ts';

/** What an installation has made and an uninstallation takes away: the user, its group, memberships by their group. */
export type Made = string[];

export interface Principal {
  /** The user's number; a text where it is not known yet, for people to read. */
  uid: number | string;
  name: string;
  kind: 'module' | 'device';
}

const heading = '# Installed by gatepost-device agent install; taken away by --uninstall.';
const madeHeading = '# Made for it: ';

/** Where identityd looks for principals, in a scratch root or not. */
export function configFolder(root: string | undefined): string {
  return join(root ?? '/', 'etc/aziot/identityd/config.d');
}

export function principalPath(root: string | undefined, name: string): string {
  return join(configFolder(root), `${name}.toml`);
}

/** The file as the Identity Service's document has it (docs/develop-an-agent.md), under what this program has to remember. */
export function principalText({ uid, name, kind }: Principal, made: Made): string {
  return [
    heading,
    `${madeHeading}${made.length === 0 ? 'nothing' : made.join(' ')}`,
    '[[principal]]',
    `uid = ${uid}`,
    `name = "${name}"`,
    `idtype = ["${kind}"]`,
    '',
  ].join('\n');
}

export interface Installed {
  text: string;
  made: Made;
}

/** The file of an earlier installation. Throws `install_failed` where somebody else wrote one of that name. */
export async function readInstalled(path: string): Promise<Installed | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw failed(`${path} cannot be read: ${reasonOf(error)}`);
  }
  const [first, second = ''] = text.split('\n');
  if (first !== heading || !second.startsWith(madeHeading)) {
    throw failed(`${path} was not written by gatepost-device: move it away, or take another --module name.`);
  }
  const made = second
    .slice(madeHeading.length)
    .split(' ')
    .filter((word) => word !== '' && word !== 'nothing');
  return { text, made };
}

/**
 * Throws `install_failed` where another file registers the same name or the same user: identityd would refuse its whole
 * configuration for the first, and go by one of the two for the second.
 */
export async function checkOthers(root: string | undefined, principal: Principal): Promise<void> {
  const folder = configFolder(root);
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') {
      throw failed(`${folder} is not there: install aziot-identity-service first (it comes with IoT Edge).`);
    }
    throw failed(`${folder} cannot be read: ${reasonOf(error)}`);
  }
  for (const name of names) {
    if (!name.endsWith('.toml') || name === `${principal.name}.toml`) continue;
    const text = await readFile(join(folder, name), 'utf8').catch(() => '');
    const uids = [...text.matchAll(/^\s*uid\s*=\s*(\d+)/gm)].map((found) => Number(found[1]));
    const modules = [...text.matchAll(/^\s*name\s*=\s*"([^"]*)"/gm)].map((found) => found[1]);
    if (modules.includes(principal.name)) throw failed(`${join(folder, name)} registers ${principal.name} already.`);
    if (typeof principal.uid === 'number' && uids.includes(principal.uid)) {
      throw failed(`${join(folder, name)} registers user ${principal.uid} already: a user is one principal.`);
    }
  }
}

function failed(what: string): GatepostDeviceError {
  return new GatepostDeviceError('install_failed', what);
}
