import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';

/** As built and published. */
export const gatepostDevice = resolve(import.meta.dirname, '../../device/dist/gatepost-device.mjs');

/** Starts Node with nothing of this process's environment that could change how fast it is. */
export function begin(parameters: string[], env: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, parameters, {
    env: { PATH: process.env.PATH ?? '', HOME: tmpdir(), ...env },
    stdio: ['pipe', 'ignore', 'pipe'],
  });
}

/** Milliseconds from the start of a program to its end; throws what it says where it fails. */
export async function timeProgram(parameters: string[], env: Record<string, string> = {}): Promise<number> {
  const begun = performance.now();
  const child = begin(parameters, env);
  child.stdin?.end();
  const { failure } = outcome(child);
  const words = await failure;
  if (words !== undefined) throw new Error(words);
  return performance.now() - begun;
}

/** How a program ends: `failure` resolves when it has, with what went wrong if something did. */
export function outcome(child: ChildProcess): { failure: Promise<string | undefined> } {
  let said = '';
  child.stderr?.on('data', (data: Buffer) => {
    said += data.toString();
  });
  const ended = once(child, 'close') as Promise<[number | null, string | null]>;
  return {
    failure: ended.then(([code, signal]) =>
      code === 0 ? undefined : `${child.spawnargs.slice(1, 3).join(' ')} ended with ${code ?? signal}: ${said}`,
    ),
  };
}

/** Megabytes that a process holds in memory at this moment. */
export function residentMegabytes(pid: number): number {
  const kilobytes =
    process.platform === 'linux'
      ? /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
      : execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' });
  return Number(kilobytes) / 1024;
}
