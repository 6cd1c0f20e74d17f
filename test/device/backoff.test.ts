import { expect, test } from 'vitest';
import { Backoff } from '../../device/src/backoff.ts';

const draw = (backoff: Backoff, times: number) => Array.from({ length: times }, () => backoff.next());

test('the upper end doubles up to the ceiling and stays there', () => {
  const backoff = new Backoff({ firstMs: 1_000, ceilingMs: 10_000, random: () => 0.999_999 });
  expect(draw(backoff, 6)).toEqual([1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
});

test('the jitter is full but never ends in a busy loop', () => {
  const backoff = new Backoff({ firstMs: 1_000, ceilingMs: 60_000, random: () => 0 });
  expect(draw(backoff, 50)).toEqual(Array.from({ length: 50 }, () => 100));
});

test('after a thousand failures the wait is still at most the ceiling', () => {
  const backoff = new Backoff({ firstMs: 1_000, ceilingMs: 60_000 });
  for (const wait of draw(backoff, 1_000)) {
    expect(wait).toBeGreaterThanOrEqual(100);
    expect(wait).toBeLessThanOrEqual(60_000);
  }
});

test('a success makes the next wait a first one', () => {
  const backoff = new Backoff({ firstMs: 1_000, ceilingMs: 60_000, random: () => 0.999_999 });
  draw(backoff, 5);
  backoff.reset();
  expect(backoff.next()).toBe(1_000);
});
