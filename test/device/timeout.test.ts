import { expect, test } from 'vitest';
import { TimeoutError, withTimeout } from '../../device/src/timeout.ts';

const never = new Promise<never>(() => {});
const timers = () => process.getActiveResourcesInfo().filter((each) => each === 'Timeout').length;

test('what does not settle in time is given up, by its name', async () => {
  const late = withTimeout(never, 5, 'reading the twin');
  await expect(late).rejects.toThrow(TimeoutError);
  await expect(late).rejects.toThrow('reading the twin took longer than 0.005 s');
});

test.each(['before', 'meanwhile'])(
  'a wait that was ended %s leaves no timer that would hold the process',
  async (when) => {
    const before = timers();
    const ended = new AbortController();
    if (when === 'before') ended.abort();
    const waiting = withTimeout(never, 30_000, 'reading the twin', ended.signal);
    expect(timers()).toBe(before + 1);
    ended.abort();
    await expect(waiting).rejects.toThrow('of no use any more');
    expect(timers()).toBe(before);
  },
);
