import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { issue, selfSigned } from '../../local/kit/certificates.ts';
import { begin, type Ended, execute, joined } from './program.ts';
import { gatewayPki, startApi, startBroker, temporaryFolder, trustedRoot, until } from './support.ts';

const pki = await gatewayPki();
const pin = trustedRoot(pki.root.certificate).sha256;

/** One line on standard error, with the code in brackets, and nothing on standard output. */
function expectOneLine({ stdout, stderr }: Ended, pattern: RegExp): void {
  expect(stdout).toBe('');
  expect(stderr).toMatch(pattern);
  expect(stderr).toMatch(/^gatepost-device: [^\n]+ \[[a-z_]+\]\n$/);
}

test.each<[string, string[], RegExp]>([
  ['no command', [], /join or run/],
  ['an unknown command', ['leave'], /no command "leave"/],
  ['an unknown option', ['join', '--colour'], /Unknown option '--colour'/],
  ['a token that stands alone', ['join', 'secret-token'], /options only/],
  ['no API', ['join', '--root-sha256', pin], /--api is needed/],
  ['no pin', ['join', '--api', 'http://127.0.0.1:1'], /--root-sha256 is needed/],
  [
    'a pin that is none',
    ['join', '--api', 'http://127.0.0.1:1', '--token', 't', '--root-sha256', 'abc'],
    /64 hexadecimal/,
  ],
  ['no token', ['join', '--api', 'http://127.0.0.1:1', '--root-sha256', pin], /no join token/],
  [
    'two tokens',
    ['join', '--api', 'http://127.0.0.1:1', '--root-sha256', pin, '--token', 'a', '--token-file', 'b'],
    /exclude/,
  ],
  ['a document and an API', ['join', '--document', '-', '--api', 'http://127.0.0.1:1'], /leave out/],
  ['a file that is not there', ['join', '--document', '/nonexistent'], /cannot be read/],
  ['a wait that is no number', ['run', '--wait', 'long'], /--wait takes a number/],
])('%s is a mistake on the command line, said in one line', async (_name, parameters, message) => {
  const ended = await execute(parameters);
  expect(ended.code).toBe(2);
  expectOneLine(ended, message);
  expect(ended.stderr).not.toContain('secret-token');
});

test('a wrong pin is exit code 4', async () => {
  const api = await startApi({ roots: [pki.root.certificate] });
  const ended = await execute([
    'join',
    '--api',
    api.url,
    '--token',
    't',
    '--root-sha256',
    'f'.repeat(64),
    '--state',
    temporaryFolder(),
  ]);
  expect(ended.code).toBe(4);
  expectOneLine(ended, /does not trust a root with SHA-256 f{64}/);
});

test('a spent token is exit code 11, an API that is away 10', async () => {
  const api = await startApi({ roots: [pki.root.certificate] });
  const state = temporaryFolder();
  const parameters = (url: string) => [
    'join',
    '--api',
    url,
    '--token-file',
    '-',
    '--root-sha256',
    pin,
    '--state',
    state,
  ];
  const spent = await execute(parameters(api.url), { input: 'spent-token\n' });
  expect(spent.code).toBe(11);
  expectOneLine(spent, /used already/);
  expect(spent.stderr).not.toContain('spent-token');
  const away = await execute(parameters(`http://127.0.0.1:${await unusedPort()}`), { input: 't' });
  expect(away.code).toBe(10);
  expectOneLine(away, /ECONNREFUSED/);
});

test('no state is exit code 3', async () => {
  const ended = await execute(['run', '--state', join(temporaryFolder(), 'nothing')]);
  expect(ended.code).toBe(3);
  expectOneLine(ended, /run gatepost-device join/);
});

test('an untrusted chain is exit code 5', async () => {
  const broker = await startBroker(await gatewayPki());
  const ended = await execute(['run', '--state', await joined(broker, pki.root.certificate)], { input: '{}\n' });
  expect(ended.code).toBe(5);
  expectOneLine(ended, /does not trust/);
  expect(broker.connects).toEqual([]);
});

