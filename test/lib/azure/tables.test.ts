import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { tableClient } from '../../../lib/azure/tables.ts';
import { type Doubles, startDoubles } from '../../support/doubles.ts';
import { uniqueTable } from '../../support/tables.ts';

let doubles: Doubles;

beforeAll(async () => {
  doubles = await startDoubles();
});
afterEach(() => doubles.faults.clear());
afterAll(() => doubles.close());

const newTable = () => tableClient(doubles)(uniqueTable());

describe('a table', () => {
  it('is made by the first entity that is written to it, and empty before', async () => {
    const table = newTable();
    expect(await table.get('a', 'b')).toBeUndefined();
    expect(await table.insert({ partitionKey: 'a', rowKey: 'b', count: 1, text: 'é' })).toEqual({
      etag: expect.any(String),
    });
    expect(await table.get('a', 'b')).toMatchObject({
      entity: { partitionKey: 'a', rowKey: 'b', count: 1, text: 'é' },
    });
  });

  it('says so where an entity is there already', async () => {
    const table = newTable();
    await table.insert({ partitionKey: 'a', rowKey: 'b' });
    expect(await table.insert({ partitionKey: 'a', rowKey: 'b' })).toBe('exists');
  });

  it('replaces an entity as a whole, once for each ETag', async () => {
    const table = newTable();
    const first = await table.insert({ partitionKey: 'a', rowKey: 'b', old: 1 });
    const { etag } = first as { etag: string };
    const outcomes = await Promise.all(
      [1, 2, 3].map((value) => table.replace({ partitionKey: 'a', rowKey: 'b', value }, etag)),
    );
    expect(outcomes.filter((outcome) => outcome === 'changed')).toHaveLength(2);
    expect((await table.get('a', 'b'))?.entity).not.toHaveProperty('old');
    expect(await table.replace({ partitionKey: 'a', rowKey: 'none' }, etag)).toBe('changed');
  });

  it('deletes an entity under its ETag, and tells whether there was one', async () => {
    const table = newTable();
    const { etag } = (await table.insert({ partitionKey: 'a', rowKey: 'b' })) as { etag: string };
    await table.replace({ partitionKey: 'a', rowKey: 'b', value: 2 }, etag);
    expect(await table.remove('a', 'b', etag)).toBe('changed');
    expect(await table.remove('a', 'b')).toBe(true);
    expect(await table.remove('a', 'b')).toBe(false);
  });
});

describe('storage that fails', () => {
  it('twice is asked a third time', async () => {
    const table = newTable();
    await table.insert({ partitionKey: 'a', rowKey: 'b' });
    doubles.faults.add({ target: 'storage', fault: { status: 500 }, times: 2 });
    expect(await table.get('a', 'b')).toBeDefined();
  });

  it('for longer is a clear 503, and hanging a 504', async () => {
    const table = newTable();
    doubles.faults.add({ target: 'storage', fault: { status: 503 } });
    await expect(table.get('a', 'b')).rejects.toMatchObject({ code: 'upstream_unavailable', status: 503 });
    doubles.faults.clear();
    doubles.faults.add({ target: 'storage', fault: { hang: true } });
    await expect(table.get('a', 'b')).rejects.toMatchObject({ code: 'upstream_timeout', status: 504 });
  });

  it('is given the time it asks for', async () => {
    const table = newTable();
    doubles.faults.add({ target: 'storage', fault: { status: 429, retryAfter: 1 }, times: 1 });
    const started = performance.now();
    await table.get('a', 'b');
    expect(performance.now() - started).toBeGreaterThan(950);
  });

  it('after it did the write leaves the caller in doubt, and writes nothing twice', async () => {
    const table = newTable();
    await table.insert({ partitionKey: 'a', rowKey: 'a' });
    doubles.faults.add({ target: 'storage', match: { method: 'POST' }, fault: { cut: 'after' }, times: 1 });
    await expect(table.insert({ partitionKey: 'a', rowKey: 'b' })).rejects.toMatchObject({
      code: 'upstream_unavailable',
    });
    expect(await table.insert({ partitionKey: 'a', rowKey: 'b' })).toBe('exists');
  });
});
