import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Collector, type ReceivedSpan, startCollector } from '../../local/traces/collector.ts';
import { newId, startTestCloud, type TestCloud } from '../support/cloud.ts';

/*
 * The bundled app, in which nothing can be patched as it is loaded, with a real collector.
 */
const spans: ReceivedSpan[] = [];
let collector: Collector;
let test: TestCloud;

beforeAll(async () => {
  collector = await startCollector((received) => spans.push(...received));
  const apiEnv = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint, OTEL_BSP_SCHEDULE_DELAY: '50' };
  test = await startTestCloud({ apiEnv });
  // The first answer starts the export.
  for (let tries = 0; spans.length === 0 && tries < 100; tries += 1) {
    await test.call('GET', '/api/v1/health');
    await sleep(100);
  }
});
afterAll(async () => {
  await test?.close();
  await collector?.close();
});

const traceparent = (traceId: string) => ({ traceparent: `00-${traceId}-00f067aa0ba902b7-01` });
const attributeOf = ({ attributes = [] }: ReceivedSpan, name: string) =>
  Object.values(attributes.find(({ key }) => key === name)?.value ?? {})[0];

it("a call's spans reach the collector as one trace: the caller's, with every service that it needed", async () => {
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
  const gateway = await test.newGateway();
  const path = `/api/v1/devices/${newId()}/onboard`;
  test.cloud.faults.add({ target: 'hub', match: { method: 'PUT' }, fault: { status: 429, retryAfter: 1 }, times: 1 });
  const answer = await test.call('POST', path, { json: { gateway }, headers: traceparent(traceId) });
  expect(answer.status).toBe(201);
  expect(answer.headers.get('gatepost-correlation-id')).toBe(traceId);
  const mine = () => spans.filter((span) => span.traceId === traceId);
  await expect.poll(() => mine().some(({ name }) => name === 'onboardDevice'), { timeout: 10_000 }).toBe(true);
  const request = mine().find(({ name }) => name === 'onboardDevice');
  expect(request?.parentSpanId).toBe('00f067aa0ba902b7');
  const calls = mine().filter(({ parentSpanId }) => parentSpanId === request?.spanId);
  const put = calls.find(({ name }) => name === 'IoT Hub: PUT /devices/{id}');
  expect(put && [attributeOf(put, 'outcome'), attributeOf(put, 'throttled')].map(String)).toEqual(['ok', '1']);
  expect(calls.filter(({ name }) => name.startsWith('Table storage: add')).length).toBeGreaterThanOrEqual(4);
});

it('the log names the trace, and why a join failed, which the caller does not hear', async () => {
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const json = { token: Buffer.alloc(32, 9).toString('base64url') };
  const answer = await test.call('POST', '/api/v1/join', { json, authorization: null, headers: traceparent(traceId) });
  expect(answer.status).toBe(401);
  expect(answer.text).not.toMatch(/unknown/i);
  const line = () => test.cloud.host.logs().find((each) => each.includes('"refused"') && each.includes(traceId));
  await expect.poll(line).toContain('"reason":"unknown"');
  expect(line()).toContain(`"invocationId":"${answer.headers.get('x-ms-request-id')}"`);
  expect(line()).not.toContain(json.token);
});

it('metrics reach the log without any collector, of every kind that was counted', async () => {
  await test.cloud.restartApi();
  const gateway = await test.newGateway();
  const device = `/api/v1/devices/${newId()}`;
  await test.call('POST', `${device}/onboard`, { json: { gateway } });
  const { json } = await test.call('POST', `${device}/join-token`, { json: {} });
  await test.call('POST', '/api/v1/join', { json: { token: json.token }, authorization: null });
  await test.call('POST', '/api/v1/join', { json: { token: json.token }, authorization: null });
  await test.call('GET', '/api/v1/trust-bundle');
  // What is left is told when the instance ends.
  await test.cloud.restartApi();
  const told = () =>
    test.cloud.host
      .logs()
      .map((line) => /\{"event":"metric".*\}/.exec(line)?.[0])
      .filter((line) => line !== undefined)
      .map((line) => JSON.parse(line));
  const expected = [
    { metric: 'gatepost.onboardings', created: 'true' },
    { metric: 'gatepost.join_tokens.issued' },
    { metric: 'gatepost.join_tokens.redeemed' },
    { metric: 'gatepost.join.failures', reason: 'used' },
    { metric: 'gatepost.credentials.issued', kind: 'key', route: 'onboardDevice' },
    { metric: 'gatepost.bundle.fetches', sequence: '0', format: 'pem' },
    { metric: 'gatepost.upstream.duration', upstream: 'IoT Hub', operation: 'PUT /devices/{id}', outcome: 'ok' },
  ];
  for (const line of expected) {
    await expect.poll(() => told(), { timeout: 10_000 }).toContainEqual(expect.objectContaining(line));
  }
});
