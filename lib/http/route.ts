import { z } from 'zod';
import { GatepostError, type ProblemCode } from '../errors.ts';
import { createLog, describeError, type Log, type LogLevel } from '../telemetry.ts';
import { readJsonBody } from './body.ts';
import { noneMatchHits } from './conditional.ts';
import { parsePart } from './parse.ts';
import { type HttpAnswer, problemAnswer } from './problem.ts';

/** The app roles of this API. */
export type Role = 'Trust.Read' | 'Trust.Manage' | 'Fleet.Read' | 'Fleet.Provision' | 'Credential.Issue';

/**
 * Who may call a route. An operator needs any one of `roles`. A device is the one of the path's `{deviceId}`, a module that
 * of its `{moduleId}`; with `modules`, a path without `{moduleId}` takes the tokens of the device's modules too.
 */
export type Access =
  | { plane: 'public' }
  | { plane: 'operator'; roles: readonly [Role, ...Role[]] }
  | { plane: 'device'; modules?: boolean }
  | { plane: 'join' };

/** Who calls, once proven. On the join plane the proof is in the body, so the route itself checks it. */
export type Caller =
  | { plane: 'public' }
  | { plane: 'join' }
  | { plane: 'operator'; objectId: string; name: string; roles: Role[] }
  | { plane: 'device'; deviceId: string; moduleId: string | null };

export type Method = 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';

/** What a route is asked, parsed. */
export interface RouteRequest<P, Q, B> {
  method: Method;
  params: P;
  query: Q;
  body: B;
  caller: Caller;
  headers: Headers;
  url: URL;
  /** The conditional headers as sent: see conditional.ts. */
  ifMatch?: string;
  ifNoneMatch?: string;
  log: Log;
}

/** What a route answers. */
export interface Answer {
  status: number;
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is; name its `content-type` in `headers`. */
  body?: string | Uint8Array;
  /** Names in lower case. A GET answer with an `etag` becomes 304 by itself where If-None-Match names it. */
  headers?: Record<string, string>;
  /** The answer holds a secret: no cache may keep it, whatever `headers` say. */
  noStore?: boolean;
}

/** How the OpenAPI document describes one answer. */
export interface AnswerDescription {
  description: string;
  schema?: z.ZodType;
  /** Default: `application/json` where there is a schema. */
  contentTypes?: readonly string[];
  /** Header names in lower case, and what each says. */
  headers?: Readonly<Record<string, string>>;
  example?: unknown;
}

type Nothing = z.ZodObject<Record<never, never>>;

/** One route: its place, its policy, its schemas, what it can answer, and what it does. */
export interface RouteDefinition<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType> {
  /** The function's name, which is also its operationId. The host matches routes in the order of their names. */
  name: string;
  methods: readonly [Method, ...Method[]];
  /** Such as `api/v1/devices/{deviceId}`. */
  path: string;
  summary: string;
  description?: string;
  tag: string;
  access: Access;
  params?: P;
  query?: Q;
  /** A strict object (or a union of them); let it be optional where the body may be left out. */
  body?: B;
  bodyExample?: unknown;
  /** Default 65,536. */
  maxBodyBytes?: number;
  answers: Readonly<Record<number, AnswerDescription>>;
  /** Beyond those that every route of its plane can give. */
  problems: readonly ProblemCode[];
  act(request: RouteRequest<z.output<P>, z.output<Q>, z.output<B>>): Promise<Answer>;
}

/** A route whose schemas are no longer told apart by type: what is registered and documented. */
export type Route = RouteDefinition<z.ZodObject, z.ZodObject, z.ZodType>;

/** The part of the request of `@azure/functions` that is used. */
export interface HttpRequestLike {
  method: string;
  url: string;
  headers: Headers;
  params: Record<string, string>;
  arrayBuffer(): Promise<ArrayBuffer>;
}

/** The part of the invocation context of `@azure/functions` that is used. */
export interface InvocationLike extends Record<LogLevel, (...args: unknown[]) => void> {
  invocationId: string;
}