test('a wrong host name is exit code 6', async () => {
  const server = await issue(pki.edgeCa, { commonName: 'gw', names: ['gw.example'] });
  const broker = await startBroker({ server });
  const ended = await execute(['run', '--state', await joined(broker, pki.root.certificate)], { input: '{}\n' });
  expect(ended.code).toBe(6);
  expectOneLine(ended, /is for gw.example, not for localhost/);
  expect(broker.connects).toEqual([]);
});

test('an expired gateway is exit code 7', async () => {
  const times = { notBefore: new Date(Date.now() - 172_800_000), notAfter: new Date(Date.now() - 86_400_000) };
  const server = await issue(pki.edgeCa, { commonName: 'localhost', names: ['localhost'], ...times });
  const broker = await startBroker({ server });
  const ended = await execute(['run', '--state', await joined(broker, pki.root.certificate)], { input: '{}\n' });
  expect(ended.code).toBe(7);
  expectOneLine(ended, /Check the clock first/);
});

test('an unreachable gateway, and one whose name nobody knows, are exit code 8', async () => {
  const away = await execute(['run', '--state', await joined({ port: await unusedPort() }, pki.root.certificate)]);
  expect(away.code).toBe(8);
  expectOneLine(away, /refuses connections/);
  const unknown = await execute([
    'run',
    '--state',
    await joined({ port: 8883 }, pki.root.certificate, { host: 'no-such-gateway.invalid' }),
  ]);
  expect(unknown.code).toBe(8);
  expectOneLine(unknown, /cannot be resolved/);
});

test('a refused credential is exit code 9', async () => {
  const broker = await startBroker(pki, { refuse: { refused: 5, reason: 'not in scope' } });
  const ended = await execute(['run', '--state', await joined(broker, pki.root.certificate)], { input: '{}\n' });
  expect(ended.code).toBe(9);
  expectOneLine(ended, /not linked to this gateway/);
});

test('an X.509 device runs with its certificate and key from files', async () => {
  const own = await selfSigned({ commonName: 'sensor-1', ca: false, usages: ['clientAuth'] });
  const broker = await startBroker(pki, { thumbprint: trustedRoot(own.certificate).sha256 });
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'cert.pem'), own.certificate);
  writeFileSync(join(folder, 'key.pem'), own.privateKey);
  const state = await joined(broker, pki.root.certificate, { credential: 'x509=true' });
  const files = ['--cert', join(folder, 'cert.pem'), '--key', join(folder, 'key.pem')];
  expect(await execute(['run', '--state', state, ...files], { input: '{"x":509}\n' })).toMatchObject({ code: 0 });
  expect(broker.messages.map(({ body }) => body)).toEqual(['{"x":509}']);
  const without = await execute(['run', '--state', state], { input: '{}\n' });
  expect(without.code).toBe(9);
  expectOneLine(without, /--cert FILE --key FILE/);
});

test.each(['SIGINT', 'SIGTERM'] as const)('%s ends a run cleanly although its input stays open', async (signal) => {
  const broker = await startBroker(pki);
  const { child, ended } = begin(['run', '--state', await joined(broker, pki.root.certificate)]);
  child.stdin?.write('{"n":1}\n');
  await until(() => broker.messages.length === 1, 'the message arrived');
  child.kill(signal);
  expect(await ended).toMatchObject({ code: 0, stderr: expect.stringMatching(/stopped: 1 message delivered\n$/) });
});

test('a second signal ends a run that cannot deliver at once', async () => {
  const broker = await startBroker(pki);
  broker.silent = true;
  const { child, ended } = begin(['run', '--state', await joined(broker, pki.root.certificate)]);
  child.stdin?.write('{"n":1}\n');
  await until(() => broker.messages.length === 1, 'the message is under way');
  child.kill('SIGTERM');
  await new Promise((resolve) => setTimeout(resolve, 100));
  child.kill('SIGTERM');
  expect(await ended).toMatchObject({ code: 143 });
});

function unusedPort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
