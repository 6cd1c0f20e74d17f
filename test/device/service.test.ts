import { spawn } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { connect } from '../../device/src/connect.ts';
import { Pace } from '../../device/src/pace.ts';
import { type RunOptions, run } from '../../device/src/run.ts';
import { serviceManager, systemdUnit } from '../../device/src/service-manager.ts';
import { Spool } from '../../device/src/spool.ts';
import { type Broker, gatewayPki, onboardingDocument, startBroker, temporaryFolder, until } from './support.ts';

const pki = await gatewayPki();
const documentFor = ({ port }: { port: number }) => onboardingDocument({ roots: [pki.root.certificate], port });
const bodies = (broker: Broker) => broker.messages.map(({ body }) => body);

function start(broker: { port: number }, options: Partial<RunOptions> = {}) {
  const input = new PassThrough();
  const log: string[] = [];
  const stopping = new AbortController();
  const result = run({
    document: documentFor(broker),
    input,
    log: (line) => log.push(line),
    signal: stopping.signal,
    backoff: { firstMs: 10, ceilingMs: 50 },
    settleMs: 20,
    stopMs: 500,
    ...options,
  });
  result.catch(() => {});
  onTestFinished(() => stopping.abort());
  return { input, log, stopping, result };
}

async function openSpool(folder: string): Promise<Spool> {
  const spool = await Spool.open({ folder, limitBytes: 4 * 1024 * 1024, log: () => {} });
  onTestFinished(() => spool.close().catch(() => {}));
  return spool;
}

test('a message at which the gateway cuts the connection is given up after five tries, with one line, and the rest arrives', async () => {
  const broker = await startBroker(pki);
  const { input, log, result } = start(broker, { window: 1 });
  input.write('1\n2\n');
  await until(() => broker.messages.length === 2, 'two arrived');
  // The first cut counts for nothing: that connection had delivered before.
  broker.faults.add({ target: 'gateway', match: { method: 'PUBLISH' }, fault: { cut: 'before' }, times: 6 });
  input.end('3\n4\n');
  expect(await result).toEqual({ delivered: 3, refused: 0, givenUp: 1 });
  expect(bodies(broker)).toEqual(['1', '2', '4']);
  expect(log.filter((line) => line.includes('given up'))).toEqual([
    'line 3 was given up: the gateway cut the connection at it 5 times',
  ]);
});

test('a gateway that is silent, or away, is no reason to give a message up', async () => {
  const broker = await startBroker(pki);
  broker.silent = true;
  const { input, log, result } = start(broker, { acknowledgeMs: 40 });
  input.end('1\n');
  await until(() => log.filter((line) => line.startsWith('connected')).length >= 8, 'it tried eight times');
  broker.silent = false;
  expect(await result).toEqual({ delivered: 1, refused: 0 });
});

