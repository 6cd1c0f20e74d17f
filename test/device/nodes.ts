import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The versions of Node that the device side promises to run on. CI brings each of them in turn. */
export const supportedNodes = [20, 22, 24] as const;

/** By their major version: this Node, that of the machine, and whatever else is installed where Node usually is. */
const found = new Map<number, string>();
const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/local/bin'];
const candidates = [process.execPath, process.env.GATEPOST_DEVICE_NODE, ...folders.map((each) => join(each, 'node'))];
for (const path of new Set(candidates)) {
  if (path === undefined || !existsSync(path)) continue;
  const { stdout } = spawnSync(path, ['--version'], { encoding: 'utf8' });
  const major = Number(/^v(\d+)\./.exec(stdout ?? '')?.[1]);
  if (!Number.isNaN(major) && !found.has(major)) found.set(major, path);
}

/** A Node of this major version, where the machine has one. */
export function nodeOf(major: number): string | undefined {
  return found.get(major);
}

/**
 * What the built program runs on where a test does not say: `GATEPOST_DEVICE_NODE`, which CI sets to the Node that its
 * machine came with, else the Node of the tests themselves.
 */
export const deviceNode = process.env.GATEPOST_DEVICE_NODE || process.execPath;