/** What an authenticator may look at. `params` are the path's, not yet validated. */
export interface AuthenticationRequest {
  headers: Headers;
  params: Readonly<Record<string, string>>;
  log: Log;
}

/** Proves who calls, or throws a 401 or 403 problem, or a 503 where the proof cannot be checked now. */
export type Authenticator = (access: Access, request: AuthenticationRequest) => Promise<Caller>;

export type Handler = (request: HttpRequestLike, context: InvocationLike) => Promise<HttpAnswer>;

const defaultMaxBodyBytes = 65_536;
const nothing: Nothing = z.strictObject({});
const planes: readonly string[] = ['public', 'operator', 'device', 'join'];

/**
 * Declares a route and checks the declaration itself, so that a route without a policy, with a schema that would let
 * unknown fields pass, or with a path the host refuses stops the app at its start and not a caller.
 */
export function defineRoute<
  P extends z.ZodObject = Nothing,
  Q extends z.ZodObject = Nothing,
  B extends z.ZodType = z.ZodUndefined,
>(definition: RouteDefinition<P, Q, B>): Route {
  const { name, path, methods, access, params, query, body } = definition;
  const refuse = (why: string): never => {
    throw new TypeError(`Route ${name}: ${why}`);
  };
  if (!/^[a-z][a-z0-9_-]{0,127}$/i.test(name) || name.toLowerCase() === 'host') refuse('the host refuses its name.');
  // azure-functions-host, ScriptHost.ValidateHttpFunction: these two prefixes are the host's own.
  if (/^\/|^(?:admin|runtime)/i.test(path)) refuse(`the host refuses the path ${path}.`);
  if (!planes.includes(access?.plane)) refuse('it declares no access policy.');
  if (access.plane === 'operator' && access.roles.length === 0) refuse('an operator route names its roles.');
  if (body !== undefined && methods.some((method) => method === 'GET' || method === 'HEAD')) {
    refuse('a GET has no body.');
  }
  const variables = [...path.matchAll(/\{(\w+)\}/g)].map((found) => String(found[1])).sort();
  const described = Object.keys(params?.shape ?? {}).sort();
  if (variables.join() !== described.join()) refuse(`its path has {${variables}} and its params are {${described}}.`);
  for (const [what, schema] of Object.entries({ params, query, body })) {
    if (schema !== undefined && !isStrict(schema))
      refuse(`its ${what} would let unknown fields pass: use z.strictObject.`);
  }
  return definition as unknown as Route;
}

/** The handler of a route: authenticate, parse, act, respond. It never throws. */
export function serve(route: Route, authenticate: Authenticator): Handler {
  const bodyOptional = route.body?.safeParse(undefined).success === true;
  return async (request, context) => {
    const clientRequestId = sanitizedId(request.headers.get('x-ms-client-request-id'));
    const log = createLog((level, line) => context[level](line), {
      route: route.name,
      ...(clientRequestId === undefined ? {} : { clientRequestId }),
    });
    const answer = await run(route, authenticate, bodyOptional, request, log).catch((error: unknown) => {
      report(log, error);
      return problemAnswer(error, context.invocationId);
    });
    answer.headers['x-content-type-options'] = 'nosniff';
    answer.headers['x-ms-request-id'] = context.invocationId;
    if (clientRequestId !== undefined) answer.headers['x-ms-client-request-id'] = clientRequestId;
    if (request.method === 'HEAD') delete answer.body;
    return answer;
  };
}

async function run(
  route: Route,
  authenticate: Authenticator,
  bodyOptional: boolean,
  request: HttpRequestLike,
  log: Log,
): Promise<HttpAnswer> {
  const { headers } = request;
  const params = pathParams(route, request.params);
  const caller = await authenticate(route.access, { headers, params, log });

  const url = new URL(request.url);
  const parsed = {
    params: parsePart(route.params ?? nothing, params, 'path'),
    query: parsePart(route.query ?? nothing, queryOf(url), 'query'),
    body: await parseBody(route, bodyOptional, request),
  };
  const ifMatch = headers.get('if-match');
  const ifNoneMatch = headers.get('if-none-match');

  const answer = await route.act({
    method: request.method as Method,
    ...parsed,
    caller,
    headers,
    url,
    ...(ifMatch === null ? {} : { ifMatch }),
    ...(ifNoneMatch === null ? {} : { ifNoneMatch }),
    log: callerLog(log, caller),
  });

  return respond(answer, request.method, ifNoneMatch ?? undefined);
}

