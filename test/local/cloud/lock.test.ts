import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FolderInUseError, lockFolder } from '../../../local/cloud/lock.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'gatepost-lock-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('a folder is taken once, and again after it was given back', () => {
  const release = lockFolder(directory);
  expect(() => lockFolder(directory)).toThrow(FolderInUseError);
  release();
  lockFolder(directory)();
  expect(existsSync(join(directory, 'lock'))).toBe(false);
});

test('the refusal names the process and says what to do', () => {
  const release = lockFolder(directory);
  expect(() => lockFolder(directory)).toThrow(new RegExp(`process ${process.pid}.*Ctrl-C`));
  release();
});

test('the lock of a process that is no more is taken over', () => {
  const { pid } = spawnSync(process.execPath, ['--version']);
  writeFileSync(join(directory, 'lock'), `${pid}\n`);
  lockFolder(directory)();
});

test('a lock that nobody can read as one is taken over', () => {
  writeFileSync(join(directory, 'lock'), 'half a wri');
  lockFolder(directory)();
});
