import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LocalContract } from '../../../local/cloud/contract.ts';

/** The script behind `npm start`. */
export const startScript = fileURLToPath(new URL('../../../local/start.ts', import.meta.url));
const patienceMs = 60_000;

export interface Ended {
  code: number | null;
  signal: string | null;
  output: string;
}

/** `node local/start.ts` in a folder, as a person runs it. */
export class Running {
  readonly folder: string;
  readonly child: ChildProcess;
  output = '';

  constructor(folder: string, options: string[]) {
    this.folder = folder;
    this.child = spawn(process.execPath, [startScript, ...options], { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.output += chunk.toString();
      });
    }
  }

  get contractFile(): string {
    return join(this.folder, '.gatepost', 'local.json');
  }

  /** Waits until all is ready. */
  async ready(): Promise<LocalContract> {
    const giveUp = Date.now() + patienceMs;
    while (!this.output.includes('Ctrl-C stops it all.')) {
      if (this.child.exitCode !== null || Date.now() > giveUp) throw new Error(`npm start did not: ${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    return JSON.parse(readFileSync(this.contractFile, 'utf8')) as LocalContract;
  }

  /** Waits for the end; sends `signal` first, if one is given. */
  async end(signal?: NodeJS.Signals): Promise<Ended> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const gone = once(this.child, 'close');
      if (signal !== undefined) this.child.kill(signal);
      await gone;
    }
    return { code: this.child.exitCode, signal: this.child.signalCode, output: this.output };
  }

  /** The process ids of all that it has started, itself not. */
  descendants(): number[] {
    const rows = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' }).trim().split('\n');
    const pairs = rows.map((row) => row.trim().split(/\s+/).map(Number));
    const found: number[] = [];
    let parents = [this.child.pid];
    while (parents.length > 0) {
      const children = pairs.filter(([, parent]) => parents.includes(parent)).map(([pid = 0]) => pid);
      found.push(...children);
      parents = children;
    }
    return found;
  }
}

export function newFolder(): string {
  return mkdtempSync(join(tmpdir(), 'gatepost-contract-'));
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  // A zombie answers to a signal, but it is dead.
  const state = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : '';
  return !/\) Z /.test(state);
}