async function parseBody(route: Route, optional: boolean, request: HttpRequestLike): Promise<unknown> {
  if (route.body === undefined) return undefined;
  const value = await readJsonBody(request, route.maxBodyBytes ?? defaultMaxBodyBytes, optional);
  return parsePart(route.body, value, 'body');
}

function respond(answer: Answer, method: string, ifNoneMatch: string | undefined): HttpAnswer {
  const headers: Record<string, string> = { 'cache-control': 'no-store', ...answer.headers };
  if (answer.noStore === true) headers['cache-control'] = 'no-store';
  const etag = headers.etag;
  const isRead = method === 'GET' || method === 'HEAD';
  if (isRead && answer.status === 200 && etag !== undefined && noneMatchHits(ifNoneMatch, etag)) {
    delete headers['content-type'];
    return { status: 304, headers };
  }
  if (answer.json !== undefined) {
    headers['content-type'] ??= 'application/json; charset=utf-8';
    return { status: answer.status, headers, body: JSON.stringify(answer.json) };
  }
  return { status: answer.status, headers, ...(answer.body === undefined ? {} : { body: answer.body }) };
}

/** The host decodes every escape of a route value but `%2F` (ASP.NET Core keeps it, so that it splits no segment). */
function pathParams(route: Route, given: Record<string, string>): Record<string, string> {
  const names = Object.keys(route.params?.shape ?? {});
  return Object.fromEntries(names.map((name) => [name, (given[name] ?? '').replace(/%2f/gi, '/')]));
}

/** A repeated key is refused, since the host and its front ends do not agree on what it means. */
function queryOf(url: URL): Record<string, string> {
  const query: Record<string, string> = {};
  for (const [name, value] of url.searchParams) {
    // The platform's own parameter for a function key: no business of any route.
    if (name === 'code') continue;
    if (Object.hasOwn(query, name)) {
      const errors = [{ pointer: `query/${name}`, detail: 'Give this parameter once.' }];
      throw new GatepostError('invalid_request', `query/${name}: give this parameter once.`, { errors });
    }
    query[name] = value;
  }
  return query;
}

function callerLog(log: Log, caller: Caller): Log {
  if (caller.plane === 'operator') return log.with({ plane: 'operator', caller: caller.objectId });
  if (caller.plane === 'device') return log.with({ plane: 'device', caller: caller.deviceId });
  return log;
}

function report(log: Log, error: unknown): void {
  if (!(error instanceof GatepostError)) {
    log.error('unexpected_error', describeError(error));
    return;
  }
  const cause = error.cause === undefined ? {} : describeError(error.cause);
  if (error.status >= 500) log.warn('failed', { code: error.code, status: error.status, ...cause });
  else log.info('refused', { code: error.code, status: error.status });
}

/** An id that a caller chose is echoed and logged only where it is plainly an id. */
function sanitizedId(value: string | null): string | undefined {
  return value !== null && /^[\w.:-]{1,64}$/.test(value) ? value : undefined;
}

function isStrict(schema: z.core.$ZodType): boolean {
  const def = (schema as z.core.$ZodTypes)._zod.def;
  switch (def.type) {
    case 'object':
      return def.catchall?._zod.def.type === 'never';
    case 'union':
      return def.options.every(isStrict);
    case 'optional':
    case 'nullable':
    case 'default':
    case 'prefault':
    case 'readonly':
      return isStrict(def.innerType);
    case 'pipe':
      return isStrict(def.in);
    default:
      return false;
  }
}
