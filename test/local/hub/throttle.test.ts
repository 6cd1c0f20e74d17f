import { describe, expect, it } from 'vitest';
import { Throttle } from '../../../local/hub/throttle.ts';

function clocked() {
  let now = Date.parse('2026-01-01T00:00:00Z');
  const throttle = new Throttle(() => new Date(now));
  const wait = (ms: number): void => {
    now += ms;
  };
  return { throttle, wait };
}

describe('Throttle', () => {
  it('ends at the messages of the day, and begins again on the next', () => {
    const { throttle, wait } = clocked();
    throttle.set({ tier: 'F1', units: 1 });
    for (let count = 0; count < 8000; count += 1) {
      throttle.takeMessage();
      wait(10);
    }
    expect(() => throttle.takeMessage()).toThrow('8000');
    wait(86_400_000);
    throttle.takeMessage();
  });

  it('says how long it takes until the next call is let in', () => {
    const { throttle, wait } = clocked();
    throttle.set({ tier: 'S1', units: 1 });
    for (let count = 0; count < 20; count += 1) throttle.take('query');
    // 20 a minute is one each 3 s.
    const caught = (): unknown => {
      try {
        throttle.take('query');
      } catch (error) {
        return (error as { retryAfter: number }).retryAfter;
      }
      return undefined;
    };
    expect(caught()).toBe(3);
    wait(2000);
    expect(caught()).toBe(1);
    wait(1000);
    expect(caught()).toBeUndefined();
  });

  it.each([
    ['S1', 1, 100],
    ['S2', 20, 200],
    ['S3', 2, 1000],
  ] as const)('lets %s with %i units read %i twins at once', (tier, units, expected) => {
    const { throttle } = clocked();
    throttle.set({ tier, units });
    for (let count = 0; count < expected; count += 1) throttle.take('twinRead');
    expect(() => throttle.take('twinRead')).toThrow('Throttling');
  });
});
