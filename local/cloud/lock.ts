import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Somebody else runs a local cloud in this folder. The message is for people. */
export class FolderInUseError extends Error {}

/**
 * Takes a folder for this process. Answers what gives it back. A lock that a killed process left behind is taken over.
 *
 * @throws {@link FolderInUseError} where a running process holds the folder.
 */
export function lockFolder(directory: string): () => void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const file = join(directory, 'lock');
  const release = () => rmSync(file, { force: true });
  for (let attempt = 0; attempt < 2; attempt += 1) {
    if (take(file)) return release;
    const holder = readHolder(file);
    if (holder !== undefined && isRunning(holder)) throw inUse(directory, file, holder);
    release();
  }
  throw inUse(directory, file, readHolder(file));
}

/** Linking is what makes the file appear with its content, and for one process only. */
function take(file: string): boolean {
  const draft = `${file}.${process.pid}.tmp`;
  writeFileSync(draft, `${process.pid}\n`, { mode: 0o600 });
  try {
    linkSync(draft, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(draft, { force: true });
  }
}

function inUse(directory: string, file: string, holder: number | undefined): FolderInUseError {
  return new FolderInUseError(
    `A local cloud already runs in ${directory} (process ${holder ?? 'unknown'}). Use that one, stop it with Ctrl-C, ` +
      `or start this one in another folder. If process ${holder ?? ''} is something else, delete ${file}.`,
  );
}

function readHolder(file: string): number | undefined {
  try {
    const pid = Number(readFileSync(file, 'utf8'));
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Another user's process may not be signalled, but it runs.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
