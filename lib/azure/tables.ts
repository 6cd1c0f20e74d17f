import type { Agent } from 'node:https';
import type { TableClient } from '@azure/data-tables';
import type { TokenCredential } from '@azure/identity';
import type { Config } from '../config.ts';
import type { Entity, Table, TableValue } from '../table.ts';
import { type Upstream, UpstreamStatusError, upstream } from './upstream.ts';

export interface TablesOptions {
  config: Pick<Config, 'storage' | 'upstreamTimeoutMs'>;
  agent: Agent;
  credential: TokenCredential;
}

/**
 * Tables of the app's storage account. A table is made when the first entity is written to it. The identity needs the
 * role Storage Table Data Contributor.
 */
export function tableClient(options: TablesOptions): (name: string) => Table {
  const call = upstream({ service: 'Table storage', timeoutMs: options.config.upstreamTimeoutMs });
  return (name) => {
    let made: Promise<TableClient> | undefined;
    return azureTable(() => {
      made ??= newClient(options, name);
      return made;
    }, call);
  };
}

/** Looks for an entity that is not there: any answer but a failure shows that storage can be reached and read. */
export async function probeTables(options: TablesOptions): Promise<void> {
  const { upstreamTimeoutMs: timeoutMs } = options.config;
  const call = upstream({ service: 'Table storage', timeoutMs, waitBudgetMs: 0 });
  await azureTable(() => newClient(options, 'gatepost'), call).get('probe', 'probe');
}

async function newClient({ config, agent, credential }: TablesOptions, name: string): Promise<TableClient> {
  const { TableClient } = await import('@azure/data-tables');
  // Retries are counted in one place: upstream.ts.
  const retryOptions = { maxRetries: 0 };
  if ('tableServiceUri' in config.storage) {
    return new TableClient(config.storage.tableServiceUri, name, credential, { agent, retryOptions } as object);
  }
  const connectionString = config.storage.connectionString.reveal();
  // Azurite is plain HTTP, for which an https.Agent is of no use.
  const isPlain = /UseDevelopmentStorage=true|TableEndpoint=http:|DefaultEndpointsProtocol=http(?:;|$)/i.test(
    connectionString,
  );
  const transport = isPlain ? { allowInsecureConnection: true } : { agent };
  return TableClient.fromConnectionString(connectionString, name, { ...transport, retryOptions } as object);
}

function azureTable(client: () => Promise<TableClient>, call: Upstream): Table {
  const write = async <T>(
    operation: string,
    attempt: (table: TableClient, signal: AbortSignal) => Promise<T>,
  ): Promise<T> => {
    const table = await client();
    const once = () => call({ operation, repeatable: false, attempt: (signal) => attempt(table, signal) });
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
  };
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
