import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { tableClient } from '../../../lib/azure/tables.ts';
import type { Limiter, Limits } from '../../../lib/limits/limiter.ts';
import { limiter } from '../../../lib/limits/limiter.ts';
import type { Table } from '../../../lib/table.ts';
import { createLog } from '../../../lib/telemetry.ts';
import { type Doubles, startDoubles } from '../../support/doubles.ts';
import { uniqueTable } from '../../support/tables.ts';

let doubles: Doubles;
let lines: string[] = [];

beforeAll(async () => {
  doubles = await startDoubles({ environment: { GATEPOST_UPSTREAM_TIMEOUT_MS: '1000' } });
});
afterEach(() => {
  doubles.faults.clear();
  lines = [];
});
afterAll(() => doubles.close());

const limits: Limits = { device: 60, caller: 60, address: 60 };

/** Instances of the app that share a table and, for the test, a clock. */
function instances(count: number, settings = limits): { all: Limiter[]; clock: { now: number }; table: Table } {
  const table = tableClient(doubles)(uniqueTable());
  const clock = { now: Date.parse('2026-01-02T08:30:00Z') };
  const log = createLog((_level, line) => lines.push(line));
  const all = Array.from({ length: count }, () =>
    limiter({ limits: settings, table: async () => table, clock: () => new Date(clock.now), log }),
  );
  return { all, clock, table };
}

/** How many of so many calls at once, in turn at each instance, are let through; and what the others hear. */
async function burst(all: Limiter[], calls: number, key = 'o-1', kind: keyof Limits = 'caller') {
  const outcomes = await Promise.allSettled(
    Array.from({ length: calls }, (_, n) => (all[n % all.length] as Limiter).take({ kind, key })),
  );
  const refused = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason);
  return { granted: outcomes.length - refused.length, refused };
}

const storageCalls = () => Object.values(doubles.faults.calls().storage).reduce((sum, count) => sum + count, 0);

describe('a limit over several instances', () => {
  it('lets through as many calls as it allows, and not one for each instance', async () => {
    const { all } = instances(2);
    const { granted, refused } = await burst(all, 300);
    expect(granted).toBe(60);
    expect(new Set(refused.map(({ code }) => code))).toEqual(new Set(['rate_limited']));
  });

  it('says after how many seconds there is room again, and then there is, for as many as the time allows', async () => {
    const { all, clock } = instances(2);
    await burst(all, 300);
    const { refused } = await burst(all, 1);
    expect(refused[0]).toMatchObject({ status: 429, retryAfterSeconds: 1 });
    clock.now += 1000;
    expect((await burst(all, 10)).granted).toBe(1);
    clock.now += 60_000;
    expect((await burst(all, 300)).granted).toBe(60);
  });

  it('of one key is none of another', async () => {
    const { all } = instances(1);
    await burst(all, 100, 'o-1');
    expect((await burst(all, 10, 'o-2')).granted).toBe(10);
  });

  it('costs storage a call now and then, and nothing for whoever is over it', async () => {
    const { all } = instances(1);
    await burst(all, 1);
    doubles.faults.resetCalls();
    await burst(all, 59);
    expect(storageCalls()).toBeLessThanOrEqual(10);
    await burst(all, 1);
    doubles.faults.resetCalls();
    expect((await burst(all, 200)).granted).toBe(0);
    expect(storageCalls()).toBe(0);
  });

  it('of 0 is none, and costs nothing', async () => {
    const { all } = instances(1, { ...limits, caller: 0 });
    doubles.faults.resetCalls();
    expect((await burst(all, 500)).granted).toBe(500);
    expect(storageCalls()).toBe(0);
  });

  it('that was drawn and not used is not kept for longer than some seconds', async () => {
    const { all, clock } = instances(2);
    await burst(all.slice(0, 1), 1);
    clock.now += 60_000;
    const { granted } = await burst(all.slice(1), 100);
    expect(granted).toBe(60);
    expect((await burst(all.slice(0, 1), 10)).granted).toBe(0);
  });

  it('that many have at once on many instances is never overdrawn', async () => {
    const { all } = instances(6);
    const { granted } = await burst(all, 600);
    expect(granted).toBeLessThanOrEqual(60);
    expect(granted).toBeGreaterThan(0);
  });

  it('keeps no id or address in its table', async () => {
    const { all, table, clock } = instances(1);
    await burst(all, 1, '198.51.100.9', 'address');
    const rows = await table.before('at', new Date(clock.now + 1000), 10);
    expect(rows).toHaveLength(1);
    expect(JSON.stringify(rows)).not.toContain('198.51');
  });
});

describe('while storage fails', () => {
  it.each(['caller', 'address'] as const)('nobody is let through by %s', async (kind) => {
    const { all } = instances(1);
    doubles.faults.add({ target: 'storage', fault: { status: 503 } });
    await expect(all[0]?.take({ kind, key: 'k' })).rejects.toMatchObject({ code: 'upstream_unavailable', status: 503 });
    doubles.faults.clear();
    await all[0]?.take({ kind, key: 'k' });
  });

  it('devices are, under a limit of the instance alone, which says so; then under the shared one again', async () => {
    const { all, clock } = instances(1);
    doubles.faults.add({ target: 'storage', fault: { status: 403 } });
    const { granted, refused } = await burst(all, 100, 'd-1', 'device');
    expect(granted).toBe(60);
    expect(refused[0]).toMatchObject({ code: 'rate_limited' });
    expect(lines.map((line) => JSON.parse(line).event)).toEqual(['rate_limit_not_shared']);
    doubles.faults.clear();
    clock.now += 5_000;
    expect((await burst(all, 100, 'd-1', 'device')).granted).toBe(60);
  });

  it('a lost answer to a draw loses permits at most, and gives none twice', async () => {
    const { all } = instances(1);
    await burst(all, 1);
    doubles.faults.add({ target: 'storage', match: { method: 'PUT' }, fault: { cut: 'after' }, times: 1 });
    let granted = 1;
    for (let n = 0; n < 100; n += 1) granted += (await burst(all, 1)).granted;
    expect(granted).toBeLessThanOrEqual(60);
    expect(granted).toBeGreaterThan(45);
  });
});
