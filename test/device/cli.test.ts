import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { cp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildDevice } from '../../device/build.ts';
import { faults } from '../../device/src/errors.ts';
import { generalHelp } from '../../device/src/help.ts';
import { issue, selfSigned } from '../../local/kit/certificates.ts';
import {
  type Broker,
  type DocumentParts,
  deviceKey,
  gatewayPki,
  onboardingDocument,
  startApi,
  startBroker,
  temporaryFolder,
  trustedRoot,
  until,
} from './support.ts';

// Installed as npm would, outside the repository, so that no other package can be found from there.
const project = mkdtempSync(join(tmpdir(), 'gatepost-device-project-'));
const installed = join(project, 'node_modules/gatepost-device');
const dist = join(installed, 'dist');
const pki = await gatewayPki();
const pin = trustedRoot(pki.root.certificate).sha256;

beforeAll(async () => {
  await buildDevice(dist);
  await cp('device/package.json', join(installed, 'package.json'));
});
afterAll(() => rm(project, { recursive: true, force: true }));

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

interface Running {
  ended: Promise<Ended>;
  /** What has come so far. */
  output: { stdout: string; stderr: string };
  child: ReturnType<typeof spawn>;
}

function begin(
  parameters: string[],
  options: { node?: string; folder?: string; env?: Record<string, string> } = {},
): Running {
  const program = join(options.folder ?? dist, 'gatepost-device.mjs');
  const env = { PATH: process.env.PATH ?? '', HOME: tmpdir(), ...options.env };
  const child = spawn(options.node ?? process.execPath, [program, ...parameters], { env });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (data: Buffer) => {
    output.stdout += data.toString();
  });
  child.stderr.on('data', (data: Buffer) => {
    output.stderr += data.toString();
  });
  child.stdin.on('error', () => {});
  const ended = new Promise<Ended>((resolve) => child.on('close', (code) => resolve({ code, ...output })));
  return { ended, output, child };
}

function execute(parameters: string[], options: Parameters<typeof begin>[1] & { input?: string } = {}): Promise<Ended> {
  const running = begin(parameters, options);
  running.child.stdin?.end(options.input ?? '');
  return running.ended;
}

/** Puts a document into a new state folder by the command itself. */
async function joined(broker: Pick<Broker, 'port'>, parts: Partial<DocumentParts> = {}): Promise<string> {
  const state = join(temporaryFolder(), 'state');
  const document = onboardingDocument({ roots: [pki.root.certificate], port: broker.port, ...parts });
  const { code, stderr } = await execute(['join', '--document', '-', '--state', state], {
    input: JSON.stringify(document),
  });
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return state;
}

/** This Node, and the oldest supported one where the machine has it. */
function nodes(): [string, string][] {
  const found: [string, string][] = [[process.version, process.execPath]];
  for (const path of ['/usr/bin/node', '/usr/local/bin/node']) {
    if (!existsSync(path)) continue;
    const version = execFileSync(path, ['--version'], { encoding: 'utf8' }).trim();
    if (version.startsWith('v20.')) found.push([version, path]);
  }
  return found;
}

