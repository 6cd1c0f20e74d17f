import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { sdks, snippet } from '../../../device/src/trust-store/snippets.ts';
import { dist, execute, joined } from '../program.ts';
import { deviceKey, gatewayPki, onboardingDocument, startBroker, temporaryFolder, trustedRoot } from '../support.ts';

const pki = await gatewayPki();

test('for a program, the roots become one public file, proven with the gateway, and each SDK gets its snippet', async () => {
  const broker = await startBroker(pki);
  const state = await joined(broker, pki.root.certificate);
  const out = join(temporaryFolder(), 'etc/my sensor/roots.pem');
  const parameters = ['trust', 'install', '--app', '--out', out, '--state', state];
  const { code, stdout, stderr } = await execute(parameters);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout.split('\n').slice(0, 4)).toEqual([
    `wrote ${out}: 1 root of trust bundle 7 in ${state}`,
    expect.stringContaining(trustedRoot(pki.root.certificate).sha256),
    'it is public: everybody may read it, and it holds no secret',
    `proven: localhost:${broker.port} by a TLS handshake that trusts ${out} only`,
  ]);
  for (const sdk of sdks) expect(stdout).toContain(snippet(sdk, out).join('\n'));
  expect(readFileSync(out, 'utf8').trim()).toBe(pki.root.certificate.trim());
  expect(statSync(out).mode & 0o777).toBe(0o644);
  chmodSync(out, 0o600);
  expect((await execute(parameters)).stdout).toMatch(/^wrote /);
  expect((await execute(parameters)).stdout).toMatch(/^unchanged /);
});

test('--sdk prints that snippet alone, so that it can be redirected to a file', async () => {
  const root = join(temporaryFolder(), 'root.pem');
  writeFileSync(root, pki.root.certificate);
  const out = `${root}.out`;
  const { code, stdout, stderr } = await execute([
    'trust',
    'install',
    '--app',
    '--out',
    out,
    '--root',
    root,
    '--sdk',
    'c',
  ]);
  expect(code).toBe(0);
  expect(stdout).toBe(`${snippet('c', out).join('\n')}\n`);
  expect(stderr).toMatch(/not proven with a gateway: none is known/);
});

test('the snippet for Node connects Microsoft’s SDK through the gateway', async () => {
  const broker = await startBroker(pki);
  const folder = temporaryFolder();
  const file = join(folder, 'roots "of" plant 1.pem');
  writeFileSync(file, pki.root.certificate);
  symlinkSync(resolve('node_modules'), join(folder, 'node_modules'));
  writeFileSync(
    join(folder, 'program.cjs'),
    `${snippet('node', file).join('\n')}\nsetTimeout(() => process.exit(3), 10000);\n`,
  );
  const { connectionString } = onboardingDocument({ roots: [pki.root.certificate], port: broker.port });
  const child = spawn(process.execPath, [join(folder, 'program.cjs')], {
    env: { PATH: process.env.PATH ?? '', CONNECTION_STRING: connectionString },
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      said += data.toString();
      if (said.includes('\n') && !said.includes('Warning')) child.kill();
      if (said.includes('connected')) child.kill();
    });
  }
  await new Promise((done) => child.on('close', done));
  expect(said).toContain('connected');
  expect(said).not.toContain(deviceKey);
  expect(broker.connects).toHaveLength(1);
});

test.each<[string, string[], RegExp]>([
  ['nothing', [], /Say what to do with the trust: install, status or remove/],
  ['an unknown action', ['renew'], /There is no trust "renew"/],
  ['an unknown option', ['install', '--colour'], /Unknown option '--colour'/],
  ['an SDK that is none', ['install', '--app', '--sdk', 'rust'], /--sdk is one of node, c, python, java, dotnet/],
  ['--out without --app', ['install', '--out', 'x'], /go with --app/],
  ['--dry-run with --app', ['install', '--app', '--dry-run'], /leave out --app/],
  ['a gateway that is none', ['install', '--gateway', 'a b', '--root', 'x'], /--gateway takes HOST or HOST:PORT/],
  ['a file that is not there', ['install', '--root', '/nonexistent/root.pem'], /cannot be read/],
])('%s is refused with one line and exit code 2', async (_name, parameters, expected) => {
  const { code, stdout, stderr } = await execute(['trust', ...parameters]);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(expected);
  expect(stderr).toMatch(/^gatepost-device: [^\n]+ \[usage\]\n$/);
});

test('trust --help teaches all three, with the defaults of this machine', async () => {
  for (const parameters of [
    ['trust', '--help'],
    ['trust', 'install', '--help'],
    ['trust', 'remove', '-h'],
  ]) {
    const { code, stdout } = await execute(parameters, { env: { GATEPOST_STATE: '/var/lib/mine' } });
    expect(code).toBe(0);
    expect(stdout).toMatch(/Usage[\s\S]*--dry-run[\s\S]*\/var\/lib\/mine[\s\S]*Examples/);
  }
});

const isDebianRoot = process.getuid?.() === 0 && existsSync('/usr/sbin/update-ca-certificates');
const nobody = { uid: 65_534, gid: 65_534 };
const canBeNobody = isDebianRoot && spawnSync(process.execPath, ['--version'], { ...nobody }).status === 0;

test.runIf(canBeNobody)('a user who is not root is told what it needs, and nothing is changed', async () => {
  const folder = temporaryFolder();
  chmodSync(folder, 0o755);
  await cp(dist, join(folder, 'dist'), { recursive: true });
  writeFileSync(join(folder, 'root.pem'), pki.root.certificate);
  const install = ['trust', 'install', '--root', join(folder, 'root.pem')];
  const env = { PATH: '/usr/bin:/bin', HOME: folder };
  const program = join(folder, 'dist/gatepost-device.mjs');
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...install], {
    ...nobody,
    env,
    encoding: 'utf8',
  });
  expect({ status, stdout }).toEqual({ status: 19, stdout: '' });
  expect(stderr).toMatch(
    /may not be written by this user, nothing was changed: run it again as root.*trust_not_permitted/,
  );
  // Looking needs no rights.
  const dry = spawnSync(process.execPath, [program, ...install, '--dry-run'], { ...nobody, env, encoding: 'utf8' });
  expect(dry).toMatchObject({ status: 0, stderr: '' });
  expect(dry.stdout).toMatch(/\nupdate-ca-certificates\n$/);
});

test.skipIf(canBeNobody)('a user without rights was not tested: that needs root, on a system like Debian', () => {});
