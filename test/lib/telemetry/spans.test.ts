import { metrics, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { upstream } from '../../../lib/azure/upstream.ts';
import { type Authenticator, defineRoute, type Route } from '../../../lib/http/route.ts';
import { serve } from '../../../lib/http/serve.ts';
import { currentTraceparent } from '../../../lib/telemetry/activity.ts';
import { metricNames } from '../../../lib/telemetry/metrics.ts';
import { invocation, requestOf } from '../../support/requests.ts';

const exporter = new InMemorySpanExporter();
const tracing = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
const meters = new InMemoryMetricExporter(AggregationTemporality.DELTA);
const reader = new PeriodicExportingMetricReader({ exporter: meters, exportIntervalMillis: 3_600_000 });
const metering = new MeterProvider({ readers: [reader] });
const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
const everybody: Authenticator = async () => ({ plane: 'public' });

beforeAll(() => {
  trace.setGlobalTracerProvider(tracing);
  metrics.setGlobalMeterProvider(metering);
});
beforeEach(async () => {
  exporter.reset();
  await metering.forceFlush();
  meters.reset();
});
afterAll(async () => {
  await metering.shutdown();
  trace.disable();
  metrics.disable();
});

class Fault extends Error {
  readonly statusCode: number;
  constructor(statusCode: number) {
    super('SharedAccessKey=abc');
    this.statusCode = statusCode;
  }
}

/** A service that answers these statuses one after the other, and what was sent to it. */
function service(...statuses: number[]) {
  const sent: (string | undefined)[] = [];
  const call = upstream({ service: 'Key Vault', timeoutMs: 1000, wait: async () => {}, random: () => 0.5 });
  const ask = () =>
    call({
      operation: 'read a secret',
      repeatable: true,
      attempt: async () => {
        sent.push(currentTraceparent());
        const status = statuses.shift() ?? 200;
        if (status >= 400) throw new Fault(status);
        return status;
      },
    });
  return { ask, sent };
}

function route(act: () => Promise<unknown>): Route {
  return defineRoute({
    name: 'getThing',
    methods: ['GET'],
    path: 'api/v1/thing',
    tag: 'Test',
    summary: 'A route',
    access: { plane: 'public' },
    answers: {},
    problems: [],
    act: async () => ({ status: 200, json: await act() }),
  });
}

async function get(act: () => Promise<unknown>, headers: Record<string, string> = { traceparent }) {
  const context = invocation();
  const answer = await serve(route(act), everybody)(requestOf('GET', '/api/v1/thing', { headers }), context);
  const lines = context.lines.map(({ line }) => JSON.parse(line));
  return { answer, lines, spans: exporter.getFinishedSpans() };
}

describe('a request', () => {
  it("goes on with the caller's trace, and answers its id", async () => {
    const { answer, spans } = await get(async () => 1);
    expect(answer.headers['gatepost-correlation-id']).toBe(traceId);
    const [span] = spans;
    expect(span?.spanContext().traceId).toBe(traceId);
    expect(span?.parentSpanContext?.spanId).toBe('00f067aa0ba902b7');
    expect([span?.name, span?.kind, span?.attributes.status]).toEqual(['getThing', SpanKind.INTERNAL, 200]);
  });

  it('begins one where the caller has none, or what it sent is none', async () => {
    for (const headers of [{}, { traceparent: 'Bearer abc' }]) {
      const { answer, spans } = await get(async () => 1, headers as Record<string, string>);
      expect(answer.headers['gatepost-correlation-id']).toBe(spans.at(-1)?.spanContext().traceId);
      expect(spans.at(-1)?.parentSpanContext).toBeUndefined();
    }
  });

  it('names itself and its trace on every line that it logs', async () => {
    const { lines } = await get(() => Promise.reject(new Error('SharedAccessKey=abc')));
    const own = { invocationId: invocation().invocationId, correlationId: traceId, route: 'getThing' };
    expect(lines[0]).toMatchObject({ event: 'unexpected_error', ...own });
  });

  it('that nobody samples is not recorded, and goes on all the same', async () => {
    const { ask, sent } = service();
    const { answer, spans } = await get(ask, { traceparent: traceparent.replace(/1$/, '0') });
    expect(spans).toEqual([]);
    expect(answer.headers['gatepost-correlation-id']).toBe(traceId);
    expect(sent[0]).toContain(traceId);
  });
});

describe('a call to a service', () => {
  it('is a span below the request, and what is sent names that span', async () => {
    const { ask, sent } = service();
    const [call, request] = (await get(ask)).spans;
    expect(call?.parentSpanContext?.spanId).toBe(request?.spanContext().spanId);
    expect([call?.name, call?.kind]).toEqual(['Key Vault: read a secret', SpanKind.CLIENT]);
    expect(call?.attributes).toMatchObject({ outcome: 'ok', attempts: 1, throttled: 0 });
    expect(sent).toEqual([`00-${traceId}-${call?.spanContext().spanId}-01`]);
  });

  it('tells how often it was throttled and repeated, in its span, its metrics and one line', async () => {
    const { lines, spans } = await get(service(429, 503, 200).ask);
    expect(spans[0]?.attributes).toMatchObject({ outcome: 'ok', attempts: 3, throttled: 1 });
    expect(spans[0]?.events.map(({ attributes }) => attributes?.after)).toEqual([429, 503]);
    const told = { upstream: 'Key Vault', operation: 'read a secret', outcome: 'ok', attempt: 3, throttled: 1 };
    expect(lines.filter(({ event }) => event === 'upstream_call')).toMatchObject([told]);
    await metering.forceFlush();
    const points = meters
      .getMetrics()
      .flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics))
      .map(({ descriptor, dataPoints }) => [descriptor.name, dataPoints[0]?.value, dataPoints[0]?.attributes] as const);
    const labels = { upstream: 'Key Vault', operation: 'read a secret' };
    expect(points).toContainEqual(['gatepost.upstream.throttled', 1, labels]);
    expect(points).toContainEqual(['gatepost.upstream.retries', 2, labels]);
    expect(points).toContainEqual([
      'gatepost.upstream.duration',
      expect.objectContaining({ count: 1 }),
      { ...labels, outcome: 'ok' },
    ]);
  });

  it('that fails says so by the code of the problem, and holds nothing of what the SDK said', async () => {
    const { spans, lines } = await get(service(503, 503, 503).ask);
    expect(spans[0]?.status).toEqual({ code: SpanStatusCode.ERROR, message: 'upstream_unavailable' });
    expect(spans[1]?.status.code).toBe(SpanStatusCode.ERROR);
    const kept = JSON.stringify([lines, spans.map(({ attributes, events, status }) => [attributes, events, status])]);
    expect(kept).not.toContain('abc');
  });

  it('that says no is an answer, not a failure', async () => {
    const { spans, lines } = await get(service(404).ask);
    expect(spans[0]?.status.code).toBe(SpanStatusCode.UNSET);
    expect(spans[0]?.attributes.outcome).toBe('answered_404');
    expect(lines.filter(({ event }) => event === 'upstream_call')).toEqual([]);
  });

  it('outside of any request is a trace of its own', async () => {
    const { ask, sent } = service();
    await ask();
    expect(exporter.getFinishedSpans()[0]?.parentSpanContext).toBeUndefined();
    expect(sent).toEqual([undefined]);
  });
});

it('no metric has a dimension whose values are without number', () => {
  const dimensions = Object.values(metricNames).flatMap(({ dimensions }) => [...dimensions]);
  for (const name of ['deviceId', 'caller', 'gatewayId', 'correlationId', 'root'])
    expect(dimensions).not.toContain(name);
});
