import type { z } from 'zod';
import type { AuditLog } from '../audit/log.ts';
import type { AuditPolicy } from '../audit/record.ts';
import type { AuditTrail } from '../audit/trail.ts';
import type { ProblemCode } from '../errors.ts';
import type { Limiter } from '../limits/limiter.ts';
import type { Log, LogLevel } from '../telemetry.ts';
import type { HttpAnswer } from './problem.ts';
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
