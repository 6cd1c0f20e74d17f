import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

// The bench does ten thousand; a leak of one session in each shows in one hundred.
test.each(['mqtt', 'amqp'])(
  'memory stays flat over reconnections by %s',
  async (protocol) => {
    const parameters = ['--expose-gc', 'bench/device-reconnects.ts', '100', protocol];
    const { stdout } = await promisify(execFile)(process.execPath, parameters, { timeout: 60_000 });
    const { refused, heapAtATenthMb, heapAtTheEndMb } = JSON.parse(stdout);
    expect(refused).toBe(100);
    expect(heapAtTheEndMb - heapAtATenthMb).toBeLessThan(2.5);
  },
  60_000,
);
