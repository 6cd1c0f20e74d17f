// Apart from state.ts, which reads certificates: neither --help nor --version must wait for Node to load its crypto.
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** The state folder when none is named: per machine for root and Windows services, else per user. */
export function defaultStateFolder(environment: NodeJS.ProcessEnv = process.env): string {
  if (environment.GATEPOST_STATE) return resolve(environment.GATEPOST_STATE);
  if (process.platform === 'win32') {
    return join(environment.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), 'gatepost-device');
  }
  if (process.getuid?.() === 0) return '/var/lib/gatepost-device';
  return join(environment.XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'gatepost-device');
}
