import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { GatepostDeviceError, reasonOf, systemCode } from '../errors.ts';
import { lastWord, type Machine, run } from './machine.ts';

/** One change of the system. The same list is what `--dry-run` prints and what is done. */
export type Step =
  | { kind: 'write'; path: string; content: string }
  | { kind: 'delete'; path: string }
  | { kind: 'run'; command: string; parameters: string[]; undo?: Step };

export type Shell = 'sh' | 'powershell';

/**
 * Does the steps in order and stops at the first that fails. Files that were deleted before it are put back, and steps
 * that say how are undone: marks are how Gatepost knows what is its own, and without them a retry would neither know what
 * is left to remove nor find what it added. Throws `trust_not_permitted` and `trust_incomplete`, which say what is done
 * and what is not.
 */
export async function execute(steps: Step[], machine: Machine): Promise<void> {
  const done: Step[] = [];
  const deleted: { path: string; content: string }[] = [];
  for (const [index, step] of steps.entries()) {
    try {
      if (step.kind === 'delete') deleted.push(...(await remember(step.path)));
      await perform(step, machine);
      done.push(step);
    } catch (error) {
      for (const { path, content } of deleted) await writeFile(path, content).catch(() => {});
      const kept: Step[] = [];
      for (const each of done) {
        if (each.kind !== 'delete' && !(await isUndone(each, machine))) kept.push(each);
      }
      throw explain(error, kept, step, steps.slice(index + 1), deleted.length);
    }
  }
}

async function isUndone(step: Step, machine: Machine): Promise<boolean> {
  if (step.kind !== 'run' || step.undo === undefined) return false;
  return perform(step.undo, machine).then(
    () => true,
    () => false,
  );
}

/** The step as one types it: what `--dry-run` prints can be pasted. */
export function render(step: Step, shell: Shell): string[] {
  const quote = shell === 'sh' ? quoteForSh : quoteForPowerShell;
  if (step.kind === 'write') {
    const lines = step.content.trimEnd().split('\n');
    if (shell === 'powershell') {
      return [`Set-Content -Encoding Ascii -LiteralPath ${quote(step.path)} -Value @'`, ...lines, "'@"];
    }
    return [
      `mkdir -p ${quote(dirname(step.path))}`,
      `cat > ${quote(step.path)} <<'PEM'`,
      ...lines,
      'PEM',
      `chmod 0644 ${quote(step.path)}`,
    ];
  }
  if (step.kind === 'delete') {
    return [`${shell === 'sh' ? 'rm -f' : 'Remove-Item -LiteralPath'} ${quote(step.path)}`];
  }
  // In PowerShell, what would be handed to a second one is typed as it is.
  if (shell === 'powershell' && step.command === 'powershell') return [step.parameters.at(-1) ?? ''];
  return [[step.command, ...step.parameters].map(quote).join(' ')];
}

async function perform(step: Step, machine: Machine): Promise<void> {
  if (step.kind === 'write') return writeFile(step.path, step.content);
  if (step.kind === 'delete') return rm(step.path, { force: true });
  const outcome = await run(machine, step.command, step.parameters);
  if (outcome.code === 0) return;
  throw new Error(`${step.command} ended with ${outcome.code ?? 'a signal or not at all'}: ${lastWord(outcome)}`);
}

/**
 * Writes a public file of the system, whole or not at all. The draft begins with a dot and does not end in `.crt`:
 * update-ca-certificates of Alpine takes every file but those with a dot, that of Debian all that end in `.crt`.
 */
export async function writeFile(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  const draft = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  try {
    const file = await open(draft, 'w', 0o644);
    try {
      await file.chmod(0o644);
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true }).catch(() => {});
    throw error;
  }
}

async function remember(path: string): Promise<{ path: string; content: string }[]> {
  try {
    return [{ path, content: await readFile(path, 'utf8') }];
  } catch {
    return [];
  }
}

function explain(error: unknown, done: Step[], failed: Step, left: Step[], restored: number): GatepostDeviceError {
  const reason = reasonOf(error).replace(/\.$/, '');
  const forbidden =
    ['EACCES', 'EPERM', 'EROFS'].includes(systemCode(error) ?? '') || /0x80070005|not permitted|denied/i.test(reason);
  const parts = [
    `${sentence(failed)} failed: ${reason}.`,
    done.length === 0 ? 'Nothing was changed.' : `Done: ${done.map(sentence).join('; ')}.`,
    restored === 0 ? '' : `Put back: ${restored === 1 ? 'the deleted file' : `${restored} deleted files`}.`,
    left.length === 0 ? '' : `Not done: ${left.map(sentence).join('; ')}.`,
    forbidden
      ? 'This needs an administrator (sudo, or an elevated prompt).'
      : 'Run it again when the cause is gone: what is done is not done twice.',
  ];
  const code = forbidden ? 'trust_not_permitted' : 'trust_incomplete';
  return new GatepostDeviceError(code, parts.filter((part) => part !== '').join(' '), { cause: error });
}

function sentence(step: Step): string {
  if (step.kind === 'write') return `write ${step.path}`;
  if (step.kind === 'delete') return `delete ${step.path}`;
  const parameters = step.command === 'powershell' ? step.parameters.slice(-1) : step.parameters;
  return [step.command, ...parameters].join(' ');
}

function quoteForSh(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function quoteForPowerShell(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", "''")}'`;
}
