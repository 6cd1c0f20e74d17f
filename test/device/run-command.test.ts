import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { begin, execute, joined } from './program.ts';
import { gatewayPki, startBroker, temporaryFolder, until } from './support.ts';

const pki = await gatewayPki();
const root = pki.root.certificate;

test('HTTP is exit code 14, with the reason; a protocol that nobody knows is 2', async () => {
  const state = await joined({ port: 1 }, root);
  const http = await execute(['run', '--state', state, '--protocol', 'http']);
  expect(http).toMatchObject({
    code: 14,
    stderr: expect.stringMatching(/edgeHub has no HTTP route .* \[not_supported\]/),
  });
  expect(await execute(['run', '--state', state, '--protocol', 'coap'])).toMatchObject({ code: 2 });
});

test('a port that the document says is not served is exit code 14', async () => {
  const state = await joined({ port: 1 }, root);
  const ended = await execute(['run', '--state', state, '--protocol', 'amqp'], { input: '{}\n' });
  expect(ended).toMatchObject({ code: 14, stderr: expect.stringMatching(/does not serve amqp/) });
});

test('as JSON, every line of the log is an object, the last fault too', async () => {
  const broker = await startBroker(pki);
  const state = await joined(broker, root);
  const parameters = ['run', '--state', state, '--log-format', 'json'];
  const good = await execute(parameters, { input: '{}\nbad\n' });
  const lines = good.stderr
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(good.code).toBe(0);
  expect(lines.at(-1)).toEqual({
    time: expect.stringMatching(/^20.*Z$/),
    level: 'info',
    message: 'end of input: 1 message delivered, 1 bad line skipped',
  });
  await broker.close();
  const bad = await execute(parameters, { input: '{}\n' });
  expect(bad.code).toBe(8);
  expect(JSON.parse(bad.stderr)).toMatchObject({ level: 'error', code: 'gateway_unreachable' });
});

test('a program that was killed with a spool loses nothing: the next one delivers', async () => {
  const broker = await startBroker(pki);
  const state = await joined(broker, root);
  await broker.close();
  const spool = join(temporaryFolder(), 'spool');
  const parameters = ['run', '--state', state, '--spool', spool, '--spool-limit', '2M'];
  const first = begin(parameters);
  first.child.stdin?.write('1\n2\n3\n');
  const lines = () => {
    try {
      const name = first.output.stderr && readFileSync(join(spool, 'lock'), 'utf8');
      return name;
    } catch {
      return '';
    }
  };
  await until(() => lines() !== '', 'the spool is open');
  await new Promise((resolve) => setTimeout(resolve, 300));
  first.child.kill('SIGKILL');
  await first.ended;
  const again = await startBroker(pki, { port: broker.port });
  const second = await execute(parameters, { input: '4\n' });
  expect(second).toMatchObject({
    code: 0,
    stderr: expect.stringMatching(/the spool holds 3 from before[\s\S]*4 messages delivered/),
  });
  expect(again.messages.map(({ body }) => body)).toEqual(['1', '2', '3', '4']);
});

test('a limit that does not read is a mistake', async () => {
  const state = await joined({ port: 1 }, root);
  const parameters = ['run', '--state', state, '--spool', join(state, 'spool'), '--spool-limit'];
  expect(await execute([...parameters, 'lots'])).toMatchObject({ code: 2 });
  expect(await execute([...parameters, '10K'])).toMatchObject({ code: 2, stderr: expect.stringMatching(/at least/) });
});

test('under systemd the service says that it is ready when it is connected', async () => {
  const broker = await startBroker(pki);
  const state = await joined(broker, root);
  const folder = temporaryFolder();
  const said = join(folder, 'said');
  writeFileSync(join(folder, 'systemd-notify'), `#!/bin/sh\necho "$*" >> ${said}\n`);
  chmodSync(join(folder, 'systemd-notify'), 0o755);
  const env = { NOTIFY_SOCKET: '/run/notify', PATH: `${folder}:${process.env.PATH}` };
  const running = begin(['run', '--state', state], { env });
  const read = () => {
    try {
      return readFileSync(said, 'utf8');
    } catch {
      return '';
    }
  };
  await until(() => read().includes('--ready'), 'it is ready');
  expect(read()).toMatch(/^--ready --status=connected to 127\.0\.0\.1:\d+\n$/);
  running.child.kill('SIGTERM');
  expect(await running.ended).toMatchObject({ code: 0 });
});

test('the unit names this installation and its state', async () => {
  const { code, stdout } = await execute(['run', '--print-unit', '--state', '/srv/leaf']);
  expect(code).toBe(0);
  expect(stdout).toMatch(/exec \/\S+ \/\S+gatepost-device\.mjs run --state \/srv\/leaf --spool \/srv\/leaf\/spool/);
  expect(stdout).toMatch(/^ReadWritePaths=\/srv\/leaf$/m);
});
