import { AsyncLocalStorage } from 'node:async_hooks';
import {
  type Attributes,
  type Context,
  isSpanContextValid,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api';
import type { Log } from '../telemetry.ts';
import { formatTraceparent, newSpanContext } from './trace-context.ts';

/** What runs now: a request or a timer, or a call that it makes to a service. */
export interface Activity {
  context: Context;
  span: Span;
  log: Log;
}

/*
 * OpenTelemetry's own notion of a current span needs a context manager of its SDK. This works without, and costs one
 * storage for everything that is asked along the way.
 */
const current = new AsyncLocalStorage<Activity>();
const tracer = trace.getTracer('gatepost');

export interface ActivityOptions {
  name: string;
  parent?: SpanContext | undefined;
  attributes?: Attributes;
  log: (correlationId: string) => Log;
}

/**
 * Runs a request or a timer under a span of its own. It is of the kind INTERNAL: the host reports the request itself.
 * Where nobody records spans there is a trace all the same, in logs and in what is sent on.
 */
export function runActivity<T>(options: ActivityOptions, run: (activity: Activity) => Promise<T>): Promise<T> {
  const { name, parent, attributes = {}, log } = options;
  const above = parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent);
  const started = tracer.startSpan(name, { kind: SpanKind.INTERNAL, attributes }, above);
  const span = isSpanContextValid(started.spanContext()) ? started : trace.wrapSpanContext(newSpanContext());
  const activity = { context: trace.setSpan(above, span), span, log: log(span.spanContext().traceId) };
  return current.run(activity, () => run(activity).finally(() => span.end()));
}

/** Runs a call to a service as a part of what runs now, or as a trace of its own where nothing does. */
export function runCall<T>(name: string, attributes: Attributes, run: (span: Span) => Promise<T>): Promise<T> {
  const outer = current.getStore();
  const above = outer?.context ?? ROOT_CONTEXT;
  const span = tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes }, above);
  const inner = outer === undefined ? undefined : { ...outer, span, context: trace.setSpan(above, span) };
  const made = async () => {
    try {
      return await run(span);
    } finally {
      span.end();
    }
  };
  return inner === undefined ? made() : current.run(inner, made);
}

/** The log of what runs now, which names its request. */
export function currentLog(): Log | undefined {
  return current.getStore()?.log;
}

/** What to send on as `traceparent`; undefined outside of any request. */
export function currentTraceparent(): string | undefined {
  const context = current.getStore()?.span.spanContext();
  return context !== undefined && isSpanContextValid(context) ? formatTraceparent(context) : undefined;
}

export function failSpan(span: Span, code: string): void {
  span.setStatus({ code: SpanStatusCode.ERROR, message: code });
}
