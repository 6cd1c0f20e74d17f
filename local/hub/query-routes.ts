import { createHash } from 'node:crypto';
import type { Reply } from '../kit/https-server.ts';
import { HubError } from './errors.ts';
import { readObject } from './input.ts';
import { project, type Row, selectRows } from './query.ts';
import { parseQuery } from './query-parser.ts';
import type { HubRegistry } from './registry.ts';
import { type HubRoute, readCount, readJson } from './routes.ts';

const defaultPage = 100;
const maxPage = 1000;

/** `POST /devices/query`, in pages. */
export function queryRoutes(registry: HubRegistry): HubRoute[] {
  return [
    {
      method: 'POST',
      path: '/devices/query',
      // A policy needs RegistryRead to query, an Entra principal needs twins/read (learn.microsoft.com, *Get started with
      // device twins* and *Control access to IoT Hub by using Entra ID*).
      access: { right: 'RegistryRead', actions: ['twins/read'] },
      meter: 'query',
      handle: (exchange) => {
        const { query: text } = readObject(readJson(exchange));
        if (typeof text !== 'string') throw new HubError('ArgumentInvalid', 'The query is missing.');
        const size = header(exchange.headers['x-ms-max-item-count']);
        const continuation = header(exchange.headers['x-ms-continuation']);
        const count = readCount(size, defaultPage, maxPage, 'x-ms-max-item-count');
        return answer(registry, text, count, continuation);
      },
    },
  ];
}

interface Position {
  query: string;
  /** The last row of the page before. */
  after: string;
  seen: number;
}

function answer(registry: HubRegistry, text: string, count: number, continuation: string | undefined): Reply {
  const query = parseQuery(text);
  const rows = selectRows(registry, query);
  const [item] = query.items ?? [];
  if (item !== undefined && 'count' in item) return page([{ [item.name]: rows.length }], 'Raw', undefined);
  const fingerprint = createHash('sha256').update(text).digest('base64url').slice(0, 12);
  const position = continuation === undefined ? undefined : readPosition(continuation, fingerprint);
  const left = (query.top ?? Number.POSITIVE_INFINITY) - (position?.seen ?? 0);
  const rest = (position === undefined ? rows : rows.filter((row) => row.key > position.after)).slice(0, left);
  const shown = rest.slice(0, count);
  const last: Row | undefined = shown.at(-1);
  const seen = (position?.seen ?? 0) + shown.length;
  const next = rest.length > shown.length && last && writePosition({ query: fingerprint, after: last.key, seen });
  const type = query.items === undefined ? 'Twin' : 'Raw';
  return page(
    shown.map((row) => project(query, row.twin)),
    type,
    next || undefined,
  );
}

function page(items: object[], type: 'Twin' | 'Raw', continuation: string | undefined): Reply {
  const headers = { 'x-ms-item-type': type, ...(continuation !== undefined && { 'x-ms-continuation': continuation }) };
  return { status: 200, headers, body: items };
}

function writePosition(position: Position): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url');
}

function readPosition(continuation: string, fingerprint: string): Position {
  try {
    const position = JSON.parse(Buffer.from(continuation, 'base64url').toString('utf8')) as Position;
    if (position.query === fingerprint) return position;
  } catch {
    // Not one of ours: the same answer as for that of another query.
  }
  throw new HubError('ArgumentInvalid', 'The continuation token is not valid for this query.');
}

function header(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
