import { parseArgs } from 'node:util';
import { device } from './device.ts';
import type { Bench } from './kit/bench.ts';
import { machine } from './kit/machine.ts';
import { start } from './start.ts';
import { throughput } from './throughput.ts';
import { upstream } from './upstream.ts';

const benches: Bench[] = [start, throughput, upstream, device];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { smoke: { type: 'boolean', default: false } },
});
const unknown = positionals.filter((name) => !benches.some((bench) => bench.name === name));
if (unknown.length > 0) {
  process.stderr.write(`There is no benchmark ${unknown.join(', ')}: ${benches.map(({ name }) => name).join(', ')}\n`);
  process.exit(2);
}
const print = (text: string) => void process.stdout.write(`${text}\n`);
print(`On ${machine()}${values.smoke ? '; a smoke run, its numbers mean nothing' : ''}`);
for (const bench of benches) {
  if (positionals.length > 0 && !positionals.includes(bench.name)) continue;
  print(`\n${bench.name}: ${bench.about}\n`);
  const { summary, good } = await bench.run({ smoke: values.smoke, print });
  print(`\n${bench.name}: ${summary}`);
  if (!good && !values.smoke) process.exitCode = 1;
}
