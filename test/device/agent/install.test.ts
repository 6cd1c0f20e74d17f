import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { agentCommand } from '../../../device/src/agent/command.ts';
import { agentIdentity } from '../../../device/src/agent/connection.ts';
import type { Surroundings } from '../../../device/src/cli.ts';
import { Host } from '../../local/identity-service/support.ts';
import { faultOf } from './support.ts';

const isRoot = process.getuid?.() === 0;
const hasShadow = (() => {
  try {
    return /--prefix/.test(execFileSync('/usr/sbin/useradd', ['--help'], { encoding: 'utf8' }));
  } catch {
    return false;
  }
})();

const aziot = 4001;

/** A system as it is after aziot-identity-service was installed. */
function system(options: { users?: string[]; members?: string } = {}): string {
  const root = mkdtempSync(join(tmpdir(), 'gatepost-root-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  const config = join(root, 'etc/aziot/identityd/config.d');
  mkdirSync(config, { recursive: true, mode: 0o700 });
  const members = options.members ?? '';
  writeFileSync(
    join(root, 'etc/passwd'),
    [`root:x:0:0::/root:/bin/sh`, `aziotid:x:${aziot}:${aziot}::/:/bin/false`, ...(options.users ?? []), ''].join('\n'),
  );
  writeFileSync(
    join(root, 'etc/group'),
    ['root:x:0:', `aziotid:x:${aziot}:${members}`, `aziotcs:x:4002:${members}`, `aziotks:x:4003:${members}`, ''].join(
      '\n',
    ),
  );
  writeFileSync(join(root, 'etc/login.defs'), 'USERGROUPS_ENAB yes\n');
  writeFileSync(join(root, 'etc/shadow'), 'root:*:1::::::\n', { mode: 0o600 });
  writeFileSync(join(root, 'etc/gshadow'), 'root:*::\n', { mode: 0o600 });
  return root;
}

async function install(root: string, ...more: string[]): Promise<string[]> {
  const lines: string[] = [];
  const surroundings = { print: (line: string) => lines.push(line) } as unknown as Surroundings;
  const parameters = ['install', '--module', 'press-agent', '--user', 'press', '--root', root, ...more];
  expect(await agentCommand(parameters, surroundings)).toBe(0);
  return lines;
}

const principal = (root: string) => join(root, 'etc/aziot/identityd/config.d/press-agent.toml');
const account = (root: string, file: string, name: string) =>
  readFileSync(join(root, 'etc', file), 'utf8')
    .split('\n')
    .find((line) => line.startsWith(`${name}:`));

test('a dry run prints the commands of the published walkthrough and touches nothing', async () => {
  const root = system();
  const lines = await install(root, '--dry-run');
  expect(lines).toEqual([
    `groupadd --prefix ${root} --system press`,
    `useradd --prefix ${root} --system --gid press --comment 'Service user for press-agent' --no-create-home --home-dir /var/lib/press --shell /usr/sbin/nologin press`,
    `usermod --prefix ${root} --append --groups aziotid,aziotcs,aziotks press`,
    `install -o aziotid -g aziotid -m 0600 /dev/stdin ${principal(root)} <<EOF`,
    '# Installed by gatepost-device agent install; taken away by --uninstall.',
    '# Made for it: group:press user:press member:aziotid member:aziotcs member:aziotks',
    '[[principal]]',
    'uid = $(id -u press)',
    'name = "press-agent"',
    'idtype = ["module"]',
    'EOF',
  ]);
  expect(readdirSync(join(root, 'etc/aziot/identityd/config.d'))).toEqual([]);
  expect(account(root, 'passwd', 'press')).toBeUndefined();
});

test('a dry run for a user that is there names its number, and what is there already', async () => {
  const root = system({ users: ['press:x:1234:1234::/home/press:/bin/sh'], members: 'press' });
  const lines = await install(root, '--dry-run', '--device');
  expect(lines.slice(0, 2)).toEqual([
    '# there already: user press (1234)',
    '# there already: press in aziotid, aziotcs, aziotks',
  ]);
  expect(lines.slice(2)).toEqual([
    `install -o aziotid -g aziotid -m 0600 /dev/stdin ${principal(root)} <<'EOF'`,
    expect.any(String),
    '# Made for it: nothing',
    '[[principal]]',
    'uid = 1234',
    'name = "press-agent"',
    'idtype = ["device"]',
    'EOF',
  ]);
});

test.skipIf(!isRoot || !hasShadow)(
  'installs, changes nothing the second time, and uninstalls what it made',
  async () => {
    const root = system();
    const before = ['passwd', 'group'].map((file) => readFileSync(join(root, 'etc', file), 'utf8'));
    expect((await install(root)).at(-1)).toContain('installed press-agent for user press');
    const [, , uid] = account(root, 'passwd', 'press')?.split(':') ?? [];
    expect(Number(uid)).toBeGreaterThan(0);
    for (const group of ['aziotid', 'aziotcs', 'aziotks']) expect(account(root, 'group', group)).toMatch(/:press$/);
    const { uid: owner, gid, mode } = statSync(principal(root));
    expect({ owner, gid, mode: mode & 0o777 }).toEqual({ owner: aziot, gid: aziot, mode: 0o600 });
    expect(readFileSync(principal(root), 'utf8')).toContain(
      `\n[[principal]]\nuid = ${uid}\nname = "press-agent"\nidtype = ["module"]\n`,
    );
    expect((await install(root)).at(-1)).toBe('nothing to do');
    expect(readdirSync(join(root, 'etc/aziot/identityd/config.d'))).toEqual(['press-agent.toml']);
    await install(root, '--uninstall');
    expect(['passwd', 'group'].map((file) => readFileSync(join(root, 'etc', file), 'utf8'))).toEqual(before);
    expect(readdirSync(join(root, 'etc/aziot/identityd/config.d'))).toEqual([]);
    expect((await install(root, '--uninstall')).at(-1)).toBe('nothing to do');
  },
);

test.skipIf(!isRoot || !hasShadow)('a user that was there before stays, in the groups that it was in', async () => {
  const root = system({ users: ['press:x:1234:0::/home/press:/bin/sh'] });
  const group = join(root, 'etc/group');
  writeFileSync(group, `${readFileSync(group, 'utf8').replace('4002:', '4002:press')}video:x:44:press\n`);
  await install(root);
  expect(account(root, 'group', 'aziotid')).toMatch(/:press$/);
  await install(root, '--uninstall');
  expect(account(root, 'passwd', 'press')).toBe('press:x:1234:0::/home/press:/bin/sh');
  expect(account(root, 'group', 'aziotid')).toMatch(/:$/);
  expect(account(root, 'group', 'aziotcs')).toMatch(/:press$/);
  expect(account(root, 'group', 'video')).toBe('video:x:44:press');
});

test.skipIf(!isRoot || !hasShadow)(
  'an installation of a module becomes one of the device, and remembers what it made',
  async () => {
    const root = system();
    await install(root);
    const lines = await install(root, '--device');
    expect(lines.filter((line) => /add |mod /.test(line))).toEqual([]);
    expect(readFileSync(principal(root), 'utf8')).toContain('idtype = ["device"]');
    await install(root, '--uninstall');
    expect(account(root, 'passwd', 'press')).toBeUndefined();
  },
);

test.skipIf(!isRoot || !hasShadow)(
  'what was installed is what the Identity Service reads: the agent has its identity',
  async () => {
    const root = system();
    await install(root);
    const uid = Number(account(root, 'passwd', 'press')?.split(':')[2]);
    const config = join(root, 'etc/aziot/identityd/config.d');
    execFileSync('chown', [`${aziot}:${aziot}`, config]);
    const host = await Host.open();
    onTestFinished(() => host.close());
    const services = await host.start('press-1', { principals: [], users: [uid], config: { identityd: config } });
    expect(await agentIdentity({ sockets: services.sockets(uid) })).toMatchObject({
      deviceId: 'press-1',
      moduleId: 'press-agent',
    });
    expect(await host.modules('press-1')).toHaveProperty('press-agent');
    await install(root, '--uninstall');
    await services.reload();
    expect((await faultOf(agentIdentity({ sockets: services.sockets(uid) }))).code).toBe('identity_refused');
    expect(await host.modules('press-1')).toEqual({});
  },
);

test('refuses names that would break the file or the system, and root', async () => {
  const root = system();
  const refusal = (module: string, user: string) =>
    faultOf(
      agentCommand(['install', '--module', module, '--user', user, '--root', root, '--dry-run'], {
        print: () => {},
      } as unknown as Surroundings),
    );
  for (const [module, user] of [
    ['../x', 'press'],
    ['a"b', 'press'],
    ['$edgeAgent', 'press'],
    ['m', 'Press;'],
    ['m', 'root'],
    ['', 'press'],
  ] as const) {
    expect([module, user, (await refusal(module, user)).code]).toEqual([module, user, 'usage']);
  }
});

test('refuses a name or a user that another file registers already, and a file that it did not write', async () => {
  const root = system({ users: ['press:x:1234:1234::/:/bin/sh'] });
  const refusal = () => faultOf(install(root, '--dry-run'));
  const other = join(root, 'etc/aziot/identityd/config.d/other.toml');
  writeFileSync(other, '[[principal]]\nuid = 1\nname = "press-agent"\nidtype = ["module"]\n');
  expect(await refusal()).toMatchObject({
    code: 'install_failed',
    message: expect.stringContaining('registers press-agent already'),
  });
  writeFileSync(other, '[[principal]]\nuid = 1234\nname = "else"\nidtype = ["module"]\n');
  expect(await refusal()).toMatchObject({
    code: 'install_failed',
    message: expect.stringContaining('registers user 1234 already'),
  });
  writeFileSync(other, '');
  writeFileSync(principal(root), '[[principal]]\nuid = 5\nname = "press-agent"\n');
  expect(await refusal()).toMatchObject({
    code: 'install_failed',
    message: expect.stringContaining('was not written by'),
  });
});

test('says what is missing where the Identity Service is not installed', async () => {
  const root = mkdtempSync(join(tmpdir(), 'gatepost-root-'));
  onTestFinished(() => rm(root, { recursive: true, force: true }));
  mkdirSync(join(root, 'etc'));
  writeFileSync(join(root, 'etc/passwd'), '');
  writeFileSync(join(root, 'etc/group'), '');
  expect(await faultOf(install(root))).toMatchObject({
    code: 'install_failed',
    message: expect.stringContaining('install aziot-identity-service first'),
  });
});
