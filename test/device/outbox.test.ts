import { expect, test } from 'vitest';
import { Outbox } from '../../device/src/outbox.ts';

const never = () => false;

test('putting waits for room, and an acknowledgement makes some', async () => {
  const outbox = new Outbox<string>(1);
  await outbox.put('a');
  let isPut = false;
  const waiting = outbox.put('b').then(() => {
    isPut = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect(isPut).toBe(false);
  outbox.acknowledge((await outbox.take(never)) ?? '');
  await waiting;
  expect(await outbox.take(never)).toBe('b');
});

test('what was not acknowledged is offered again after a rewind, oldest first', async () => {
  const outbox = new Outbox<string>(10);
  for (const item of ['a', 'b', 'c']) await outbox.put(item);
  for (let count = 0; count < 3; count += 1) await outbox.take(never);
  expect([outbox.acknowledge('b'), outbox.acknowledge('b')]).toEqual([true, false]);
  outbox.rewind();
  expect([await outbox.take(never), await outbox.take(never)]).toEqual(['a', 'c']);
});

test('taking ends when everything was taken and nothing more will come, or when it is stopped', async () => {
  const outbox = new Outbox<string>(10);
  await outbox.put('a');
  let stopped = false;
  await outbox.take(never);
  const waiting = outbox.take(() => stopped);
  stopped = true;
  outbox.wake();
  expect(await waiting).toBeUndefined();
  outbox.end();
  expect(await outbox.take(never)).toBeUndefined();
  expect(outbox.isDone).toBe(false);
  outbox.acknowledge('a');
  expect(outbox.isDone).toBe(true);
});

test('a put that waits for room when the outbox ends says that it was not taken', async () => {
  const outbox = new Outbox<string>(1);
  await outbox.put('a');
  const waiting = outbox.put('b');
  outbox.end();
  expect(await waiting).toBe(false);
  expect(outbox.size).toBe(1);
});
