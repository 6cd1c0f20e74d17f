import { z } from 'zod';
import type { AuditLog } from '../audit/log.ts';
import type { AuditPolicy } from '../audit/record.ts';
import { type AuditTrail, noTrail, resultOf, Trail } from '../audit/trail.ts';
import { GatepostError, type ProblemCode } from '../errors.ts';
import type { Limiter } from '../limits/limiter.ts';
import { isLimited, limitsOf } from '../limits/policy.ts';
import { type Activity, failSpan, runActivity } from '../telemetry/activity.ts';
import { tellMetrics } from '../telemetry/metrics.ts';
import { parentOf } from '../telemetry/trace-context.ts';
import { createLog, describeError, type Log, type LogLevel, type LogSink } from '../telemetry.ts';
import { readJsonBody } from './body.ts';
import { parsePart } from './parse.ts';
import { type HttpAnswer, problemAnswer } from './problem.ts';
import { pathParams, queryOf } from './request-parts.ts';
import { respond } from './respond.ts';
import { isStrict } from './strict.ts';

/** The app roles of this API. */
export type Role = 'Trust.Read' | 'Trust.Manage' | 'Fleet.Read' | 'Fleet.Provision' | 'Credential.Issue' | 'Audit.Read';

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
  /** The record of this call: see the route's `audit`. */
  audit: AuditTrail;
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
  /** How it is recorded: every route that changes something or gives a credential out has one. */
  audit?: AuditPolicy;
  /**
   * `caller`: its calls count against the limit of the operator, though it needs not the role Credential.Issue. Routes that need
   * it, those of devices and the redeeming of join tokens are counted without being told.
   */
  limit?: 'caller' | undefined;
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
  /** Empty where the host does no tracing. */
  traceContext?: { traceParent?: string | undefined } | undefined;
}

/** What stands between a caller that is proven and what a route does. Each is made on first use. */
export interface Guards {
  limits(): Promise<Limiter>;
  audit(): Promise<AuditLog>;
  clock(): Date;
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

/**
 * The handler of a route: authenticate, count, parse, record, act, record, respond. It never throws. A route that is
 * counted or recorded cannot be served without guards.
 */
export function serve(route: Route, authenticate: Authenticator, guards?: Guards): Handler {
  const bodyOptional = route.body?.safeParse(undefined).success === true;
  if (guards === undefined && route.audit !== undefined) throw new TypeError(`Route ${route.name}: nobody records it.`);
  return (request, context) => {
    const clientRequestId = sanitizedId(request.headers.get('x-ms-client-request-id'));
    const { invocationId } = context;
    const base = { route: route.name, invocationId, ...(clientRequestId === undefined ? {} : { clientRequestId }) };
    const sink: LogSink = (level, line) => context[level](line);
    const log = (correlationId: string) => createLog(sink, { ...base, correlationId });
    const parent = parentOf(context.traceContext?.traceParent, request.headers.get('traceparent'));
    return runActivity({ name: route.name, parent, attributes: base, log }, async (activity) => {
      const served = { route, authenticate, guards, bodyOptional, request, invocationId, activity };
      const answer = await run(served).catch((error: unknown) => {
        report(activity, error);
        return problemAnswer(error, invocationId);
      });
      activity.span.setAttribute('status', answer.status);
      answer.headers['x-content-type-options'] = 'nosniff';
      answer.headers['x-ms-request-id'] = invocationId;
      answer.headers['gatepost-correlation-id'] = activity.span.spanContext().traceId;
      if (clientRequestId !== undefined) answer.headers['x-ms-client-request-id'] = clientRequestId;
      if (request.method === 'HEAD') delete answer.body;
      // They are of all requests since the last time, not of this one.
      tellMetrics(createLog(sink));
      return answer;
    });
  };
}

/** One request on its way through {@link run}. */
interface Served {
  route: Route;
  authenticate: Authenticator;
  guards: Guards | undefined;
  bodyOptional: boolean;
  request: HttpRequestLike;
  invocationId: string;
  activity: Activity;
}

async function run(served: Served): Promise<HttpAnswer> {
  const { route, authenticate, guards, bodyOptional, request, activity } = served;
  const { headers } = request;
  const params = pathParams(route, request.params);
  const caller = await authenticate(route.access, { headers, params, log: activity.log });
  if (guards !== undefined && isLimited(route)) {
    const limits = await guards.limits();
    for (const limit of limitsOf(route, caller, params, headers)) await limits.take(limit);
  }

  const url = new URL(request.url);
  const parsed = {
    params: parsePart(route.params ?? nothing, params, 'path'),
    query: parsePart(route.query ?? nothing, queryOf(url), 'query'),
    body: await parseBody(route, bodyOptional, request),
  };
  const ifMatch = headers.get('if-match');
  const ifNoneMatch = headers.get('if-none-match');

  const log = callerLog(activity.log, caller);
  const answer = await recorded(served, caller, log, parsed, (audit) =>
    route.act({
      method: request.method as Method,
      ...parsed,
      caller,
      headers,
      url,
      ...(ifMatch === null ? {} : { ifMatch }),
      ...(ifNoneMatch === null ? {} : { ifNoneMatch }),
      log,
      audit,
    }),
  );

  return respond(answer, request.method, ifNoneMatch ?? undefined);
}

/** Does what the route does, between what its audit policy wants to be recorded. */
async function recorded(
  { route, guards, invocationId, activity }: Served,
  caller: Caller,
  log: Log,
  parsed: { params: unknown; body: unknown },
  act: (audit: AuditTrail) => Promise<Answer>,
): Promise<Answer> {
  const { audit: policy } = route;
  if (policy === undefined || guards === undefined) return act(noTrail);
  const correlationId = activity.span.spanContext().traceId;
  const { audit, clock } = guards;
  const trail = new Trail({ policy, audit, caller, correlationId, requestId: invocationId, clock, log });
  const subject = policy.subject({ ...parsed, caller });
  if (policy.when === 'change') await trail.begin(subject);
  else trail.note(subject);
  let answer: Answer;
  try {
    answer = await act(trail);
  } catch (error) {
    await trail.end(resultOf(error));
    throw error;
  }
  await trail.end({ outcome: 'succeeded', status: answer.status });
  return answer;
}

async function parseBody(route: Route, optional: boolean, request: HttpRequestLike): Promise<unknown> {
  if (route.body === undefined) return undefined;
  const value = await readJsonBody(request, route.maxBodyBytes ?? defaultMaxBodyBytes, optional);
  return parsePart(route.body, value, 'body');
}

function callerLog(log: Log, caller: Caller): Log {
  if (caller.plane === 'operator') return log.with({ plane: 'operator', caller: caller.objectId });
  if (caller.plane === 'device') return log.with({ plane: 'device', caller: caller.deviceId });
  return log;
}

function report({ log, span }: Activity, error: unknown): void {
  failSpan(span, error instanceof GatepostError ? error.code : 'unexpected_error');
  if (!(error instanceof GatepostError)) {
    log.error('unexpected_error', describeError(error));
    return;
  }
  const cause = error.cause === undefined ? {} : describeError(error.cause);
  const told = {
    code: error.code,
    status: error.status,
    ...(error.reason === undefined ? {} : { reason: error.reason }),
  };
  if (error.status >= 500) log.warn('failed', { ...told, ...cause });
  else log.info('refused', told);
}

/** An id that a caller chose is echoed and logged only where it is plainly an id. */
function sanitizedId(value: string | null): string | undefined {
  return value !== null && /^[\w.:-]{1,64}$/.test(value) ? value : undefined;
}
