import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type Narrator, withoutSecrets } from './narrator.ts';

const program = fileURLToPath(new URL('../../device/dist/gatepost-device.mjs', import.meta.url));

export interface DeviceProgram {
  /** Writes to its standard input; without a text, ends the input. */
  input(text?: string): void;
  /** Resolves when it has ended well. Rejects, with what it said last, where it has not. */
  ended: Promise<void>;
}

export interface DeviceOptions {
  parameters: string[];
  environment?: Record<string, string>;
  narrator: Narrator;
  signal: AbortSignal;
}

/** Runs the command line of the device as a process of its own, as on the device, and quotes what it prints. */
export function runDevice({ parameters, environment = {}, narrator, signal }: DeviceOptions): DeviceProgram {
  const child = spawn(process.execPath, [program, ...parameters], {
    env: { ...process.env, ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
    signal,
    killSignal: 'SIGTERM',
  });
  let last = 'it said nothing';
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      last = withoutSecrets(line);
      narrator.quote(last);
    });
  }
  // A program that ends early closes its input; how it ended says why.
  child.stdin.on('error', () => {});
  const ended = settled(child, parameters[0] ?? '', () => last);
  ended.catch(() => {});
  return {
    input: (text) => void (text === undefined ? child.stdin.end() : child.stdin.write(text)),
    ended,
  };
}

function settled(child: ChildProcess, command: string, last: () => string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, how) => {
      if (code === 0) resolve();
      else reject(new Error(`gatepost-device ${command} ended with ${how ?? `exit code ${code}`}: ${last()}`));
    });
  });
}
