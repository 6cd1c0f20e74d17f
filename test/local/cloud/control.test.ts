import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Control, startControl } from '../../../local/control.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';

const faults = new FaultSwitch();
const messages: object[] = [];
let control: Control;

beforeAll(async () => {
  control = await startControl({ faults, telemetry: () => messages });
});
afterEach(() => {
  faults.clear();
  faults.resetCalls();
  messages.length = 0;
});
afterAll(() => control.close());

function arm(rule: unknown): Promise<Response> {
  const body = typeof rule === 'string' ? rule : JSON.stringify(rule);
  return fetch(control.faultsUrl, { method: 'POST', body });
}

describe('the control server', () => {
  test('arms a fault, lists how often it struck, and clears it', async () => {
    const rule = {
      target: 'hub',
      match: { method: 'PUT', path: '^/devices/' },
      fault: { status: 429, retryAfter: 1 },
      times: 2,
    };
    const armed = await arm(rule);
    expect(armed.status).toBe(201);
    expect(await armed.json()).toEqual({ ...rule, struck: 0 });
    faults.strike('hub', 'PUT', '/devices/press-01?api-version=1');
    expect(await (await fetch(control.faultsUrl)).json()).toEqual([{ ...rule, struck: 1 }]);
    expect((await fetch(control.faultsUrl, { method: 'DELETE' })).status).toBe(204);
    expect(await (await fetch(control.faultsUrl)).json()).toEqual([]);
  });

  test.each([
    ['no JSON', '{'],
    ['no object', '[]'],
    ['an unknown target', { target: 'moon', fault: { hang: true } }],
    ['no fault', { target: 'hub' }],
    ['two faults', { target: 'hub', fault: { hang: true, delayMs: 1 } }],
    ['a status that is no error', { target: 'hub', fault: { status: 200 } }],
    ['an unknown field', { target: 'hub', fault: { hang: true }, time: 1 }],
    ['a path that is no regular expression', { target: 'hub', match: { path: '(' }, fault: { hang: true } }],
    ['a count of nothing', { target: 'hub', fault: { hang: true }, times: 0 }],
    ['more than 64 KiB', `{"target": "${'x'.repeat(70_000)}"}`],
  ])('refuses %s and says why', async (_what, rule) => {
    const refused = await arm(rule);
    expect(refused.status).toBe(400);
    expect(((await refused.json()) as { error: string }).error.length).toBeGreaterThan(10);
    expect(faults.list()).toEqual([]);
  });

  test('counts calls by target, method and template, and resets them', async () => {
    faults.count('hub', 'PUT', '/devices/{id}');
    faults.count('hub', 'PUT', '/devices/{id}');
    const calls = `${control.faultsUrl}/calls`;
    const none = { vault: {}, entra: {}, storage: {}, gateway: {} };
    expect(await (await fetch(calls)).json()).toEqual({ hub: { 'PUT /devices/{id}': 2 }, ...none });
    expect((await fetch(calls, { method: 'DELETE' })).status).toBe(204);
    expect(await (await fetch(calls)).json()).toEqual({ hub: {}, ...none });
  });

  test('answers telemetry as one JSON object a line', async () => {
    messages.push({ deviceId: 'press-01', body: 'eyJhIjoxfQ==' }, { deviceId: 'press-02', body: '' });
    const answer = await fetch(control.telemetryUrl);
    expect(answer.headers.get('content-type')).toBe('application/x-ndjson');
    const lines = (await answer.text()).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toEqual(messages);
  });

  test('answers 404 with what it knows', async () => {
    const lost = await fetch(`${control.faultsUrl}/lost`);
    expect(lost.status).toBe(404);
    expect(await lost.text()).toContain('/faults/calls');
  });
});
