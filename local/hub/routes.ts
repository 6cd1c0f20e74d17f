import type { Exchange, Reply, Route } from '../kit/https-server.ts';
import { type Access, type AccessContext, authorize, type Caller } from './access.ts';
import { type ErrorBody, errorReply, HubError } from './errors.ts';
import type { Condition } from './input.ts';
import type { HubRegistry } from './registry.ts';
import type { Meter, Throttle } from './throttle.ts';

/** One endpoint of the hub. */
export interface HubRoute {
  method: string;
  path: string;
  access: Access;
  /** Absent: not metered. */
  meter?: Meter;
  handle(exchange: Exchange, caller: Caller): Reply | Promise<Reply>;
}

export interface RouteContext extends AccessContext {
  registry: HubRegistry;
  throttle: Throttle;
  errorBody(): ErrorBody;
}

/** What every endpoint does before and after its own work: who calls, api-version, throttle, errors. */
export function toRoute(context: RouteContext, route: HubRoute): Route {
  return {
    method: route.method,
    path: route.path,
    handle: async (exchange) => {
      try {
        const path = decodePath(exchange.url.pathname);
        const { method, certificates } = exchange;
        const { authorization } = exchange.headers;
        const caller = await authorize(context, route.access, { method, path, authorization, certificates });
        if (!exchange.url.searchParams.get('api-version')) {
          throw new HubError('ArgumentInvalid', 'The api-version is missing from the query.');
        }
        if (route.meter !== undefined) context.throttle.take(route.meter);
        return await route.handle(exchange, caller);
      } catch (error) {
        if (error instanceof HubError) return errorReply(error, context.errorBody(), context.now());
        throw error;
      }
    },
  };
}

export function decodePath(path: string): string {
  try {
    return path.split('/').map(decodeURIComponent).join('/');
  } catch {
    throw new HubError('ArgumentInvalid', 'The address has a broken escape.');
  }
}

export function readJson(exchange: Exchange): unknown {
  try {
    return JSON.parse(exchange.body.toString('utf8'));
  } catch {
    throw new HubError('DeserializationError', 'The body is not JSON.');
  }
}

/** `If-Match`: `"*"`, `*` or one ETag in quotes (RFC 9110, section 13.1.1). */
export function readCondition(exchange: Exchange): Condition {
  const header = exchange.headers['if-match'];
  if (header === undefined) return undefined;
  if (header === '*' || header === '"*"') return '*';
  const etag = /^"([^"]+)"$/.exec(header)?.[1];
  if (etag === undefined) throw new HubError('ArgumentInvalid', `If-Match is no ETag in quotes: ${header}`);
  return { etag };
}

/** Answers an entity with its ETag. */
export function entity(body: object, etag: string): Reply {
  return { status: 200, headers: { etag: `"${etag}"` }, body };
}

export function param(exchange: Exchange, name: string): string {
  return exchange.params[name] ?? '';
}

/** A whole number of the query or of a header, within its bounds. */
export function readCount(value: string | null | undefined, fallback: number, max: number, name: string): number {
  if (value === null || value === undefined || value === '') return fallback;
  const count = Number(value);
  if (Number.isInteger(count) && count >= 1) return Math.min(count, max);
  throw new HubError('ArgumentInvalid', `${name} is a whole number above 0.`);
}
