import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';

let api: TestCloud;

beforeAll(async () => {
  api = await startTestCloud({ apiEnv: { GATEPOST_UPSTREAM_TIMEOUT_MS: '3000' } });
});
afterEach(() => api.cloud.faults.clear());
afterAll(() => api.close());

describe('health', () => {
  it('is answered to everybody, GET and HEAD, while everything else is down', async () => {
    for (const target of ['hub', 'vault', 'storage', 'entra']) {
      api.cloud.faults.add({ target, fault: { cut: 'before' } });
    }
    const answer = await api.call('GET', '/api/v1/health', { authorization: null });
    expect([answer.status, answer.json]).toEqual([200, { status: 'ok' }]);
    const head = await api.call('HEAD', '/api/v1/health', { authorization: null });
    expect([head.status, head.text]).toEqual([200, '']);
  });
});

describe('readiness', () => {
  it('is told to operators who may read anything', async () => {
    expect(await api.outcome('GET', '/api/v1/ready', { authorization: null })).toBe('401 token_missing');
    expect(await api.outcome('GET', '/api/v1/ready', { authorization: await api.tokenWith() })).toBe(
      '403 role_missing',
    );
    const answer = await api.call('GET', '/api/v1/ready', { authorization: await api.tokenWith('Fleet.Read') });
    expect([answer.status, answer.json]).toEqual([
      200,
      { status: 'ready', checks: { hub: 'ok', vault: 'ok', storage: 'ok' }, checkedAt: expect.any(String) },
    ]);
  });

  it.each([
    ['hub', { hang: true }],
    ['hub', { status: 503 }],
    ['vault', { status: 503 }],
    ['storage', { cut: 'before' }],
  ] as const)('names the service that is down (%s: %j)', async (target, fault) => {
    await api.cloud.restartApi();
    api.cloud.faults.add({ target, fault });
    const answer = await api.call('GET', '/api/v1/ready');
    expect(answer.status).toBe(503);
    const checks = { hub: 'ok', vault: 'ok', storage: 'ok', [target]: 'failed' };
    expect(answer.json).toMatchObject({ status: 'notReady', checks });
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
  });

  it('is kept for some seconds, so that probers cost the services little', async () => {
    await api.cloud.restartApi();
    await api.call('GET', '/api/v1/ready');
    api.cloud.faults.resetCalls();
    await Promise.all(Array.from({ length: 10 }, () => api.call('GET', '/api/v1/ready')));
    const { hub, vault, storage } = api.cloud.faults.calls();
    expect([hub, vault, storage]).toEqual([{}, {}, {}]);
  });
});
