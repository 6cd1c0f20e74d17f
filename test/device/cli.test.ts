import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { faults } from '../../device/src/errors.ts';
import { generalHelp } from '../../device/src/help.ts';
import { deviceNode, nodeOf, supportedNodes } from './nodes.ts';
import { dist, execute, installed, joined, project } from './program.ts';
import {
  deviceKey,
  gatewayPki,
  onboardingDocument,
  startApi,
  startBroker,
  temporaryFolder,
  trustedRoot,
} from './support.ts';

const pki = await gatewayPki();
const pin = trustedRoot(pki.root.certificate).sha256;

describe.each(supportedNodes)('on Node %i', (major) => {
  const node = nodeOf(major) ?? '';
  const here = test.skipIf(node === '');

  here('a device joins with a token from its environment and sends what it reads, the whole way', async () => {
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
      'gatepost-device: end of input: 2 messages delivered, 1 bad line skipped',
      '',
    ]);
    for (const text of [join_.stdout, run.stderr]) expect(text).not.toContain(deviceKey);
    expect(run.stderr).not.toContain('SharedAccess');
  });

  here('the library connects, and its errors are its own', async () => {
    const broker = await startBroker(pki);
    const state = await joined(broker, pki.root.certificate);
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

  here.each([
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

test('the Node that CI brings is one that is supported', () => {
  const { stdout } = spawnSync(deviceNode, ['--version'], { encoding: 'utf8' });
  expect(Number(/^v(\d+)\./.exec(stdout)?.[1])).toBeGreaterThanOrEqual(Math.min(...supportedNodes));
});

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
    // The bundler writes double quotes. What is in single ones are the examples that `trust` prints.
    const imports = /(?:\bfrom|\bimport\(|require\()\s*"([@a-z][\w@/.:-]*)"/g;
    const imported = [...text.matchAll(imports)].map(([, name]) => name ?? '');
    if (file.startsWith('gatepost')) expect(imported).toContain('node:tls');
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
