import { GatepostDeviceError } from '../errors.ts';
import { Accounts } from './accounts.ts';
import {
  checkOthers,
  type Made,
  type Principal,
  principalPath,
  principalText,
  readInstalled,
} from './principal-file.ts';

export interface AgentInstallOptions {
  /** The module's name, or with `isDevice` a name for the principal. */
  module: string;
  user: string;
  isDevice: boolean;
  /** A scratch root, in place of the system. */
  root?: string | undefined;
}

/** One thing to do. */
export type Step =
  | { kind: 'run'; command: string[] }
  | { kind: 'write'; path: string; text: string; owner: string; mode: number; needsUid: boolean }
  | { kind: 'remove'; path: string };

export interface Plan {
  steps: Step[];
  /** What is there already. */
  done: string[];
}

/** Their sockets belong to these groups; the first also owns the principal file. */
export const serviceGroups = ['aziotid', 'aziotcs', 'aziotks'] as const;

/** Stands for the user's number until there is one; in a shell it is that number. */
const uidOf = (user: string) => `$(id -u ${user})`;

/**
 * What is still to be done so that `user` may act as an agent: its group and itself, the groups of the three services, and
 * the principal file, owned by aziotid and for its eyes only (Azure/iot-identity-service, docs/develop-an-agent.md, "Client
 * Authorization"). Nothing of it makes a module in the cloud: identityd does that.
 */
export async function planInstall(options: AgentInstallOptions): Promise<Plan> {
  checkNames(options);
  const { module, user, root } = options;
  const accounts = new Accounts(root);
  const path = principalPath(root, module);
  const existing = await accounts.user(user);
  const principal: Principal = {
    uid: existing?.uid ?? uidOf(user),
    name: module,
    kind: options.isDevice ? 'device' : 'module',
  };
  await checkOthers(root, principal);
  for (const name of serviceGroups) {
    if ((await accounts.group(name)) !== undefined) continue;
    throw failed(`There is no group ${name}: install aziot-identity-service first (it comes with IoT Edge).`);
  }
  const installed = await readInstalled(path);
  const steps: Step[] = [];
  const done: string[] = [];
  const made: Made = [...(installed?.made ?? [])];
  if (existing === undefined) {
    if ((await accounts.group(user)) === undefined) {
      steps.push(run(root, 'groupadd', '--system', user));
      made.push(`group:${user}`);
    } else done.push(`group ${user}`);
    const login = ['--no-create-home', '--home-dir', `/var/lib/${user}`, '--shell', '/usr/sbin/nologin'];
    const comment = ['--comment', `Service user for ${module}`];
    steps.push(run(root, 'useradd', '--system', '--gid', user, ...comment, ...login, user));
    made.push(`user:${user}`);
  } else done.push(`user ${user} (${existing.uid})`);
  const missing = await missingGroups(accounts, user);
  if (missing.length > 0) {
    steps.push(run(root, 'usermod', '--append', '--groups', missing.join(','), user));
    made.push(...missing.map((name) => `member:${name}`));
  } else done.push(`${user} in ${serviceGroups.join(', ')}`);
  const text = principalText(principal, made);
  if (installed?.text === text) done.push(path);
  else steps.push({ kind: 'write', path, text, owner: 'aziotid', mode: 0o600, needsUid: existing === undefined });
  return { steps, done };
}

/** Takes away what an installation made, and nothing else. */
export async function planUninstall(options: Omit<AgentInstallOptions, 'isDevice'>): Promise<Plan> {
  checkNames(options);
  const { module, user, root } = options;
  const accounts = new Accounts(root);
  const path = principalPath(root, module);
  const installed = await readInstalled(path);
  if (installed === undefined) return { steps: [], done: [`nothing of ${module} is installed`] };
  const existing = await accounts.user(user);
  const uid = /^uid = (\d+)$/m.exec(installed.text)?.[1];
  if (existing !== undefined && uid !== undefined && Number(uid) !== existing.uid) {
    throw failed(`${path} is for user ${uid}, not for ${user} (${existing.uid}).`);
  }
  const steps: Step[] = [{ kind: 'remove', path }];
  const made = (what: string) => installed.made.includes(what);
  if (made(`user:${user}`) && existing !== undefined) steps.push(run(root, 'userdel', user));
  else if (existing !== undefined) {
    const joined = serviceGroups.filter((name) => made(`member:${name}`));
    const kept = (await accounts.groupsOf(user)).filter((name) => !joined.some((each) => each === name));
    if (joined.length > 0) steps.push(run(root, 'usermod', '--groups', kept.join(','), user));
  }
  // userdel takes the group of the same name along where login.defs says so.
  const userGoes = steps.some((step) => step.kind === 'run' && step.command[0] === 'userdel');
  if (made(`group:${user}`) && !userGoes && (await accounts.group(user)) !== undefined) {
    steps.push(run(root, 'groupdel', user));
  }
  return { steps, done: [] };
}

async function missingGroups(accounts: Accounts, user: string): Promise<string[]> {
  const groups = await Promise.all(serviceGroups.map((name) => accounts.group(name)));
  return groups.flatMap((group) => (group === undefined || group.members.includes(user) ? [] : [group.name]));
}

function run(root: string | undefined, program: string, ...parameters: string[]): Step {
  // Of the shadow tools: they work on the files below a prefix, without a chroot.
  return { kind: 'run', command: [program, ...(root === undefined ? [] : ['--prefix', root]), ...parameters] };
}

function checkNames({ module, user }: { module: string; user: string }): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(module)) {
    throw usage('--module takes at most 128 letters, digits, dots, dashes and underscores');
  }
  if (!/^[a-z_][a-z0-9_-]{0,31}$/.test(user)) throw usage('--user takes a POSIX user name');
  if (user === 'root') throw usage('--user root would give root the identity of a module; take a user of its own');
}

function usage(what: string): GatepostDeviceError {
  return new GatepostDeviceError('usage', `${what}.`);
}

function failed(what: string): GatepostDeviceError {
  return new GatepostDeviceError('install_failed', what);
}
