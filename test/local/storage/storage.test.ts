import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { odata, type RestError, TableClient } from '@azure/data-tables';
import { BlobServiceClient } from '@azure/storage-blob';
import { QueueServiceClient } from '@azure/storage-queue';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { type Storage, startStorage } from '../../../local/storage/azurite.ts';

const faults = new FaultSwitch();
const directory = mkdtempSync(join(tmpdir(), 'gatepost-storage-'));
let storage: Storage;

beforeAll(async () => {
  storage = await startStorage({ faults, directory });
});
afterEach(() => faults.clear());
afterAll(async () => {
  await storage.close();
  rmSync(directory, { recursive: true });
});

let made = 0;
async function newTable(options: { maxRetries?: number } = {}): Promise<TableClient> {
  made += 1;
  const table = TableClient.fromConnectionString(storage.connectionString, `table${made}`, {
    allowInsecureConnection: true,
    retryOptions: { maxRetries: options.maxRetries ?? 0, retryDelayInMs: 5 },
  });
  await table.createTable();
  faults.resetCalls();
  return table;
}

async function restError(work: Promise<unknown>): Promise<RestError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof Error && error.name === 'RestError') return error as RestError;
  throw new Error(`expected a RestError, got ${String(error)}`);
}

describe('the real storage clients through the fault switch', () => {
  test('keep table entities, refuse a duplicate and a stale ETag', async () => {
    const table = await newTable();
    const { etag } = await table.createEntity({ partitionKey: 'a', rowKey: '1', sequence: 1 });
    expect((await restError(table.createEntity({ partitionKey: 'a', rowKey: '1' }))).statusCode).toBe(409);
    await table.updateEntity({ partitionKey: 'a', rowKey: '1', sequence: 2 }, 'Merge', { etag: etag ?? '' });
    const stale = await restError(
      table.updateEntity({ partitionKey: 'a', rowKey: '1', sequence: 3 }, 'Merge', { etag: etag ?? '' }),
    );
    expect(stale.statusCode).toBe(412);
    const rows = table.listEntities<{ sequence: number }>({ queryOptions: { filter: odata`PartitionKey eq ${'a'}` } });
    const sequences: unknown[] = [];
    for await (const row of rows) sequences.push(row.sequence);
    expect(sequences).toEqual([2]);
  });

  test('run a transaction of a hundred entities', async () => {
    const table = await newTable();
    const rows = Array.from({ length: 100 }, (_, index) => ({ partitionKey: 'batch', rowKey: `r${index}` }));
    const answer = await table.submitTransaction(rows.map((row) => ['create', row]));
    expect(answer.subResponses).toHaveLength(100);
  });

  test('send, receive and delete queue messages', async () => {
    const queue = QueueServiceClient.fromConnectionString(storage.connectionString).getQueueClient('jobs');
    await queue.create();
    await queue.sendMessage('hello');
    const [message] = (await queue.receiveMessages()).receivedMessageItems;
    expect(message?.messageText).toBe('hello');
    await queue.deleteMessage(message?.messageId ?? '', message?.popReceipt ?? '');
    expect((await queue.getProperties()).approximateMessagesCount).toBe(0);
  });

  test('keep a blob of some megabytes as it was and honour If-None-Match', async () => {
    const container = BlobServiceClient.fromConnectionString(storage.connectionString).getContainerClient('files');
    await container.create();
    const blob = container.getBlockBlobClient('folder/some file.bin');
    const bytes = Buffer.alloc(5_000_000, 'gatepost ');
    await blob.uploadData(bytes);
    expect((await blob.downloadToBuffer()).equals(bytes)).toBe(true);
    const again = await restError(blob.upload('x', 1, { conditions: { ifNoneMatch: '*' } }));
    expect(again.statusCode).toBe(409);
  });

  test('are refused with a wrong account key', async () => {
    const forged = storage.connectionString.replace(
      /AccountKey=[^;]+/,
      `AccountKey=${Buffer.alloc(64).toString('base64')}`,
    );
    const table = TableClient.fromConnectionString(forged, 'forged', { allowInsecureConnection: true });
    expect((await restError(table.createTable())).statusCode).toBe(403);
  });
});