describe.each(nodes())('on Node %s', (_version, node) => {
  test('a device joins with a token from its environment and sends what it reads, the whole way', async () => {
    const broker = await startBroker(pki);
    const document = onboardingDocument({ roots: [pki.root.certificate], port: broker.port });
    const api = await startApi({ roots: [pki.root.certificate], tokens: { 'token-1': document } });
    const state = join(temporaryFolder(), 'state');
    const env = { GATEPOST_JOIN_TOKEN: 'token-1', GATEPOST_STATE: state };
    const join_ = await execute(['join', '--api', api.url, '--root-sha256', pin], { node, env });
    expect(join_).toEqual({
      code: 0,
      stdout: `joined: sensor-1 behind gateway gateway-1 at localhost:${broker.port}\ntrust: sequence 7, 1 root; state in ${state}\n`,
      stderr: '',
    });
    const run = await execute(['run'], { node, env, input: '{"t":21.5}\nnonsense\n{"t":22}\n' });
    expect(run.code).toBe(0);
    expect(run.stdout).toBe('');
    expect(broker.messages.map(({ body }) => body)).toEqual(['{"t":21.5}', '{"t":22}']);
    expect(run.stderr.split('\n')).toEqual([
      expect.stringMatching(/^gatepost-device: connected to 127.0.0.1:\d+, proven by root [0-9a-f]{64}/),
      'gatepost-device: line 2 is not JSON: not sent',
      'gatepost-device: end of input: 2 messages delivered, 1 bad lines skipped',
      '',
    ]);
    for (const text of [join_.stdout, run.stderr]) expect(text).not.toContain(deviceKey);
    expect(run.stderr).not.toContain('SharedAccess');
  });

  test('the library connects, and its errors are its own', async () => {
    const broker = await startBroker(pki);
    const state = await joined(broker);
    const program = join(project, 'program.mjs');
    writeFileSync(
      program,
      `import { connect, GatepostDeviceError, loadSdk } from 'gatepost-device';
       const { Message } = await loadSdk();
       const client = await connect({ state: ${JSON.stringify(state)} });
       await client.sendEvent(new Message('{"from":"library"}'));
       await client.close();
       const error = await connect({ state: '/nonexistent/state' }).catch((each) => each);
       console.log(client.constructor.name, error instanceof GatepostDeviceError, error.code);`,
    );
    const out = await new Promise<string>((resolve, reject) => {
      const child = spawn(node, [program]);
      let text = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (text += data.toString()));
      child.on('close', () => resolve(text));
      child.on('error', reject);
    });
    rmSync(program);
    expect(out).toBe('Client true state_missing\n');
    expect(broker.messages.map(({ body }) => body)).toEqual(['{"from":"library"}']);
  });

  test.each([
    [['--help'], /^gatepost-device: .*\n\nUsage[\s\S]*Exit codes/],
    [['join', '--help'], /--root-sha256 HEX[\s\S]*GATEPOST_JOIN_TOKEN[\s\S]*Examples/],
    [['run', '--help'], /--wait SECONDS[\s\S]*Examples/],
    [['--version'], /^\d+\.\d+\.\d+\n$/],
  ])('%j answers on standard output', async (parameters, expected) => {
    const { code, stdout, stderr } = await execute(parameters, { node });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(expected);
  });
});

test.skipIf(nodes().length === 1)(
  'Node 20, the oldest that is supported, is on this machine and was tested above',
  () => {
    expect(nodes()).toHaveLength(2);
  },
);

