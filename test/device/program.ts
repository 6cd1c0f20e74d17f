import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { cp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from 'vitest';
import { buildDevice } from '../../device/build.ts';
import { deviceNode } from './nodes.ts';
import { type Broker, type DocumentParts, onboardingDocument, temporaryFolder } from './support.ts';

// Installed as npm would, outside the repository, so that no other package can be found from there.
export const project = mkdtempSync(join(tmpdir(), 'gatepost-device-project-'));
export const installed = join(project, 'node_modules/gatepost-device');
export const dist = join(installed, 'dist');

beforeAll(async () => {
  await buildDevice(dist);
  await cp('device/package.json', join(installed, 'package.json'));
});
afterAll(() => rm(project, { recursive: true, force: true }));

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Running {
  ended: Promise<Ended>;
  /** What has come so far. */
  output: { stdout: string; stderr: string };
  child: ReturnType<typeof spawn>;
}

export function begin(
  parameters: string[],
  options: { node?: string; folder?: string; env?: Record<string, string> } = {},
): Running {
  const program = join(options.folder ?? dist, 'gatepost-device.mjs');
  const env = { PATH: process.env.PATH ?? '', HOME: tmpdir(), ...options.env };
  const child = spawn(options.node ?? deviceNode, [program, ...parameters], { env });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (data: Buffer) => {
    output.stdout += data.toString();
  });
  child.stderr.on('data', (data: Buffer) => {
    output.stderr += data.toString();
  });
  child.stdin.on('error', () => {});
  const ended = new Promise<Ended>((resolve) => child.on('close', (code) => resolve({ code, ...output })));
  return { ended, output, child };
}

export function execute(
  parameters: string[],
  options: Parameters<typeof begin>[1] & { input?: string } = {},
): Promise<Ended> {
  const running = begin(parameters, options);
  running.child.stdin?.end(options.input ?? '');
  return running.ended;
}

/** Puts a document into a new state folder by the command itself. */
export async function joined(
  broker: Pick<Broker, 'port'>,
  root: string,
  parts: Partial<DocumentParts> = {},
): Promise<string> {
  const state = join(temporaryFolder(), 'state');
  const document = onboardingDocument({ roots: [root], port: broker.port, ...parts });
  const { code, stderr } = await execute(['join', '--document', '-', '--state', state], {
    input: JSON.stringify(document),
  });
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return state;
}
