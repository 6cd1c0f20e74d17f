import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';

/** The computer whose store is read and changed. */
export interface Machine {
  platform: NodeJS.Platform;
  /** The folder that stands for `/`: another one in tests. */
  root: string;
  environment: NodeJS.ProcessEnv;
}

/** What a program answered; `code` is undefined where it could not be started or was killed. */
export interface Outcome {
  code: number | undefined;
  stdout: string;
  stderr: string;
}

/** Hooks of a store may start a Java machine, as those of Debian do. */
const timeoutMs = 300_000;

/** The computer that this runs on. */
export function thisMachine(environment: NodeJS.ProcessEnv = process.env): Machine {
  return { platform: process.platform, root: '/', environment };
}

/** Where the file system of the machine has `path`. */
export function at(machine: Machine, path: string): string {
  return machine.root === '/' ? path : join(machine.root, path);
}

/** Runs a program of the system, without a shell, and answers what it said. */
export function run(
  machine: Machine,
  command: string,
  parameters: string[],
  options: { timeoutMs?: number; environment?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> {
  // The hooks of a store are programs of others: a join token is none of their business.
  const own = { GATEPOST_JOIN_TOKEN: undefined, PATH: searchPath(machine), LC_ALL: 'C' };
  const env = { ...machine.environment, ...options.environment, ...own };
  return new Promise((resolve) => {
    const child = execFile(
      command,
      parameters,
      { env, timeout: options.timeoutMs ?? timeoutMs, maxBuffer: 64 * 1024 * 1024, windowsHide: true },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : undefined;
        const reason = stderr !== '' || stdout !== '' || error === null ? stderr : error.message;
        resolve({ code, stdout, stderr: reason });
      },
    );
    child.stdin?.on('error', () => {});
    child.stdin?.end();
  });
}

/** Whether a program of this name can be run. */
export async function hasProgram(machine: Machine, name: string): Promise<boolean> {
  const names = machine.platform === 'win32' ? [name, `${name}.exe`] : [name];
  for (const folder of searchPath(machine).split(delimiter)) {
    for (const each of names) {
      if (folder !== '' && (await isExecutable(join(folder, each)))) return true;
    }
  }
  return false;
}

/** The last line that a program said, which is where most say what is wrong. */
export function lastWord({ stdout, stderr }: Outcome): string {
  const lines = `${stdout}\n${stderr}`.split('\n').map((line) => line.trim());
  return lines.findLast((line) => line !== '') ?? 'it said nothing';
}

/** `su` without a dash keeps the path of the user, in which Debian has no `/usr/sbin`: the store's tools live there. */
function searchPath(machine: Machine): string {
  const given = machine.environment.PATH ?? machine.environment.Path ?? '';
  if (machine.platform === 'win32') return given;
  return [given, ...['/usr/sbin', '/usr/bin', '/sbin', '/bin'].map((path) => at(machine, path))].join(delimiter);
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
