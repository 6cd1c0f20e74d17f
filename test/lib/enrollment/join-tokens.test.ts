import { createHash, randomBytes } from 'node:crypto';
import { Agent } from 'node:https';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { tableClient } from '../../../lib/azure/tables.ts';
import { type Grant, joinTokens } from '../../../lib/enrollment/join-tokens.ts';
import { Redacted } from '../../../lib/redacted.ts';
import type { Table } from '../../../lib/table.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { type Storage, startStorage } from '../../../local/storage/azurite.ts';
import { problemOf } from '../../support/hub.ts';

const faults = new FaultSwitch();
const grant: Grant = {
  hubHostname: 'hub.azure-devices.net',
  deviceId: 'press-4',
  generationId: '1234',
  moduleId: null,
  credential: 'key',
};
let storage: Storage;
let table: Table;
let now = new Date('2026-11-22T08:00:00Z');

beforeAll(async () => {
  storage = await startStorage({ faults });
  const config = { storage: { connectionString: new Redacted(storage.connectionString) }, upstreamTimeoutMs: 2000 };
  const credential = { getToken: async () => null };
  table = tableClient({ config, agent: new Agent(), credential })('joins');
});

afterEach(() => faults.clear());

afterAll(() => storage?.close());

const tokens = () => joinTokens({ table, clock: () => now, randomBytes });

describe('a join token', () => {
  it('grants what it was issued for until it is used up', async () => {
    const { token } = await tokens().issue(grant, 600);
    const held = await tokens().look(token.reveal());
    expect(held).toMatchObject(grant);
    expect(await tokens().look(token.reveal())).toMatchObject(grant);
    await tokens().consume(held);
    expect(await problemOf(tokens().look(token.reveal()))).toBe('join_token_invalid');
    expect(await problemOf(tokens().consume(held))).toBe('join_token_invalid');
  });

  it('keeps the module that it is for', async () => {
    const { token } = await tokens().issue({ ...grant, moduleId: 'meter', credential: 'sas' }, 600);
    expect(await tokens().look(token.reveal())).toMatchObject({ moduleId: 'meter', credential: 'sas' });
  });

  it('is good to its last millisecond and not at its end', async () => {
    const { token, expiresAt } = await tokens().issue(grant, 60);
    expect(expiresAt).toBe(new Date(now.getTime() + 60_000).toISOString());
    const issuedAt = now;
    now = new Date(issuedAt.getTime() + 59_999);
    expect(await tokens().look(token.reveal())).toMatchObject(grant);
    now = new Date(issuedAt.getTime() + 60_000);
    expect(await problemOf(tokens().look(token.reveal()))).toBe('join_token_invalid');
  });

  it('does not show itself when it is printed', async () => {
    const issued = await tokens().issue(grant, 600);
    expect(inspect(issued, { depth: 5, showHidden: true }) + JSON.stringify(issued)).not.toContain(
      issued.token.reveal(),
    );
  });

  it('is kept as its SHA-256', async () => {
    const { token } = await tokens().issue(grant, 600);
    const hash = createHash('sha256').update(token.reveal()).digest('hex');
    const row = await table.get(hash.slice(0, 2), hash);
    expect(row?.entity).toMatchObject({ deviceId: 'press-4' });
    expect(JSON.stringify(row)).not.toContain(token.reveal());
  });

  it('is used up by one of many who hold it at the same time', async () => {
    const { token } = await tokens().issue(grant, 600);
    const holders = await Promise.all(Array.from({ length: 20 }, () => tokens().look(token.reveal())));
    const outcomes = await Promise.all(holders.map((held) => problemOf(tokens().consume(held))));
    expect(outcomes.filter((outcome) => outcome === 'no problem')).toHaveLength(1);
    expect(outcomes.filter((outcome) => outcome === 'join_token_invalid')).toHaveLength(19);
  });

  it('is used up by the one whose answer was lost', async () => {
    const { token } = await tokens().issue(grant, 600);
    const held = await tokens().look(token.reveal());
    faults.add({ target: 'storage', match: { method: 'PUT' }, fault: { cut: 'after' }, times: 1 });
    await tokens().consume(held);
    expect(await problemOf(tokens().look(token.reveal()))).toBe('join_token_invalid');
  });

  it('is not used up where storage was not reached', async () => {
    const { token } = await tokens().issue(grant, 600);
    const held = await tokens().look(token.reveal());
    faults.add({ target: 'storage', match: { method: 'PUT' }, fault: { status: 503 } });
    expect(await problemOf(tokens().consume(held))).toBe('upstream_unavailable');
    faults.clear();
    expect(await tokens().look(token.reveal())).toMatchObject(grant);
  });
});