test('sessions that are cut again and again are called what they most likely are, once', async () => {
  const broker = await startBroker(pki);
  const { log } = start(broker);
  const end = Date.now() + 3_000;
  while (Date.now() < end && !log.some((line) => line.includes('same identity'))) {
    broker.disconnect('sensor-1');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect(log.filter((line) => line.includes('Most likely another client uses the same identity'))).toHaveLength(1);
});

test('two programs with one identity do not storm the gateway through connect(), and both are told why', async () => {
  const broker = await startBroker(pki);
  const warnings: string[] = [];
  const options = { document: documentFor(broker), log: (line: string) => warnings.push(line) };
  const clients = [await connect(options), await connect(options)];
  onTestFinished(() => Promise.all(clients.map((client) => client.close())).then(() => {}));
  // A listener makes the SDK reconnect at once: by itself more than a hundred times a second.
  for (const client of clients) client.onDeviceMethod('reboot', () => {});
  await until(() => warnings.some((line) => line.includes('same identity')), 'it was noticed');
  const before = broker.connects.length;
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect(broker.connects.length - before).toBeLessThanOrEqual(8);
});

test('the pace is at once for the first, grows while connections do not hold, and recovers when one has', () => {
  let now = 0;
  const storms: number[] = [];
  const pace = new Pace({
    backoff: { firstMs: 100, ceilingMs: 1_000, random: () => 0.999 },
    onStorm: (connections) => storms.push(connections),
    now: () => now,
  });
  const cut = (livedMs: number) => {
    const wait = pace.next();
    pace.accepted();
    now += livedMs;
    return wait;
  };
  expect(Array.from({ length: 7 }, () => cut(10))).toEqual([0, 100, 200, 400, 799, 999, 999]);
  expect(storms).toEqual([4]);
  cut(60_000);
  expect(cut(10)).toBe(100);
  // A gateway that is away accepts nothing: the waits grow, and nobody is suspected.
  for (let tries = 0; tries < 20; tries += 1) pace.next();
  expect(pace.next()).toBe(999);
  expect(storms).toEqual([4]);
});

test('with a spool, lines are taken while the gateway is away, and the next process delivers them with the same ids', async () => {
  const folder = temporaryFolder();
  const away = await startBroker(pki);
  await away.close();
  const first = start(away, { spool: await openSpool(folder), waitMs: 60_000, flushMs: 100 });
  first.input.end('1\n2\n3\n');
  await expect(first.result).rejects.toMatchObject({
    exitCode: 8,
    message: expect.stringMatching(/^Not delivered: 3 lines, kept in the spool for the next run/),
  });
  const broker = await startBroker(pki);
  const second = start(broker, { spool: await openSpool(folder) });
  second.input.end('4\n');
  expect(await second.result).toEqual({ delivered: 4, refused: 0 });
  expect(bodies(broker)).toEqual(['1', '2', '3', '4']);
});

test('with a spool, a gateway that restarts in the middle costs nothing', async () => {
  const first = await startBroker(pki);
  const spool = await openSpool(temporaryFolder());
  const { input, log, result } = start(first, { spool });
  const lines = Array.from({ length: 500 }, (_, index) => `${index}`);
  for (const line of lines.slice(0, 250)) input.write(`${line}\n`);
  await until(() => first.messages.length > 100, 'some arrived');
  await first.close();
  for (const line of lines.slice(250)) input.write(`${line}\n`);
  await until(() => log.some((line) => line.includes('refuses connections')), 'it is away');
  const second = await startBroker(pki, { port: first.port });
  input.end();
  expect(await result).toMatchObject({ delivered: 500 });
  expect(new Set([...bodies(first), ...bodies(second)])).toEqual(new Set(lines));
});

test('a half-open connection is noticed by its keep-alive, and the gateway is connected to anew', async () => {
  const broker = await startBroker(pki);
  const { createServer, connect: dial } = await import('node:net');
  let isMute = false;
  const relay = createServer((socket) => {
    const onward = dial(broker.port, '127.0.0.1');
    socket.on('error', () => {});
    onward.on('error', () => {});
    // A cable that was pulled: bytes go nowhere, and nobody says goodbye.
    socket.on('data', (data) => isMute || onward.write(data));
    onward.on('data', (data) => isMute || socket.write(data));
    socket.on('close', () => onward.destroy());
  });
  await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void relay.close());
  const { port } = relay.address() as { port: number };
  const { log } = start({ port }, { keepaliveSeconds: 1 });
  await until(() => log.some((line) => line.startsWith('connected')), 'it is connected');
  isMute = true;
  await until(() => log.some((line) => line.startsWith('the connection was lost')), 'it was noticed');
  isMute = false;
  await until(() => log.filter((line) => line.startsWith('connected')).length === 2, 'it is connected anew');
});

test('systemd is told by its own program when the service is ready, how it is, and when it stops', async () => {
  const folder = temporaryFolder();
  const file = join(folder, 'said');
  writeFileSync(join(folder, 'systemd-notify'), `#!/bin/sh\necho "$NOTIFY_SOCKET $*" >> ${file}\n`);
  chmodSync(join(folder, 'systemd-notify'), 0o755);
  const environment = { PATH: `${folder}:${process.env.PATH}`, NOTIFY_SOCKET: '/run/notify' };
  const manager = serviceManager(environment, () => {});
  manager.ready('connected to 127.0.0.1:8883');
  manager.ready('connected to 127.0.0.1:8883');
  manager.status('the gateway is away');
  manager.stopping('delivering what is left');
  const said = () => (existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : []);
  await until(() => said().length === 4, 'all was said');
  expect(said()).toEqual([
    '/run/notify --ready --status=connected to 127.0.0.1:8883',
    '/run/notify --status=connected to 127.0.0.1:8883',
    '/run/notify --status=the gateway is away',
    '/run/notify STOPPING=1 STATUS=delivering what is left',
  ]);
});

test('without systemd-notify that is said once; without systemd nothing is started', async () => {
  const log: string[] = [];
  const manager = serviceManager({ PATH: temporaryFolder(), NOTIFY_SOCKET: '/run/notify' }, (line) => log.push(line));
  manager.ready('a');
  manager.status('b');
  await until(() => log.length > 0, 'it was said');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(log).toEqual([expect.stringMatching(/systemd cannot be told how this service is/)]);
  serviceManager({}, (line) => log.push(line)).ready('c');
  expect(log).toHaveLength(1);
});

test('the unit is one that systemd takes', async () => {
  const unit = systemdUnit({
    node: process.execPath,
    program: '/usr/bin/gatepost-device',
    state: '/var/lib/gatepost-device',
  });
  expect(unit).toMatch(/^Type=notify$/m);
  expect(unit).toMatch(/^NotifyAccess=all$/m);
  const file = join(temporaryFolder(), 'gatepost-device.service');
  writeFileSync(file, unit);
  const verdict = await new Promise<string | undefined>((resolve) => {
    const child = spawn('systemd-analyze', ['verify', '--man=no', file]);
    let said = '';
    child.stderr.on('data', (data: Buffer) => {
      said += data.toString();
    });
    // Where there is no systemd, its verdict cannot be had.
    child.on('error', () => resolve(undefined));
    child.on('close', () => resolve(said));
  });
  if (verdict !== undefined)
    expect(verdict).not.toMatch(/gatepost-device\.service.*(Unknown|Failed to parse|ignoring)/i);
});
