import type { Agent } from 'node:https';
import type { TableClient, TableServiceClient } from '@azure/data-tables';
import type { TokenCredential } from '@azure/identity';
import type { Config } from '../config.ts';
import type { Entity, Table, Tables, TableValue } from '../table.ts';
import { traceparentPolicy } from './traceparent-policy.ts';
import { type Upstream, UpstreamStatusError, upstream } from './upstream.ts';

export interface TablesOptions {
  config: Pick<Config, 'storage' | 'upstreamTimeoutMs'>;
  agent: Agent;
  credential: TokenCredential;
}

/** One table for each month of the audit log: more than there can be. */
const mostTables = 1_000;
/** What the service answers at once. */
const largestPage = 1_000;

/**
 * Tables of the app's storage account. A table is made when the first entity is written to it. The identity needs the
 * role Storage Table Data Contributor.
 */
export function tableClient(options: TablesOptions): Tables {
  const call = upstream({ service: 'Table storage', timeoutMs: options.config.upstreamTimeoutMs });
  const table = (name: string) => {
    let made: Promise<TableClient> | undefined;
    return azureTable(() => {
      made ??= newClient(options, name);
      return made;
    }, call);
  };
  return Object.assign(table, {
    async names(prefix: string) {
      const service = await newServiceClient(options);
      // The first character that sorts behind all that a name may hold.
      const filter = `TableName ge '${prefix}' and TableName lt '${prefix}~'`;
      const list = (abortSignal: AbortSignal) =>
        collect(service.listTables({ queryOptions: { filter }, abortSignal }), mostTables);
      const found = await call({ operation: 'list tables', repeatable: true, attempt: list });
      return found.map(({ name }) => String(name));
    },
    async drop(name: string) {
      const service = await newServiceClient(options);
      const attempt = (abortSignal: AbortSignal) => service.deleteTable(name, { abortSignal });
      await call({ operation: 'delete a table', repeatable: true, attempt }).catch(unless(404, undefined));
    },
  });
}

/** Looks for an entity that is not there: any answer but a failure shows that storage can be reached and read. */
export async function probeTables(options: TablesOptions): Promise<void> {
  const { upstreamTimeoutMs: timeoutMs } = options.config;
  const call = upstream({ service: 'Table storage', timeoutMs, waitBudgetMs: 0 });
  await azureTable(() => newClient(options, 'gatepost'), call).get('probe', 'probe');
}

async function newClient(options: TablesOptions, name: string): Promise<TableClient> {
  const { TableClient } = await import('@azure/data-tables');
  const { url, connectionString, settings } = connection(options);
  return url === undefined
    ? TableClient.fromConnectionString(connectionString, name, settings)
    : new TableClient(url, name, options.credential, settings);
}

async function newServiceClient(options: TablesOptions): Promise<TableServiceClient> {
  const { TableServiceClient } = await import('@azure/data-tables');
  const { url, connectionString, settings } = connection(options);
  return url === undefined
    ? TableServiceClient.fromConnectionString(connectionString, settings)
    : new TableServiceClient(url, options.credential, settings);
}

function connection({ config, agent }: TablesOptions) {
  // Retries are counted in one place: upstream.ts.
  const shared = { retryOptions: { maxRetries: 0 }, additionalPolicies: [traceparentPolicy] };
  if ('tableServiceUri' in config.storage) {
    return { url: config.storage.tableServiceUri, connectionString: '', settings: { agent, ...shared } as object };
  }
  const connectionString = config.storage.connectionString.reveal();
  // Azurite is plain HTTP, for which an https.Agent is of no use.
  const isPlain = /UseDevelopmentStorage=true|TableEndpoint=http:|DefaultEndpointsProtocol=http(?:;|$)/i.test(
    connectionString,
  );
  const transport = isPlain ? { allowInsecureConnection: true } : { agent };
  return { url: undefined, connectionString, settings: { ...transport, ...shared } as object };
}

