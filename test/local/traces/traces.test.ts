import { context, SpanKind, trace } from '@opentelemetry/api';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Export, startExport } from '../../../lib/telemetry/export.ts';
import { type Collector, type ReceivedSpan, startCollector } from '../../../local/traces/collector.ts';
import { traceGatherer } from '../../../local/traces/show.ts';

let collector: Collector;
let exporting: Export;
let lines: string[];

beforeEach(async () => {
  lines = [];
  collector = await startCollector(traceGatherer((line) => lines.push(line)));
  exporting = await startExport(collector.endpoint);
});
afterEach(async () => {
  await exporting.stop();
  await collector.close();
  trace.disable();
});

it('a request is shown with its calls below it and in their order, and how they ended', async () => {
  const tracer = trace.getTracer('test');
  const at = (ms: number) => new Date(Date.parse('2026-01-02T08:30:00Z') + ms);
  const request = tracer.startSpan('onboardDevice', { startTime: at(0), attributes: { invocationId: 'i' } });
  const below = (parent: typeof request) => trace.setSpan(context.active(), parent);
  const hub = tracer.startSpan('IoT Hub: PUT', { startTime: at(20), kind: SpanKind.CLIENT }, below(request));
  const token = tracer.startSpan('Entra ID: get a token', { startTime: at(21) }, below(hub));
  const table = tracer.startSpan('Table storage: add', { startTime: at(2) }, below(request));
  table.setAttributes({ outcome: 'ok', attempts: 1, throttled: 0, waitMs: 0 }).end(at(9));
  token.setAttributes({ outcome: 'ok' }).end(at(25));
  hub.setAttributes({ outcome: 'upstream_throttled', attempts: 3, throttled: 3, waitMs: 7000 });
  hub.setStatus({ code: 2, message: 'upstream_throttled' }).end(at(7050));
  request.setAttribute('status', 503).end(at(7060));
  await exporting.stop();
  expect(lines).toEqual([
    `onboardDevice  7060 ms  status 503  (trace ${request.spanContext().traceId})`,
    '  +    2 ms  Table storage: add  7 ms  ok',
    '  +   20 ms  IoT Hub: PUT  7030 ms  upstream_throttled  attempts 3  throttled 3  waitMs 7000  ! upstream_throttled',
    '    +   21 ms  Entra ID: get a token  4 ms  ok',
  ]);
});

it('what arrives in pieces is shown when the request itself has ended', () => {
  const gather = traceGatherer((line) => lines.push(line));
  const span = (spanId: string, more: Partial<ReceivedSpan>): ReceivedSpan => {
    return { traceId: 't', spanId, name: spanId, startTimeUnixNano: '0', endTimeUnixNano: '1000000', ...more };
  };
  gather([span('call', { parentSpanId: 'request' })]);
  expect(lines).toEqual([]);
  gather([span('request', { attributes: [{ key: 'invocationId', value: { stringValue: 'i' } }] })]);
  expect(lines).toHaveLength(2);
});

it('the collector refuses what is no export of traces', async () => {
  const post = (path: string, type: string, body: string) =>
    fetch(`${collector.endpoint}${path}`, { method: 'POST', headers: { 'content-type': type }, body });
  expect((await post('/v1/traces', 'application/x-protobuf', '')).status).toBe(415);
  expect((await post('/v1/traces', 'application/json', '{')).status).toBe(400);
  expect((await post('/v2/traces', 'application/json', '{}')).status).toBe(404);
});
