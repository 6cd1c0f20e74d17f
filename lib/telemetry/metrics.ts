import { type Counter, type Histogram, type Meter, type MeterProvider, metrics } from '@opentelemetry/api';
import type { Log } from '../telemetry.ts';
import { MetricLines } from './metric-lines.ts';

/** Every metric, what it counts, and the dimensions it may have: the queries in infra/ are held to this list. */
export const metricNames = {
  'gatepost.onboardings': { unit: '{device}', dimensions: ['created'] },
  'gatepost.join_tokens.issued': { unit: '{token}', dimensions: [] },
  'gatepost.join_tokens.redeemed': { unit: '{token}', dimensions: [] },
  'gatepost.join.failures': { unit: '{attempt}', dimensions: ['reason'] },
  'gatepost.credentials.issued': { unit: '{credential}', dimensions: ['kind', 'route'] },
  'gatepost.bundle.fetches': { unit: '{fetch}', dimensions: ['sequence', 'format'] },
  'gatepost.rate_limited': { unit: '{call}', dimensions: ['limit'] },
  'gatepost.audit.lost': { unit: '{row}', dimensions: ['phase'] },
  'gatepost.upstream.duration': { unit: 'ms', dimensions: ['upstream', 'operation', 'outcome'] },
  'gatepost.upstream.throttled': { unit: '{answer}', dimensions: ['upstream', 'operation'] },
  'gatepost.upstream.retries': { unit: '{attempt}', dimensions: ['upstream', 'operation'] },
} as const satisfies Record<string, { unit: string; dimensions: readonly string[] }>;

export type MetricName = keyof typeof metricNames;
type Dimensions<N extends MetricName> = {
  [D in (typeof metricNames)[N]['dimensions'][number]]: string | number | boolean;
};

/*
 * The API hands out meters that stay deaf when a provider is registered after them, unlike its tracers: instruments are
 * made again when the provider is another one.
 */
let provider: MeterProvider | undefined;
let meter: Meter | undefined;
const counters = new Map<string, Counter>();
const lines = new MetricLines(() => performance.now());
const histograms = new Map<string, Histogram>();

/** Adds one to a counter. Without a registered provider it does nothing. */
export function count<N extends MetricName>(name: N, dimensions: Dimensions<N>): void {
  const made = current();
  const counter = counters.get(name) ?? made.createCounter(name, { unit: metricNames[name].unit });
  counters.set(name, counter);
  const texts = textOf(dimensions);
  counter.add(1, texts);
  lines.add(name, 1, texts);
}

/** Records one value of a distribution, such as a duration. */
export function measure<N extends MetricName>(name: N, value: number, dimensions: Dimensions<N>): void {
  const made = current();
  const histogram = histograms.get(name) ?? made.createHistogram(name, { unit: metricNames[name].unit });
  histograms.set(name, histogram);
  const texts = textOf(dimensions);
  histogram.record(value, texts);
  lines.add(name, value, texts);
}

/** Tells in the log what was counted since the last time, where that is a minute ago; `now`, in any case. */
export function tellMetrics(log: Log, now = false): void {
  for (const line of now ? lines.take() : lines.due()) log.info('metric', line);
}

function current(): Meter {
  const now = metrics.getMeterProvider();
  if (meter !== undefined && provider === now) return meter;
  provider = now;
  meter = now.getMeter('gatepost');
  counters.clear();
  histograms.clear();
  return meter;
}

/** Dimensions arrive as text wherever they are kept. */
function textOf(dimensions: Record<string, string | number | boolean>): Record<string, string> {
  return Object.fromEntries(Object.entries(dimensions).map(([name, value]) => [name, String(value)]));
}
