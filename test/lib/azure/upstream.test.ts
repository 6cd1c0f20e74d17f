import { describe, expect, it } from 'vitest';
import { UpstreamStatusError, upstream } from '../../../lib/azure/upstream.ts';

interface Failure {
  status?: number;
  code?: string;
  retryAfter?: string;
  name?: string;
}

function failing(failure: Failure): Error {
  const error = new Error('Authorization: SharedAccessSignature sr=hub&sig=c2VjcmV0');
  return Object.assign(error, {
    name: failure.name ?? 'RestError',
    ...(failure.status === undefined ? {} : { statusCode: failure.status }),
    ...(failure.code === undefined ? {} : { code: failure.code }),
    request: { headers: { authorization: 'Bearer c2VjcmV0' } },
    response: { headers: { get: (name: string) => (name === 'retry-after' ? failure.retryAfter : undefined) } },
  });
}

/** Plays the failures one after the other, then succeeds. */
async function play(failures: Failure[], repeatable = true) {
  const waits: number[] = [];
  let tries = 0;
  const call = upstream({
    service: 'Key Vault',
    timeoutMs: 1000,
    wait: async (ms) => void waits.push(ms),
    random: () => 0.5,
  });
  const attempt = async () => {
    tries += 1;
    const failure = failures[tries - 1];
    if (failure !== undefined) throw failing(failure);
    return 'done';
  };
  const outcome = await call({ operation: 'read a secret', repeatable, attempt }).catch((error: unknown) => error);
  return { outcome, waits, tries };
}

describe('a call to an Azure service', () => {
  it('is repeated after the time that a 429 names', async () => {
    expect(
      await play([
        { status: 429, retryAfter: '2' },
        { status: 429, retryAfter: '3' },
      ]),
    ).toEqual({
      outcome: 'done',
      waits: [2000, 3000],
      tries: 3,
    });
  });

  it('is given up where the 429 names a time beyond the budget, and says when to come back', async () => {
    const { outcome, waits } = await play([{ status: 429, retryAfter: '30' }]);
    expect(outcome).toMatchObject({ code: 'upstream_throttled', status: 503, retryAfterSeconds: 30 });
    expect(waits).toEqual([]);
  });

  it('waits for all retries together no longer than ten seconds', async () => {
    const { outcome, waits } = await play(Array(9).fill({ status: 429, retryAfter: '4' }));
    expect(outcome).toMatchObject({ code: 'upstream_throttled', retryAfterSeconds: 4 });
    expect(waits).toEqual([4000, 4000]);
  });

  it('is repeated twice after 5xx, each time later', async () => {
    expect(await play([{ status: 500 }, { status: 503 }])).toEqual({ outcome: 'done', waits: [200, 400], tries: 3 });
    const { outcome, tries } = await play([{ status: 500 }, { status: 500 }, { status: 500 }]);
    expect(outcome).toMatchObject({ code: 'upstream_unavailable', status: 503 });
    expect(tries).toBe(3);
  });

  it('is repeated over a lost connection only where it may be done twice', async () => {
    expect(await play([{ code: 'ECONNRESET' }])).toMatchObject({ outcome: 'done', tries: 2 });
    expect(await play([{ code: 'REQUEST_SEND_ERROR' }])).toMatchObject({ outcome: 'done', tries: 2 });
    const once = await play([{ code: 'ECONNRESET' }], false);
    expect(once).toMatchObject({ outcome: { code: 'upstream_unavailable' }, tries: 1 });
  });

  it('is repeated where the connection was refused, since nothing was sent', async () => {
    expect(await play([{ code: 'ECONNREFUSED' }], false)).toMatchObject({ outcome: 'done', tries: 2 });
  });

  it('answers what the service refused with its status and code, for the adapter to understand', async () => {
    const { outcome, tries } = await play([{ status: 409, code: 'Conflict' }]);
    expect(outcome).toBeInstanceOf(UpstreamStatusError);
    expect(outcome).toMatchObject({
      upstreamStatus: 409,
      upstreamCode: 'Conflict',
      code: 'upstream_refused',
      status: 502,
    });
    expect(tries).toBe(1);
  });

  it('names the missing role assignment as the likely cause of a 403', async () => {
    const { outcome } = await play([{ status: 403, code: 'Forbidden' }]);
    expect(outcome).toMatchObject({ code: 'upstream_refused', detail: expect.stringContaining('role assignments') });
  });

  it('ends in time also where the SDK listens to no signal', async () => {
    const call = upstream({ service: 'Key Vault', timeoutMs: 50 });
    let tries = 0;
    const hanging = call({
      operation: 'read a secret',
      repeatable: true,
      attempt: () => {
        tries += 1;
        return new Promise(() => {});
      },
    });
    await expect(hanging).rejects.toMatchObject({ code: 'upstream_timeout', status: 504 });
    expect(tries).toBe(1);
  });

  it('keeps nothing of an error that could hold a credential', async () => {
    for (const failure of [{ status: 500 }, { status: 404 }, { code: 'ECONNRESET' }, { name: 'Odd' }]) {
      const { outcome } = await play(Array(5).fill(failure));
      const { inspect } = await import('node:util');
      expect(inspect(outcome, { depth: 9, showHidden: true })).not.toContain('c2VjcmV0');
    }
  });
});
