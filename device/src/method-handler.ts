import { spawn } from 'node:child_process';
import { reasonOf } from './errors.ts';

export interface HandlerOptions {
  /** Path of a program. It is started without a shell, with the method's name as its one parameter. */
  command: string;
  name: string;
  payload: unknown;
  timeoutMs: number;
  log(line: string): void;
}

/** A method's answer may be 128 KiB (IoT Hub, "direct methods"). */
const mostOutput = 128 * 1024;

/**
 * Has a program answer one method: the payload is JSON on its standard input, what it prints is JSON and becomes the
 * payload of the answer. Exit code 0 is status 200, another one 500; too slow is 504. Never throws.
 */
export async function runHandler(options: HandlerOptions): Promise<{ status: number; payload: unknown }> {
  const { command, name, payload, timeoutMs, log } = options;
  const failed = (status: number, error: string) => {
    log(`the method ${name} was answered with ${status}: ${error}`);
    return { status, payload: { error } };
  };
  // The join token has no business in another program.
  const { GATEPOST_JOIN_TOKEN: _secret, ...env } = process.env;
  return new Promise((resolve) => {
    const child = spawn(command, [name], { stdio: ['pipe', 'pipe', 'inherit'], env });
    const chunks: Buffer[] = [];
    let size = 0;
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      resolve(failed(504, `no answer within ${timeoutMs / 1000} s`));
    }, timeoutMs);
    child.stdout.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= mostOutput) chunks.push(chunk);
    });
    child.stdin.on('error', () => {});
    child.stdin.end(JSON.stringify(payload ?? null));
    child.on('error', (error) => {
      clearTimeout(timer);
      resolve(failed(500, `the program cannot be started: ${reasonOf(error)}`));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      if (code !== 0) resolve(failed(500, `the program ended with exit code ${code}`));
      else if (size > mostOutput) resolve(failed(500, `the answer is larger than ${mostOutput} bytes`));
      else resolve(read(Buffer.concat(chunks).toString('utf8'), failed));
    });
  });
}

type Answer = { status: number; payload: unknown };

function read(text: string, failed: (status: number, error: string) => Answer): Answer {
  if (text.trim() === '') return { status: 200, payload: null };
  try {
    return { status: 200, payload: JSON.parse(text) };
  } catch {
    return failed(500, 'the program printed something that is not JSON');
  }
}
