import { execFile, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { renderTable } from '../../../device/src/check/table.ts';
import { reportSchema } from '../../../scripts/device-docs.ts';
import { nodeOf, supportedNodes } from '../nodes.ts';
import { execute, joined } from '../program.ts';
import { deviceKey, gatewayPki, startBroker, temporaryFolder, trustedRoot } from '../support.ts';
import { Clinic, closedPort } from './patient.ts';

const pki = await gatewayPki();
const otherPki = await gatewayPki();
const escapeCharacter = String.fromCharCode(27);

/** A file with the root, for a bare look. */
function rootFile(pem: string): string {
  const file = join(temporaryFolder(), 'root.pem');
  writeFileSync(file, pem);
  return file;
}

test('a healthy device is exit code 0, and nothing goes to standard error', async () => {
  const broker = await startBroker(pki);
  const state = await joined(broker, pki.root.certificate);
  const { code, stdout, stderr } = await execute(['check', '--state', state, '--connect']);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  expect(stdout).toContain(`sensor-1 -> localhost:${broker.port}`);
  expect(stdout).toMatch(/^ok {6}connect/m);
  expect(broker.connects.map(({ clientId, clean }) => [clientId, clean])).toEqual([['sensor-1', false]]);
});

test('a faulty one is exit code 21 with the first cause in the last lines, one that is only old is 20', async () => {
  const faulty = await startBroker(otherPki);
  const state = await joined(faulty, pki.root.certificate);
  const { code, stdout } = await execute(['check', '--state', state]);
  expect(code).toBe(21);
  expect(stdout).toMatch(/\nFirst cause: root_unknown\. /);
  const old = await gatewayPki({
    notBefore: new Date(Date.now() - 300 * 86_400_000),
    notAfter: new Date(Date.now() + 20 * 86_400_000),
  });
  const broker = await startBroker(old);
  const ended = await execute(['check', '--state', await joined(broker, old.root.certificate), '--no-connect']);
  expect(ended.code).toBe(20);
  expect(ended.stdout).toContain('certificate_ends_in_30_days');
  expect(broker.connects).toEqual([]);
});

test('--json is one object of the documented shape, well or not, and holds no secret', async () => {
  const broker = await startBroker(pki);
  const state = await joined(broker, pki.root.certificate);
  const wrong = await joined(broker, otherPki.root.certificate);
  const commands = [
    ['--state', state, '--connect'],
    ['--state', wrong],
    ['--state', join(temporaryFolder(), 'nowhere')],
    ['--gateway', `localhost:${broker.port}`, '--ca', rootFile(pki.root.certificate)],
  ];
  for (const command of commands) {
    const { code, stdout } = await execute(['check', '--json', ...command]);
    const report = reportSchema.parse(JSON.parse(stdout));
    expect(code).toBe(report.exitCode);
    expect(stdout).not.toContain(deviceKey);
    expect(stdout).not.toContain('sig=');
  }
});

test('neither key nor token is in the table, whatever happens', async () => {
  const broker = await startBroker(pki, { refuse: { refused: 5, reason: 'no' } });
  const state = await joined(broker, pki.root.certificate);
  const { code, stdout } = await execute(['check', '--state', state, '--connect', '--verbose']);
  expect(code).toBe(21);
  expect(stdout).toContain('connect_refused');
  expect(stdout).not.toContain(deviceKey);
  const { password = '' } = broker.connects[0] ?? {};
  expect(password).toContain('sig=');
  expect(stdout).not.toContain(password);
});

test('a gateway is looked at without any state', async () => {
  const broker = await startBroker(pki);
  const look = (host: string, ca: string) => execute(['check', '--gateway', host, '--ca', rootFile(ca)]);
  const well = await look(`localhost:${broker.port}`, pki.root.certificate);
  // Nothing listens on the usual ports of AMQP and WebSockets here, or something else does.
  expect([0, 20]).toContain(well.code);
  expect(well.stdout).toMatch(/^ok {6}chain/m);
  const foreign = await look(`localhost:${broker.port}`, otherPki.root.certificate);
  expect(foreign.code).toBe(21);
  const closed = await look(`localhost:${await closedPort()}`, pki.root.certificate);
  expect(closed.stdout).toContain('mqtt_port_refused');
});

test.each<[string, string[], RegExp]>([
  ['a gateway without roots', ['--gateway', 'gw'], /--gateway and --ca go together/],
  ['roots without a gateway', ['--ca', 'root.pem'], /--gateway and --ca go together/],
  ['a gateway and a state', ['--gateway', 'gw', '--ca', 'package.json', '--state', '.'], /leave out --state/],
  ['a gateway that is none', ['--gateway', 'a_b:99999', '--ca', 'package.json'], /host name or host:port/],
  ['roots that are none', ['--gateway', 'gw', '--ca', 'package.json'], /PEM file of roots/],
  ['roots that are not there', ['--gateway', 'gw', '--ca', '/nonexistent'], /cannot be read/],
  ['both ways to log in', ['--connect', '--no-connect'], /exclude each other/],
  ['a certificate without its key', ['--cert', 'package.json'], /go together/],
  ['a time that is none', ['--timeout', 'long'], /--timeout takes a number/],
])('%s is a mistake on the command line: exit code 2 and one line', async (_name, parameters, message) => {
  const { code, stdout, stderr } = await execute(['check', ...parameters]);
  expect(code).toBe(2);
  expect(stdout).toBe('');
  expect(stderr).toMatch(message);
  expect(stderr).toMatch(/^gatepost-device: [^\n]+ \[usage\]\n$/);
});

test('the table has 80 columns, but for what cannot be folded, and colours only where they are asked for', async () => {
  const broker = await startBroker(otherPki, { refuse: { refused: 5, reason: 'no' } });
  const state = await joined(broker, pki.root.certificate);
  const { stdout } = await execute(['check', '--state', state, '--json']);
  const report = reportSchema.parse(JSON.parse(stdout));
  const plain = renderTable(report, { colour: false, verbose: true });
  // The path of the state folder may be longer than a line.
  expect(plain.filter((line) => line.length > 80 && !line.includes(state))).toEqual([]);
  expect(plain.join('\n')).not.toContain(escapeCharacter);
  const coloured = renderTable(report, { colour: true, verbose: true });
  expect(coloured.join('\n')).toContain(`${escapeCharacter}[31mERROR`);
  expect(coloured.join('\n').replaceAll(new RegExp(`${escapeCharacter}\\[\\d+m`, 'g'), '')).toBe(plain.join('\n'));
  // The output of a program is no terminal.
  const { stdout: table } = await execute(['check', '--state', state]);
  expect(table).not.toContain(escapeCharacter);
});

test('commands that were folded still read as one', async () => {
  const broker = await startBroker(otherPki);
  const state = await joined(broker, pki.root.certificate);
  const { stdout } = await execute(['check', '--state', state]);
  const [command = ''] = stdout.match(/openssl s_client(?:[^\n\\]|\\\n)+/) ?? [];
  expect(command.replaceAll(/\s*\\\n\s*/g, ' ')).toBe(
    `openssl s_client -connect localhost:${broker.port} -CAfile ${state}/roots.pem -showcerts </dev/null`,
  );
});

const openssl = spawnSync('openssl', ['version']).status === 0;

test.skipIf(!openssl)('the command beside a finding shows the same with openssl', async () => {
  const clinic = await Clinic.open();
  const patient = await clinic.patient();
  const run = async (code: string) => {
    const report = await patient.check();
    const finding = report.checks.flatMap(({ findings }) => findings).find((each) => each.code === code);
    const { stdout, stderr } = await promisify(execFile)('sh', ['-c', finding?.command ?? 'false']).catch(
      (error: { stdout: string; stderr: string }) => error,
    );
    return stdout + stderr;
  };
  expect(await run('name_ok')).toContain('Verify return code: 0 (ok)');
  expect(await run('peer_ok')).toContain('DNS:localhost');
  await clinic.serve({ server: { names: ['gw-2.example.net'] } });
  expect(await run('name_mismatch')).toMatch(/hostname mismatch/i);
  await clinic.serve({ sends: 'server only' });
  expect(await run('chain_incomplete')).toMatch(/unable to verify the first certificate|unable to get local issuer/);
  await clinic.serve({ root: 'another' });
  expect(await run('root_unknown')).toMatch(/unable to get local issuer certificate|unable to get issuer/);
  await clinic.serve({ edgeCa: { ca: false } });
  expect(await run('edge_ca_not_ca')).toContain('CA:FALSE');
});

describe.each(supportedNodes)('on Node %i', (major) => {
  const node = nodeOf(major) ?? '';

  test.skipIf(node === '')('it looks and connects', async () => {
    const broker = await startBroker(pki);
    const state = await joined(broker, pki.root.certificate);
    const { code, stdout } = await execute(['check', '--state', state, '--json', '--connect'], { node });
    expect(code).toBe(0);
    const report = reportSchema.parse(JSON.parse(stdout));
    expect(report.certificates.map(({ sha256 }) => sha256)).toEqual(
      [pki.server.certificate, pki.edgeCa.certificate].map((pem) => trustedRoot(pem).sha256),
    );
  });
});