describe('storage faults', () => {
  test('a 503 with Retry-After reads as ServerBusy and the client tries again', async () => {
    const table = await newTable({ maxRetries: 3 });
    faults.add({ target: 'storage', match: { method: 'POST' }, fault: { status: 503, retryAfter: 0 }, times: 2 });
    await table.createEntity({ partitionKey: 'a', rowKey: '1' });
    expect(faults.list()[0]?.struck).toBe(2);
    expect(faults.calls().storage[`POST /table/${table.tableName}`]).toBe(3);
  });

  test('a 412 is the race that the table service reports', async () => {
    const table = await newTable();
    await table.createEntity({ partitionKey: 'a', rowKey: '1' });
    faults.add({ target: 'storage', match: { path: 'PartitionKey' }, fault: { status: 412 }, times: 1 });
    const error = await restError(table.updateEntity({ partitionKey: 'a', rowKey: '1' }, 'Merge', { etag: '*' }));
    expect(error.statusCode).toBe(412);
    expect(JSON.stringify(error.details)).toContain('UpdateConditionNotSatisfied');
  });

  test('a blob or queue error is XML that the clients understand', async () => {
    const blobs = BlobServiceClient.fromConnectionString(storage.connectionString, { retryOptions: { maxTries: 1 } });
    faults.add({ target: 'storage', fault: { status: 503 }, times: 1 });
    const error = await restError(blobs.getContainerClient('busy').create());
    expect(error.code).toBe('ServerBusy');
  });

  test('cut before leaves nothing done', async () => {
    const table = await newTable();
    faults.add({ target: 'storage', match: { method: 'POST' }, fault: { cut: 'before' }, times: 1 });
    expect((await restError(table.createEntity({ partitionKey: 'a', rowKey: '1' }))).statusCode).toBeUndefined();
    expect((await restError(table.getEntity('a', '1'))).statusCode).toBe(404);
  });

  test('cut after has done the work, only the answer is lost', async () => {
    const table = await newTable();
    faults.add({ target: 'storage', match: { method: 'POST' }, fault: { cut: 'after' }, times: 1 });
    expect((await restError(table.createEntity({ partitionKey: 'a', rowKey: '1' }))).statusCode).toBeUndefined();
    expect((await table.getEntity('a', '1')).rowKey).toBe('1');
  });

  test('a hanging request ends when the caller gives up, and a slow one is late', async () => {
    const table = await newTable();
    faults.add({ target: 'storage', match: { method: 'POST' }, fault: { hang: true }, times: 1 });
    const entity = { partitionKey: 'a', rowKey: '1' };
    await expect(table.createEntity(entity, { abortSignal: AbortSignal.timeout(150) })).rejects.toThrow(/abort/i);
    faults.add({ target: 'storage', match: { method: 'POST' }, fault: { delayMs: 120 }, times: 1 });
    const begun = performance.now();
    await table.createEntity(entity);
    expect(performance.now() - begun).toBeGreaterThanOrEqual(118);
  });

  test('calls are counted by service and path template, without keys and names', async () => {
    const table = await newTable();
    await table.createEntity({ partitionKey: 'secret key', rowKey: '1' });
    await table.getEntity('secret key', '1');
    const name = table.tableName;
    expect(faults.calls().storage).toEqual({
      [`POST /table/${name}`]: 1,
      [`GET /table/${name}(PartitionKey,RowKey)`]: 1,
    });
  });
});

test('storage keeps its data over a restart in the same folder', async () => {
  const kept = mkdtempSync(join(tmpdir(), 'gatepost-storage-'));
  const begin = () => startStorage({ faults, directory: kept });
  const first = await begin();
  const open = (of: Storage) =>
    TableClient.fromConnectionString(of.connectionString, 'kept', { allowInsecureConnection: true });
  await open(first).createTable();
  await open(first).createEntity({ partitionKey: 'a', rowKey: '1', text: 'still here' });
  await first.close();
  const second = await begin();
  try {
    expect((await open(second).getEntity('a', '1')).text).toBe('still here');
  } finally {
    await second.close();
    rmSync(kept, { recursive: true });
  }
});
