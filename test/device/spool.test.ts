import { randomUUID } from 'node:crypto';
import { appendFileSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Spool, type Spooled } from '../../device/src/spool.ts';
import { temporaryFolder } from './support.ts';

interface Opened {
  spool: Spool;
  log: string[];
}

async function open(folder: string, limitBytes = 4 * 1024 * 1024): Promise<Opened> {
  const log: string[] = [];
  const spool = await Spool.open({ folder, limitBytes, log: (line) => log.push(line) });
  onTestFinished(() => spool.close().catch(() => {}));
  return { spool, log };
}

async function fill(spool: Spool, count: number, body = (index: number) => `{"n":${index}}`): Promise<void> {
  for (let index = 0; index < count; index += 1) await spool.append(Buffer.from(body(index)), randomUUID());
}

async function take(spool: Spool, count: number): Promise<Spooled[]> {
  const taken: Spooled[] = [];
  for await (const each of spool.read()) {
    taken.push(each);
    if (taken.length === count) break;
  }
  return taken;
}

const bodies = (taken: Spooled[]) => taken.map(({ body }) => body.toString());
const segments = (folder: string) => readdirSync(folder).filter((each) => each.endsWith('.segment'));

test('what was written is read in order, and what was delivered is not kept', async () => {
  const folder = temporaryFolder();
  const { spool } = await open(folder);
  await fill(spool, 100);
  const taken = await take(spool, 100);
  expect(bodies(taken)).toEqual(Array.from({ length: 100 }, (_, index) => `{"n":${index}}`));
  for (const { done } of taken) done();
  expect(spool.size).toBe(0);
  await spool.close();
  expect(segments(folder)).toEqual([]);
});

test('a process that was killed loses nothing: the next one reads what is left, with the same ids', async () => {
  const folder = temporaryFolder();
  const { spool } = await open(folder);
  await fill(spool, 10);
  const first = await take(spool, 4);
  for (const { done } of first.slice(0, 3)) done();
  await spool.flush();
  // Neither closed nor ended, and the lock is still there.
  writeFileSync(join(folder, 'lock'), '999999999');
  const next = await open(folder);
  expect(next.spool.size).toBe(7);
  const again = await take(next.spool, 7);
  expect(bodies(again)[0]).toBe('{"n":3}');
  expect(again[0]?.messageId).toBe(first[3]?.messageId);
  expect(next.log).toEqual(['the spool holds 7 from before']);
});

test('a line that was half written when the power went is dropped, and the whole ones before it are not', async () => {
  const folder = temporaryFolder();
  const first = await open(folder);
  await fill(first.spool, 3);
  await first.spool.close();
  const [name = ''] = segments(folder);
  const path = join(folder, name);
  truncateSync(path, statSync(path).size - 2);
  const second = await open(folder);
  expect(bodies(await take(second.spool, 2))).toEqual(['{"n":0}', '{"n":1}']);
  expect(second.log[0]).toMatch(/half written, and dropped/);
  expect(second.spool.size).toBe(2);
});

test('bytes that were changed on the disk are not taken for telemetry', async () => {
  const folder = temporaryFolder();
  const first = await open(folder);
  await fill(first.spool, 2);
  await first.spool.close();
  const path = join(folder, segments(folder)[0] ?? '');
  writeFileSync(path, readFileSync(path, 'utf8').replace('"n":1', '"n":7'));
  const second = await open(folder);
  expect(second.spool.size).toBe(1);
  appendFileSync(path, '');
});

test('a full spool drops its oldest messages, counts them, and never grows beyond its limit', async () => {
  const folder = temporaryFolder();
  const limit = 1024 * 1024;
  const { spool, log } = await open(folder, limit);
  const filler = 'x'.repeat(1000);
  await fill(spool, 3_000, (index) => JSON.stringify({ index, filler }));
  const onDisk = segments(folder).reduce((sum, each) => sum + statSync(join(folder, each)).size, 0);
  expect(onDisk).toBeLessThanOrEqual(limit);
  expect(spool.dropped + spool.size).toBe(3_000);
  expect(spool.size).toBeGreaterThan(500);
  const [oldest] = await take(spool, 1);
  expect(JSON.parse(oldest?.body.toString() ?? '').index).toBe(spool.dropped);
  // Said once, and again when ten times as many are gone.
  expect(log.length).toBeGreaterThanOrEqual(1);
  expect(log.length).toBeLessThanOrEqual(3);
});

test('messages that are under way when their segment is dropped are delivered once and counted once', async () => {
  const folder = temporaryFolder();
  const { spool } = await open(folder, 1024 * 1024);
  const filler = 'x'.repeat(1000);
  await fill(spool, 10, (index) => JSON.stringify({ index, filler }));
  const taken = await take(spool, 5);
  await fill(spool, 1_500, (index) => JSON.stringify({ index: 10 + index, filler }));
  for (const { done } of taken) done();
  expect(spool.dropped + spool.size).toBe(1_505);
});

test('a reader waits for what comes, and ends when nothing more will', async () => {
  const { spool } = await open(temporaryFolder());
  const reading = (async () => {
    const all: string[] = [];
    for await (const { body } of spool.read()) all.push(body.toString());
    return all;
  })();
  await fill(spool, 2);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await fill(spool, 1, () => 'last');
  spool.end();
  expect(await reading).toEqual(['{"n":0}', '{"n":1}', 'last']);
  expect(await spool.append(Buffer.from('{}'), randomUUID())).toBe(false);
});

test('a spool belongs to one process, and is for its owner only', async () => {
  const folder = temporaryFolder();
  const { spool } = await open(folder);
  await fill(spool, 1);
  // Another process that lives: the parent of this one.
  writeFileSync(join(folder, 'lock'), `${process.ppid}`);
  await expect(open(folder)).rejects.toMatchObject({ code: 'state_unwritable', message: /in use by process/ });
  expect(statSync(join(folder, segments(folder)[0] ?? '')).mode & 0o777).toBe(0o600);
});

test('a limit that holds no segment is a mistake', async () => {
  await expect(open(temporaryFolder(), 1000)).rejects.toMatchObject({ code: 'usage' });
});

test('a clock that went back does not make new messages older than what is done', async () => {
  const folder = temporaryFolder();
  const first = await open(folder);
  await fill(first.spool, 1);
  await first.spool.flush();
  await first.spool.close();
  writeFileSync(join(folder, 'cursor'), '99999999999999999 0');
  for (const each of segments(folder)) truncateSync(join(folder, each), 0);
  const second = await open(folder);
  await fill(second.spool, 1, () => 'new');
  await second.spool.close();
  const third = await open(folder);
  expect(bodies(await take(third.spool, 1))).toEqual(['new']);
});