function azureTable(client: () => Promise<TableClient>, call: Upstream): Table {
  const write = async <T>(
    operation: string,
    attempt: (table: TableClient, signal: AbortSignal) => Promise<T>,
    repeatable = false,
  ): Promise<T> => {
    const table = await client();
    const once = () => call({ operation, repeatable, attempt: (signal) => attempt(table, signal) });
    try {
      return await once();
    } catch (error) {
      if (!(error instanceof UpstreamStatusError) || error.upstreamCode !== 'TableNotFound') throw error;
    }
    await call({
      operation: 'create a table',
      repeatable: true,
      attempt: (signal) => table.createTable({ abortSignal: signal }),
    });
    return once();
  };

  const list = async (filter: string, limit: number, select?: string[]): Promise<Record<string, unknown>[]> => {
    const table = await client();
    const queryOptions = { filter, ...(select === undefined ? {} : { select }) };
    const read = call({
      operation: 'list entities',
      repeatable: true,
      attempt: (abortSignal) => collect(table.listEntities({ queryOptions, abortSignal }), limit),
    });
    return read.catch(unless(404, []));
  };

  return {
    async get(partitionKey, rowKey) {
      const table = await client();
      const read = call({
        operation: 'read an entity',
        repeatable: true,
        attempt: (signal) => table.getEntity(partitionKey, rowKey, { abortSignal: signal }),
      });
      const found = await read.catch(unless(404, undefined));
      return found === undefined ? undefined : { entity: toEntity(found), etag: found.etag };
    },
    async insert(entity) {
      const wrote = write('add an entity', (table, abortSignal) => table.createEntity(entity, { abortSignal }));
      const answer = await wrote.catch(unless(409, 'exists' as const));
      return answer === 'exists' ? answer : { etag: answer.etag ?? '' };
    },
    async append(entity) {
      const attempt = (table: TableClient, abortSignal: AbortSignal) => table.createEntity(entity, { abortSignal });
      await write('add an entity', attempt, true).catch(unless(409, undefined));
    },
    async replace(entity, etag) {
      const wrote = write('replace an entity', (table, abortSignal) =>
        table.updateEntity(entity, 'Replace', { etag, abortSignal }),
      );
      const answer = await wrote.catch(unless(412, 'changed' as const)).catch(unless(404, 'changed' as const));
      return answer === 'changed' ? answer : { etag: answer.etag ?? '' };
    },
    async remove(partitionKey, rowKey, etag) {
      const table = await client();
      const removed = call({
        operation: 'delete an entity',
        repeatable: true,
        attempt: (abortSignal) => table.deleteEntity(partitionKey, rowKey, { abortSignal, etag: etag ?? '*' }),
      });
      return removed
        .then(() => true)
        .catch(unless(404, false))
        .catch(unless(412, 'changed' as const));
    },
    async range(partitionKey, after, before, limit) {
      const keys = [partitionKey, after, before].map((key) => key.replaceAll("'", "''"));
      const filter = `PartitionKey eq '${keys[0]}' and RowKey gt '${keys[1]}' and RowKey lt '${keys[2]}'`;
      return (await list(filter, limit)).map(toEntity);
    },
    async before(property, date, limit) {
      const found = await list(`${property} lt datetime'${date.toISOString()}'`, limit, ['PartitionKey', 'RowKey']);
      return found.map(toEntity);
    },
  };
}

interface Paged<T> {
  byPage(settings: { maxPageSize: number }): AsyncIterable<T[]>;
}

/** Reads pages of a list until there are enough. */
async function collect<T>(list: Paged<T>, limit: number): Promise<T[]> {
  const all: T[] = [];
  for await (const page of list.byPage({ maxPageSize: Math.min(limit, largestPage) })) {
    all.push(...page);
    if (all.length >= limit) break;
  }
  return all.slice(0, limit);
}

/** Answers `value` where the service answered `status`. */
function unless<T>(status: number, value: T): (error: unknown) => T {
  return (error) => {
    if (error instanceof UpstreamStatusError && error.upstreamStatus === status) return value;
    throw error;
  };
}

function toEntity(found: Record<string, unknown>): Entity {
  const entity: Entity = { partitionKey: String(found.partitionKey), rowKey: String(found.rowKey) };
  for (const [name, value] of Object.entries(found)) {
    if (name === 'etag' || name === 'timestamp' || name.startsWith('odata.')) continue;
    entity[name] = value as TableValue;
  }
  return entity;
}
