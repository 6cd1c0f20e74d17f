import type { X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { GatepostDeviceError, reasonOf, systemCode } from '../errors.ts';
import { writeFile } from './steps.ts';
import { toPem } from './store.ts';

/**
 * Where programs find the roots when nobody says: not in the state folder, which only its owner may enter, while a
 * program of another user needs them too.
 */
export function defaultAppFile(environment: NodeJS.ProcessEnv): string {
  if (process.platform === 'win32') {
    return join(environment.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), 'gatepost-roots.pem');
  }
  if (process.getuid?.() === 0) return '/etc/gatepost-device/roots.pem';
  return join(environment.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'gatepost-device', 'roots.pem');
}

/** All roots as the one text that every SDK takes. */
export function appPem(roots: X509Certificate[]): string {
  return roots.map(toPem).join('');
}

/**
 * Writes the roots to a file that everybody may read, and reads it back. Answers whether anything had to be written.
 * Throws `trust_not_permitted`, `trust_incomplete` and `trust_unverified`.
 */
export async function writeAppFile(path: string, roots: X509Certificate[]): Promise<boolean> {
  const content = appPem(roots);
  if (await isThere(path, content)) return false;
  try {
    await writeFile(path, content);
  } catch (error) {
    const forbidden = ['EACCES', 'EPERM', 'EROFS'].includes(systemCode(error) ?? '');
    throw new GatepostDeviceError(
      forbidden ? 'trust_not_permitted' : 'trust_incomplete',
      `${path} cannot be written: ${reasonOf(error)}. Another place: --out FILE.`,
      { cause: error },
    );
  }
  if (await isThere(path, content)) return true;
  throw new GatepostDeviceError('trust_unverified', `${path} was written, but does not read back as written.`);
}

async function isThere(path: string, content: string): Promise<boolean> {
  try {
    const isPublic = process.platform === 'win32' || ((await stat(path)).mode & 0o777) === 0o644;
    return isPublic && (await readFile(path, 'utf8')) === content;
  } catch {
    return false;
  }
}
