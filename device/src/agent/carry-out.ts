import { execFile } from 'node:child_process';
import { chmod, chown, open, rename, rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import { GatepostDeviceError, reasonOf, systemCode } from '../errors.ts';
import { Accounts } from './accounts.ts';
import type { AgentInstallOptions, Plan, Step } from './plan.ts';

/** The commands that do the same in a shell of root, one after the other. */
export function shellOf({ steps }: Plan): string[] {
  return steps.flatMap((step) => {
    if (step.kind === 'run') return [step.command.map(quote).join(' ')];
    if (step.kind === 'remove') return [`rm -f ${quote(step.path)}`];
    const owner = quote(step.owner);
    const mode = step.mode.toString(8).padStart(4, '0');
    // Unquoted where the number of a user that does not exist yet has to be looked up.
    const end = step.needsUid ? 'EOF' : "'EOF'";
    return [
      `install -o ${owner} -g ${owner} -m ${mode} /dev/stdin ${quote(step.path)} <<${end}`,
      ...step.text.trimEnd().split('\n'),
      'EOF',
    ];
  });
}

/** Does it. `tell` hears of each step before it is taken. Throws `install_failed`. */
export async function carryOut(
  plan: Plan,
  { root, user }: Pick<AgentInstallOptions, 'root' | 'user'>,
  tell: (line: string) => void,
): Promise<void> {
  if (plan.steps.length === 0) return;
  if (process.getuid?.() !== 0) {
    throw new GatepostDeviceError('install_failed', 'This needs root: run it with sudo, or look at --dry-run.');
  }
  const accounts = new Accounts(root);
  for (const step of plan.steps) {
    const [line = ''] = shellOf({ steps: [step], done: [] });
    tell(line.replace(/ <<.*$/, ''));
    await carryOutOne(step, accounts, user);
  }
}

async function carryOutOne(step: Step, accounts: Accounts, user: string): Promise<void> {
  try {
    if (step.kind === 'run') await runCommand(step.command);
    else if (step.kind === 'remove') await rm(step.path, { force: true });
    else await write(step, accounts, user);
  } catch (error) {
    if (error instanceof GatepostDeviceError) throw error;
    const [what = ''] = shellOf({ steps: [step], done: [] });
    throw new GatepostDeviceError('install_failed', `${what}: ${reasonOf(error)}`, { cause: error });
  }
}

async function runCommand([program = '', ...parameters]: string[]): Promise<void> {
  const path = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`;
  try {
    await promisify(execFile)(program, parameters, { env: { ...process.env, PATH: path, LC_ALL: 'C' } });
  } catch (error) {
    const missing = systemCode(error) === 'ENOENT';
    const { stderr = '' } = error as { stderr?: string };
    const why = missing
      ? 'it is not on this system (package passwd or shadow-utils)'
      : stderr.trim() || reasonOf(error);
    throw new GatepostDeviceError('install_failed', `${program} failed: ${why.replace(/\s+/g, ' ')}`, { cause: error });
  }
}

/** Owner and mode are set before the file has its name: identityd never sees it half made, and nobody else its inside. */
async function write(step: Extract<Step, { kind: 'write' }>, accounts: Accounts, user: string): Promise<void> {
  const owner = await accounts.user(step.owner);
  const group = await accounts.group(step.owner);
  if (owner === undefined || group === undefined) throw new Error(`there is no user or group ${step.owner}`);
  const uid = step.needsUid ? (await accounts.user(user))?.uid : undefined;
  const text = uid === undefined ? step.text : step.text.replace(`$(id -u ${user})`, String(uid));
  // Not .toml: the daemon watches the folder.
  const draft = `${step.path}.${process.pid}.tmp`;
  try {
    const file = await open(draft, 'wx', step.mode);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(draft, step.mode);
    await chown(draft, owner.uid, group.gid);
    await rename(draft, step.path);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

function quote(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
