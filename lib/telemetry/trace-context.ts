import { randomBytes } from 'node:crypto';
import { isSpanContextValid, type SpanContext, TraceFlags } from '@opentelemetry/api';

/** `traceparent` as W3C Trace Context (Level 1, section 3.2) writes it; of a later version only its beginning is read. */
const form = /^(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** The caller's place in its trace; undefined where the header is missing or not as it should be, and then a new trace begins. */
export function parseTraceparent(header: string | null | undefined): SpanContext | undefined {
  const [whole, version, traceId = '', spanId = '', flags = '', rest] = form.exec(header?.trim() ?? '') ?? [];
  if (whole === undefined || (version === '00' && rest !== undefined)) return undefined;
  const context = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & TraceFlags.SAMPLED, isRemote: true };
  return isSpanContextValid(context) ? context : undefined;
}

export function formatTraceparent({ traceId, spanId, traceFlags }: SpanContext): string {
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
}

/** The beginning of a trace, for where nobody records spans: what is logged and sent on has an id all the same. */
export function newSpanContext(): SpanContext {
  const ids = randomBytes(24).toString('hex');
  return { traceId: ids.slice(0, 32), spanId: ids.slice(32), traceFlags: TraceFlags.NONE };
}

/**
 * Where a request stands, by the host's word and by its own header. The host's is nearer where it is of the same trace
 * as the caller's, or the caller named none; it is empty where the host does no tracing.
 */
export function parentOf(host: string | undefined, header: string | null): SpanContext | undefined {
  const [nearer, sent] = [parseTraceparent(host), parseTraceparent(header)];
  return sent === undefined || nearer?.traceId === sent.traceId ? (nearer ?? sent) : sent;
}
