import { globSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { metricNames } from '../../lib/telemetry/metrics.ts';
import { logFields } from '../../lib/telemetry.ts';

const root = resolve(import.meta.dirname, '../..');
const folder = join(root, 'infra/queries');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const files = readdirSync(folder).filter((name) => name.endsWith('.kql'));
const queries = files.map((name): [string, string] => [name.replace(/\.kql$/, ''), read(`infra/queries/${name}`)]);
const code = globSync('{lib,functions}/**/*.ts', { cwd: root }).map(read).join('\n');
const sums = ['metric', 'count', 'sum', 'min', 'max'];

const found = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map((match) => String(match[1]));
const eventsIn = (query: string) => found(query, /\{"event":"(\w+)"/g);
const metricsIn = (query: string) => found(query, /'(gatepost\.[\w.]+)'/g);
const fieldsIn = (query: string) =>
  [...query.matchAll(/\bline(?:\.(\w+)|\['(\w+)'\])/g)].map((match) => String(match[1] ?? match[2]));

/** What a query names and the code does not have. */
function unknownIn(query: string): string[] {
  const metrics = metricsIn(query);
  const known = (name: string): name is keyof typeof metricNames => name in metricNames;
  const dimensions = metrics.filter(known).map((name): readonly string[] => metricNames[name].dimensions);
  const isField = (name: string) => name === 'event' || logFields.has(name);
  const isOfMetrics = (name: string) => sums.includes(name) || dimensions.every((each) => each.includes(name));
  return [
    ...metrics.filter((name) => !known(name)),
    ...eventsIn(query).filter((event) => !new RegExp(`\\.(?:debug|info|warn|error)\\(\\s*'${event}'`).test(code)),
    ...fieldsIn(query).filter((name) => !(metrics.length > 0 ? isOfMetrics(name) : isField(name))),
  ];
}

describe.each(queries)('the query %s', (name, query) => {
  it('names only events, metrics and fields that the code has', () => {
    expect(unknownIn(query)).toEqual([]);
    expect(fieldsIn(query).length).toBeGreaterThan(0);
  });

  it('says first what it is for, and has its brackets in pairs', () => {
    expect(query).toMatch(/^\/\/ \w.*\n/);
    for (const [open, close] of ['()', '[]']) {
      expect(query.split(open ?? '').length).toBe(query.split(close ?? '').length);
    }
  });

  it('is deployed', () => {
    expect(read('infra/modules/queries.bicep')).toContain(`loadTextContent('../queries/${name}.kql')`);
  });
});

it('a query that named something else would be found', () => {
  const good = queries.find(([name]) => name === 'onboardings')?.[1] ?? '';
  expect(unknownIn(good.replace('gatepost.onboardings', 'gatepost.onboarding'))).toContain('gatepost.onboarding');
  expect(unknownIn(good.replace('line.created', 'line.reason'))).toEqual(['reason']);
  const lost = queries.find(([name]) => name === 'audit-lost')?.[1] ?? '';
  expect(unknownIn(lost.replace('audit_row_lost', 'audit_lost'))).toEqual(['audit_lost']);
  expect(unknownIn(lost.replace('line.deviceId', 'line.device'))).toEqual(['device']);
});

it('every dimension of a metric can be written to the log', () => {
  const dimensions = Object.values(metricNames).flatMap((each): readonly string[] => each.dimensions);
  expect([...dimensions, ...sums].filter((name) => !logFields.has(name))).toEqual([]);
});

it('the page on observability lists every metric with its dimensions, and no other', () => {
  const rows = [...read('docs/observability.md').matchAll(/^\| `(gatepost\.[\w.]+)` \|.*\| ?(.*) \|$/gm)];
  const listed = rows.map(([, name, dimensions]) => [name, found(String(dimensions), /`(\w+)`/g)]);
  expect(listed.sort()).toEqual(
    Object.entries(metricNames)
      .map(([name, each]) => [name, [...each.dimensions]])
      .sort(),
  );
});

it('every metric is asked for by a query', () => {
  const asked = new Set(queries.flatMap(([, query]) => metricsIn(query)));
  const others = Object.keys(metricNames).filter((name) => !asked.has(name));
  // Its lines have more to say than its number.
  expect(others).toEqual(['gatepost.audit.lost']);
});

it('the workbook is one, and shows the saved queries word by word', () => {
  const { version, items } = JSON.parse(read('infra/workbook.json'));
  expect(version).toBe('Notebook/1.0');
  const shown = items.filter(({ type }: { type: number }) => type === 3);
  expect(shown.length).toBe(queries.length - 1);
  for (const { name, content } of shown) {
    expect(content.query).toBe(new Map(queries).get(name));
    expect(content.timeContextFromParameter).toBe('TimeRange');
  }
});
