import { expect, it } from 'vitest';
import { MetricLines } from '../../../lib/telemetry/metric-lines.ts';

function at(now: number) {
  const clock = { now };
  return { clock, lines: new MetricLines(() => clock.now) };
}

it('sums are told by name and dimensions, at once after a pause and then once a minute', () => {
  const { clock, lines } = at(1_000_000);
  lines.add('gatepost.upstream.duration', 30, { upstream: 'IoT Hub' });
  expect(lines.due()).toEqual([
    { metric: 'gatepost.upstream.duration', upstream: 'IoT Hub', count: 1, sum: 30, min: 30, max: 30 },
  ]);
  lines.add('gatepost.upstream.duration', 10, { upstream: 'IoT Hub' });
  lines.add('gatepost.upstream.duration', 50, { upstream: 'IoT Hub' });
  lines.add('gatepost.upstream.duration', 7, { upstream: 'Key Vault' });
  clock.now += 59_999;
  expect(lines.due()).toEqual([]);
  clock.now += 1;
  expect(lines.due()).toEqual([
    { metric: 'gatepost.upstream.duration', upstream: 'IoT Hub', count: 2, sum: 60, min: 10, max: 50 },
    { metric: 'gatepost.upstream.duration', upstream: 'Key Vault', count: 1, sum: 7, min: 7, max: 7 },
  ]);
});

it('what is left is told at the end, and nothing where there is nothing', () => {
  const { clock, lines } = at(1_000_000);
  expect(lines.due()).toEqual([]);
  lines.add('a', 1, {});
  lines.due();
  lines.add('a', 1, {});
  clock.now += 1;
  expect(lines.take()).toEqual([{ metric: 'a', count: 1, sum: 1, min: 1, max: 1 }]);
  expect(lines.take()).toEqual([]);
});

it('dimensions without end take no memory without end', () => {
  const { lines } = at(1_000_000);
  for (let n = 0; n < 10_000; n += 1) lines.add('a', 1, { n: String(n) });
  expect(lines.take().length).toBeLessThanOrEqual(500);
});
