import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { type RunOptions, run } from '../../device/src/run.ts';
import { type Broker, deviceKey, gatewayPki, onboardingDocument, sasToken, startBroker, until } from './support.ts';

const pki = await gatewayPki();

interface Started {
  input: PassThrough;
  log: string[];
  stopping: AbortController;
  result: ReturnType<typeof run>;
}

/** Runs against the broker with short waits. */
function start(broker: Pick<Broker, 'port'>, options: Partial<RunOptions> = {}): Started {
  const input = new PassThrough();
  const log: string[] = [];
  const stopping = new AbortController();
  const result = run({
    document: onboardingDocument({ roots: [pki.root.certificate], port: broker.port }),
    input,
    log: (line) => log.push(line),
    signal: stopping.signal,
    backoff: { firstMs: 20, ceilingMs: 100 },
    ...options,
  });
  result.catch(() => {});
  return { input, log, stopping, result };
}

const bodies = (broker: Broker) => broker.messages.map(({ body }) => body);
const numbered = (count: number) => Array.from({ length: count }, (_, index) => `{"n":${index}}`);

test('each line is one message in order; at the end of the input all is acknowledged and the connection closed', async () => {
  const broker = await startBroker(pki);
  const { input, result } = start(broker);
  input.end(`${numbered(500).join('\n')}\n`);
  expect(await result).toEqual({ delivered: 500, refused: 0 });
  expect(bodies(broker)).toEqual(numbered(500));
  await until(() => broker.clients().length === 0, 'the client is gone');
});

test('a message says that it is UTF-8 JSON, and has an id of its own', async () => {
  const broker = await startBroker(pki);
  const { input, result } = start(broker);
  input.end('{"a":"ä"}\n{"b":2}\n');
  await result;
  const [first, second] = broker.messages.map(({ properties }) => properties);
  expect(first).toMatchObject({ '$.ct': 'application/json', '$.ce': 'utf-8' });
  expect(first?.['$.mid']).toMatch(/^[0-9a-f-]{36}$/);
  expect(second?.['$.mid']).not.toBe(first?.['$.mid']);
});

test('a bad line is one warning without its content, and the next line is sent', async () => {
  const broker = await startBroker(pki);
  const { input, log, result } = start(broker);
  input.end('{"a":1}\nnot json, and secret\n{"b":2}\n');
  expect(await result).toEqual({ delivered: 2, refused: 1 });
  expect(bodies(broker)).toEqual(['{"a":1}', '{"b":2}']);
  expect(log.filter((line) => line.includes('line 2'))).toEqual(['line 2 is not JSON: not sent']);
  expect(log.join('\n')).not.toContain('secret');
});

test('who was proven is said; the key is not', async () => {
  const broker = await startBroker(pki);
  const { input, log, result } = start(broker);
  input.end('{}\n');
  await result;
  expect(log[0]).toMatch(
    new RegExp(`^connected to 127.0.0.1:${broker.port}, proven by root [0-9a-f]{64} .*CN=localhost`),
  );
  expect(log.join('\n')).not.toContain(deviceKey);
});

test('a slow gateway slows the reading down', async () => {
  const broker = await startBroker(pki);
  broker.silent = true;
  const produced: number[] = [];
  async function* producer() {
    for (let number = 0; number < 1_000; number += 1) {
      produced.push(number);
      yield `${number}\n`;
    }
  }
  const { result } = start(broker, { input: producer(), window: 8 });
  await until(() => broker.messages.length === 1, 'the first message arrived');
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(produced.length).toBeLessThanOrEqual(10);
  broker.silent = false;
  expect(await result).toMatchObject({ delivered: 1_000 });
});