test('join does not load the SDK: it works where the SDK’s file is missing, and run does not', async () => {
  const broker = await startBroker(pki);
  const document = onboardingDocument({ roots: [pki.root.certificate], port: broker.port });
  const api = await startApi({ roots: [pki.root.certificate], tokens: { t: document } });
  const folder = join(temporaryFolder(), 'dist');
  await cp(installed, join(folder, '..'), { recursive: true });
  rmSync(join(folder, 'sdk.mjs'));
  const state = join(temporaryFolder(), 'state');
  const parameters = ['join', '--api', api.url, '--token', 't', '--root-sha256', pin, '--state', state];
  expect(await execute(parameters, { folder })).toMatchObject({ code: 0, stderr: '' });
  const run = await execute(['run', '--state', state], { folder, input: '{}\n' });
  expect(run).toMatchObject({ code: 1, stderr: expect.stringMatching(/sdk\.mjs/) });
  expect(readFileSync(join(dist, 'gatepost-device.mjs'), 'utf8')).not.toMatch(/require\("azure-iot|from "azure-iot/);
});

test('the published files need no package beside them', () => {
  for (const file of readdirSync(dist).filter((name) => name.endsWith('.mjs'))) {
    const text = readFileSync(join(dist, file), 'utf8');
    const imports = /(?:\bfrom|\bimport\(|\brequire\()\s*(?:"([@a-z][\w@/.:-]*)"|'([@a-z][\w@/.:-]*)')/g;
    const imported = [...text.matchAll(imports)].map(([, name, other]) => name ?? other ?? '');
    // Required by the SDK when a file is uploaded, which a client behind a gateway cannot do.
    const others = imported.filter((name) => !isBuiltin(name) && name !== '@azure/storage-blob');
    expect([file, others]).toEqual([file, []]);
  }
});

function isBuiltin(name: string): boolean {
  return name.startsWith('node:') || process.getBuiltinModule(name) !== undefined;
}

test('the declarations type a program that uses the package', async () => {
  const folder = temporaryFolder();
  await cp(installed, join(folder, 'node_modules/gatepost-device'), { recursive: true });
  for (const name of ['@types', 'azure-iot-device']) {
    symlinkSync(resolve('node_modules', name), join(folder, 'node_modules', name));
  }
  const program = join(folder, 'program.ts');
  writeFileSync(
    program,
    `import { connect, GatepostDeviceError, loadSdk, type ConnectOptions } from 'gatepost-device';
     const options: ConnectOptions = { state: '/var/lib/gatepost-device' };
     const { Message } = await loadSdk();
     try {
       const client = await connect(options);
       client.on('message', (message) => client.complete(message, () => {}));
       await client.sendEvent(new Message('{}'));
     } catch (error) {
       if (error instanceof GatepostDeviceError && error.code === 'chain_untrusted') process.exitCode = error.exitCode;
       // @ts-expect-error the codes are a closed list
       if (error instanceof GatepostDeviceError && error.code === 'no_such_code') throw error;
     }`,
  );
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  const flags = ['--module', 'nodenext', '--strict', '--noEmit', '--target', 'es2022', '--types', 'node'];
  const compiler = resolve('node_modules/typescript/bin/tsc');
  const compiled = spawnSync(process.execPath, [compiler, ...flags, program], { cwd: folder, encoding: 'utf8' });
  expect(compiled.stdout).toBe('');
  expect(compiled.status).toBe(0);
});

test('every exit code of the errors is in the help', () => {
  for (const code of new Set(Object.values(faults))) expect(generalHelp).toMatch(new RegExp(`^ +${code}  \\S`, 'm'));
});

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
  const ended = await execute(['run', '--state', await joined(broker)], { input: '{}\n' });
  expect(ended.code).toBe(5);
  expectOneLine(ended, /does not trust/);
  expect(broker.connects).toEqual([]);
});

test('a wrong host name is exit code 6', async () => {
  const server = await issue(pki.edgeCa, { commonName: 'gw', names: ['gw.example'] });
  const broker = await startBroker({ server });
  const ended = await execute(['run', '--state', await joined(broker)], { input: '{}\n' });
  expect(ended.code).toBe(6);
  expectOneLine(ended, /is for gw.example, not for localhost/);
  expect(broker.connects).toEqual([]);
});

test('an expired gateway is exit code 7', async () => {
  const times = { notBefore: new Date(Date.now() - 172_800_000), notAfter: new Date(Date.now() - 86_400_000) };
  const server = await issue(pki.edgeCa, { commonName: 'localhost', names: ['localhost'], ...times });
  const broker = await startBroker({ server });
  const ended = await execute(['run', '--state', await joined(broker)], { input: '{}\n' });
  expect(ended.code).toBe(7);
  expectOneLine(ended, /Check the clock first/);
});

test('an unreachable gateway, and one whose name nobody knows, are exit code 8', async () => {
  const away = await execute(['run', '--state', await joined({ port: await unusedPort() })]);
  expect(away.code).toBe(8);
  expectOneLine(away, /refuses connections/);
  const unknown = await execute(['run', '--state', await joined({ port: 8883 }, { host: 'no-such-gateway.invalid' })]);
  expect(unknown.code).toBe(8);
  expectOneLine(unknown, /cannot be resolved/);
});

test('a refused credential is exit code 9', async () => {
  const broker = await startBroker(pki, { refuse: { refused: 5, reason: 'not in scope' } });
  const ended = await execute(['run', '--state', await joined(broker)], { input: '{}\n' });
  expect(ended.code).toBe(9);
  expectOneLine(ended, /not linked to this gateway/);
});

test('an X.509 device runs with its certificate and key from files', async () => {
  const own = await selfSigned({ commonName: 'sensor-1', ca: false, usages: ['clientAuth'] });
  const broker = await startBroker(pki, { thumbprint: trustedRoot(own.certificate).sha256 });
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'cert.pem'), own.certificate);
  writeFileSync(join(folder, 'key.pem'), own.privateKey);
  const state = await joined(broker, { credential: 'x509=true' });
  const files = ['--cert', join(folder, 'cert.pem'), '--key', join(folder, 'key.pem')];
  expect(await execute(['run', '--state', state, ...files], { input: '{"x":509}\n' })).toMatchObject({ code: 0 });
  expect(broker.messages.map(({ body }) => body)).toEqual(['{"x":509}']);
  const without = await execute(['run', '--state', state], { input: '{}\n' });
  expect(without.code).toBe(9);
  expectOneLine(without, /--cert FILE --key FILE/);
});

test.each(['SIGINT', 'SIGTERM'] as const)('%s ends a run cleanly although its input stays open', async (signal) => {
  const broker = await startBroker(pki);
  const { child, ended } = begin(['run', '--state', await joined(broker)]);
  child.stdin?.write('{"n":1}\n');
  await until(() => broker.messages.length === 1, 'the message arrived');
  child.kill(signal);
  expect(await ended).toMatchObject({ code: 0, stderr: expect.stringMatching(/stopped: 1 messages delivered\n$/) });
});

test('a second signal ends a run that cannot deliver at once', async () => {
  const broker = await startBroker(pki);
  broker.silent = true;
  const { child, ended } = begin(['run', '--state', await joined(broker)]);
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
