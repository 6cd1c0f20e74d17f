import { glob, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { LogCore } from './core-api.ts';

const require = createRequire(import.meta.url);

/** An entry point that could not be loaded. The host goes on without a single function. */
export class EntryPointError extends Error {}

/**
 * Loads an app's entry point files in sorted order, each the way its kind demands.
 *
 * @param main a path or a glob relative to `directory`; absent: `main` of its package.json. An app that has neither
 *   loads nothing, which is no error.
 * @throws {EntryPointError} naming the file and what it threw.
 */
export async function loadApp(directory: string, main: string | undefined, log: LogCore): Promise<void> {
  const manifest = await readManifest(directory, log);
  const pattern = main ?? manifest.main;
  if (pattern === undefined || pattern === '') return;
  let current = pattern;
  try {
    for (const file of await entryPoints(directory, pattern)) {
      current = file;
      log('debug', 'system', `Loading entry point file "${file}"`);
      await loadFile(join(directory, file), manifest.type === 'module');
      log('debug', 'system', `Loaded entry point file "${file}"`);
    }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const wrapped = new EntryPointError(`Worker was unable to load entry point "${current}": ${message}`);
    if (error instanceof Error && error.stack !== undefined) wrapped.stack = `${wrapped.message}\n${error.stack}`;
    throw wrapped;
  }
}

async function readManifest(directory: string, log: LogCore): Promise<{ main?: string; type?: string }> {
  try {
    return JSON.parse(await readFile(join(directory, 'package.json'), 'utf8'));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    log('warning', 'system', `Worker failed to load package.json: ${reason}`);
    return {};
  }
}

async function entryPoints(directory: string, pattern: string): Promise<string[]> {
  const files: string[] = [];
  for await (const entry of glob(pattern, { cwd: directory, withFileTypes: true })) {
    if (entry.isFile() || entry.isSymbolicLink()) files.push(join(entry.parentPath, entry.name));
  }
  if (files.length === 0) {
    throw new Error(
      /[*?{}[\]!]/.test(pattern) ? 'Found zero files matching the supplied pattern' : 'File does not exist',
    );
  }
  return files.map((file) => relative(directory, file)).sort();
}

async function loadFile(path: string, moduleByDefault: boolean): Promise<void> {
  if (path.endsWith('.mjs') || path.endsWith('.mts') || (moduleByDefault && !/\.c[jt]s$/.test(path))) {
    await import(pathToFileURL(path).href);
  } else {
    require(path);
  }
}
