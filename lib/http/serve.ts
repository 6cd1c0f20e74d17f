import { z } from 'zod';
import { type AuditTrail, noTrail, resultOf, Trail } from '../audit/trail.ts';
import { GatepostError } from '../errors.ts';
import { isLimited, limitsOf } from '../limits/policy.ts';
import { type Activity, failSpan, runActivity } from '../telemetry/activity.ts';
import { tellMetrics } from '../telemetry/metrics.ts';
import { parentOf } from '../telemetry/trace-context.ts';
import { createLog, describeError, type Log, type LogSink } from '../telemetry.ts';
import { readJsonBody } from './body.ts';
import { parsePart } from './parse.ts';
import { type HttpAnswer, problemAnswer } from './problem.ts';
import { pathParams, queryOf } from './request-parts.ts';
import { respond } from './respond.ts';
import type { Answer, Authenticator, Caller, Guards, Handler, HttpRequestLike, Method, Route } from './route.ts';

const defaultMaxBodyBytes = 65_536;
const nothing = z.strictObject({});

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