test('after a lost connection nothing is missing, and what was sent twice has the same id', async () => {
  const broker = await startBroker(pki);
  const { input, log, result } = start(broker);
  const sent = numbered(300);
  for (const [index, line] of sent.entries()) {
    input.write(`${line}\n`);
    if (index % 100 === 50) {
      await until(() => broker.clients().length === 1, 'it is connected');
      broker.disconnect('sensor-1');
    }
    if (index % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  input.end();
  expect(await result).toEqual({ delivered: 300, refused: 0 });
  expect(new Set(bodies(broker))).toEqual(new Set(sent));
  const ids = new Map<string, Set<string | undefined>>();
  for (const { body, properties } of broker.messages) {
    ids.set(body, (ids.get(body) ?? new Set()).add(properties['$.mid']));
  }
  for (const each of ids.values()) expect(each.size).toBe(1);
  expect(broker.connects.length).toBeGreaterThanOrEqual(4);
  expect(log.some((line) => line.startsWith('the connection was lost'))).toBe(true);
});

test('a gateway that is away for a while is waited for, and what was read meanwhile is delivered', async () => {
  const first = await startBroker(pki);
  const { input, log, result } = start(first);
  input.write('1\n');
  await until(() => first.messages.length === 1, 'the first message arrived');
  await first.close();
  input.end('2\n3\n');
  await until(() => log.filter((line) => line.includes('refuses connections')).length >= 3, 'three tries failed');
  const second = await startBroker(pki, { port: first.port });
  expect(await result).toEqual({ delivered: 3, refused: 0 });
  expect(bodies(second)).toEqual(['2', '3']);
});

test('an unreachable gateway is tried with growing waits, not in a busy loop', async () => {
  const broker = await startBroker(pki);
  const { log, stopping, result } = start(broker, { backoff: { firstMs: 50, ceilingMs: 400, random: () => 0.999 } });
  await until(() => broker.clients().length === 1, 'it is connected');
  await broker.close();
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  stopping.abort();
  await result;
  // 50 + 100 + 200 + 400 ms: five tries at the most in one second.
  const tries = log.filter((line) => line.includes('trying again'));
  expect(tries.length).toBeGreaterThanOrEqual(3);
  expect(tries.length).toBeLessThanOrEqual(6);
});

test('two devices with one identity push each other out ever more slowly, and do not storm the gateway', async () => {
  const broker = await startBroker(pki);
  const backoff = { firstMs: 100, ceilingMs: 5_000, random: () => 0.999 };
  const runs = [start(broker, { backoff }), start(broker, { backoff })];
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  for (const { stopping } of runs) stopping.abort();
  await Promise.all(runs.map(({ result }) => result));
  // Each waits 100, 200, 400, 800 ms: five connections in two seconds. The SDK by itself makes three hundred.
  expect(broker.connects.length).toBeGreaterThanOrEqual(4);
  expect(broker.connects.length).toBeLessThanOrEqual(10);
});

test('a message that is never acknowledged counts as a lost connection, and is sent again', async () => {
  const broker = await startBroker(pki);
  broker.silent = true;
  const { input, log, result } = start(broker, { acknowledgeMs: 150 });
  input.end('{"once":true}\n');
  await until(() => broker.connects.length >= 2, 'it connected again');
  broker.silent = false;
  expect(await result).toMatchObject({ delivered: 1 });
  expect(new Set(bodies(broker))).toEqual(new Set(['{"once":true}']));
  expect(log.join('\n')).toMatch(/the connection was lost: the acknowledgement of a message took longer than 0.15 s/);
});

test('an impostor that takes the place of the gateway gets nothing', async () => {
  const first = await startBroker(pki);
  const { input, log, stopping, result } = start(first, { stopMs: 50 });
  await until(() => first.clients().length === 1, 'it is connected');
  await first.close();
  const impostor = await startBroker(await gatewayPki(), { port: first.port });
  input.write('{"secret":1}\n');
  await until(() => log.some((line) => line.includes('does not trust')), 'the impostor was found out');
  stopping.abort();
  await result.catch(() => {});
  expect(impostor.connects).toEqual([]);
  expect(impostor.messages).toEqual([]);
});

test('the first connection fails at once with its fault, where nobody said to wait', async () => {
  const broker = await startBroker(pki, { refuse: { refused: 5, reason: 'not in scope' } });
  await expect(start(broker).result).rejects.toMatchObject({ code: 'credential_refused', exitCode: 9 });
  expect(broker.connects).toHaveLength(1);
});

test('the first connection is tried again for as long as was said', async () => {
  const broker = await startBroker(pki);
  broker.faults.add({ target: 'gateway', match: { method: 'CONNECT' }, fault: { status: 503 }, times: 2 });
  const { input, log, result } = start(broker, { waitMs: 5_000 });
  input.end('{}\n');
  expect(await result).toMatchObject({ delivered: 1 });
  expect(log.filter((line) => line.includes('Trying again'))).toHaveLength(2);
});

test('a fault that no waiting cures is not waited for', async () => {
  const broker = await startBroker(pki);
  const credential = `SharedAccessSignature=${sasToken('hub.azure-devices.net', 'sensor-1', -1)}`;
  const document = onboardingDocument({ roots: [pki.root.certificate], port: broker.port, credential });
  await expect(start(broker, { document, waitMs: 60_000 }).result).rejects.toMatchObject({
    code: 'credential_expired',
  });
});

test('told to stop, it delivers what was read, closes, and says nothing is lost', async () => {
  const broker = await startBroker(pki);
  const { input, stopping, result } = start(broker);
  input.write('1\n2\n');
  await until(() => broker.messages.length === 2, 'both arrived');
  stopping.abort();
  expect(await result).toEqual({ delivered: 2, refused: 0 });
  await until(() => broker.clients().length === 0, 'the client is gone');
});

test('told to stop while it waits for the first connection, it stops', async () => {
  const broker = await startBroker(pki, { refuse: { refused: 3, reason: 'starting' } });
  const { log, stopping, result } = start(broker, {
    waitMs: 60_000,
    backoff: { firstMs: 30_000, random: () => 0.999 },
  });
  await until(() => log.length === 1, 'it waits');
  stopping.abort();
  expect(await result).toEqual({ delivered: 0, refused: 0 });
});

test('told to stop while a connection attempt hangs, it does not wait for it', async () => {
  const broker = await startBroker(pki);
  broker.faults.add({ target: 'gateway', match: { method: 'CONNECT' }, fault: { hang: true } });
  const { stopping, result } = start(broker);
  await until(() => broker.faults.list()[0]?.struck === 1, 'the attempt hangs');
  const before = performance.now();
  stopping.abort();
  expect(await result).toEqual({ delivered: 0, refused: 0 });
  expect(performance.now() - before).toBeLessThan(1_000);
});

test('what could not be delivered after the end of the input is counted, and is no success', async () => {
  const broker = await startBroker(pki);
  const { input, result } = start(broker, { flushMs: 300 });
  await until(() => broker.clients().length === 1, 'it is connected');
  await broker.close();
  input.end('1\n2\n3\n');
  await expect(result).rejects.toMatchObject({
    exitCode: 8,
    message: expect.stringMatching(/^Not delivered: 3 lines. .*refuses connections/),
  });
});

test('an input that breaks is reported after what came before it was delivered', async () => {
  const broker = await startBroker(pki);
  const { input, result } = start(broker);
  input.write('1\n');
  await until(() => broker.messages.length === 1, 'it arrived');
  input.destroy(new Error('the pipe broke'));
  await expect(result).rejects.toMatchObject({ code: 'usage', message: expect.stringMatching(/the pipe broke/) });
});
