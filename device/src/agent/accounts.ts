import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { GatepostDeviceError, reasonOf, systemCode } from '../errors.ts';

export interface User {
  name: string;
  uid: number;
  gid: number;
}

export interface Group {
  name: string;
  gid: number;
  /** Who has it as a supplementary group. */
  members: string[];
}

/**
 * The users and groups of a system: those of `etc/passwd` and `etc/group` in a scratch root, else what the name service of
 * this one says, directories such as LDAP included.
 */
export class Accounts {
  readonly #root: string | undefined;

  constructor(root: string | undefined) {
    this.#root = root;
  }

  async user(name: string): Promise<User | undefined> {
    const [found, , uid, gid] = (await this.#entry('passwd', name))?.split(':') ?? [];
    return found === undefined ? undefined : { name: found, uid: Number(uid), gid: Number(gid) };
  }

  async group(name: string): Promise<Group | undefined> {
    const [found, , gid, members = ''] = (await this.#entry('group', name))?.split(':') ?? [];
    if (found === undefined) return undefined;
    return { name: found, gid: Number(gid), members: members.split(',').filter(Boolean) };
  }

  /** The supplementary groups that name this user. */
  async groupsOf(user: string): Promise<string[]> {
    const lines = (await this.#file('group')).split('\n').map((line) => line.split(':'));
    return lines.flatMap(([name = '', , , members = '']) => (members.split(',').includes(user) ? [name] : []));
  }

  async #entry(database: 'passwd' | 'group', name: string): Promise<string | undefined> {
    if (this.#root === undefined) {
      try {
        return (await promisify(execFile)('getent', [database, name])).stdout.split('\n')[0];
      } catch (error) {
        // 2 is getent's word for a name that nobody knows.
        if ((error as { code?: unknown }).code === 2) return undefined;
        if (systemCode(error) !== 'ENOENT') throw unreadable(database, error);
      }
    }
    return (await this.#file(database)).split('\n').find((line) => line.startsWith(`${name}:`));
  }

  async #file(database: 'passwd' | 'group'): Promise<string> {
    const path = join(this.#root ?? '/', 'etc', database);
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      throw unreadable(path, error);
    }
  }
}

function unreadable(what: string, error: unknown): GatepostDeviceError {
  return new GatepostDeviceError('install_failed', `${what} cannot be read: ${reasonOf(error)}`, { cause: error });
}
