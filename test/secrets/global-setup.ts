import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';

/**
 * Gives a run of the whole suite a folder for its evidence (see recorder.ts), before any test process starts. A run of
 * some files only has none, and then nothing is recorded.
 */
export function setup(project: TestProject): (() => void) | undefined {
  const { filenamePattern } = project.vitest as { filenamePattern?: string[] };
  if (filenamePattern !== undefined) return undefined;
  const folder = mkdtempSync(join(tmpdir(), 'gatepost-evidence-'));
  process.env.GATEPOST_EVIDENCE = folder;
  return () => {
    if (process.env.GATEPOST_KEEP_EVIDENCE === undefined) rmSync(folder, { recursive: true, force: true });
    else process.stderr.write(`The evidence is kept in ${folder}\n`);
  };
}
