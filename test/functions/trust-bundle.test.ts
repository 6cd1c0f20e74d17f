import { X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { goodRoot } from '../support/certificates.ts';
import { newId, startTestCloud, type TestCloud } from '../support/cloud.ts';

const path = '/api/v1/trust-bundle';
let api: TestCloud;

beforeAll(async () => {
  api = await startTestCloud({ apiEnv: { GATEPOST_UPSTREAM_TIMEOUT_MS: '3000', GATEPOST_TRUST_CHECK_SECONDS: '1' } });
});
afterEach(() => api.cloud.faults.clear());
afterAll(() => api.close());

const get = (query = '', headers: Record<string, string> = {}, method = 'GET') =>
  api.call(method, `${path}${query}`, { authorization: null, headers });

async function importRoot(): Promise<{ name: string; sha256: string; pem: string }> {
  const name = newId('root');
  const { certificate } = await goodRoot();
  const { json } = await api.call('POST', '/api/v1/roots', { json: { name, pem: certificate } });
  return { name, sha256: json.sha256, pem: certificate };
}

describe('the trust bundle', () => {
  it('is PEM for everybody, to be kept for the refresh hint', async () => {
    const { pem, sha256 } = await importRoot();
    const answer = await get();
    expect(answer.status).toBe(200);
    expect(answer.text).toContain(pem);
    expect(answer.text).toContain(`# SHA-256 ${sha256}`);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'content-type': 'application/x-pem-file',
      'cache-control': 'public, max-age=3600',
      'gatepost-sequence': expect.stringMatching(/^\d+$/),
      etag: expect.stringMatching(/^"\d+-pem-/),
      vary: 'Accept',
    });
    expect(answer.headers.get('warning')).toBeNull();
  });

  it('has a root in it as soon as it is imported, and not any more once it is deleted', async () => {
    const before = Number((await get()).headers.get('gatepost-sequence'));
    const { name, pem } = await importRoot();
    const during = await get();
    expect([Number(during.headers.get('gatepost-sequence')), during.text.includes(pem)]).toEqual([before + 1, true]);
    await api.call('DELETE', `/api/v1/roots/${name}`);
    const after = await get();
    expect([Number(after.headers.get('gatepost-sequence')), after.text.includes(pem)]).toEqual([before + 2, false]);
  });

  it('is JSON or PKCS#7 by Accept, and ?format wins', async () => {
    await importRoot();
    const json = await get('', { accept: 'application/json' });
    expect(json.json).toMatchObject({ sequence: expect.any(Number), refreshHintSeconds: 3600 });
    expect(json.json.roots.at(-1)).toEqual({
      sha256: expect.any(String),
      subject: expect.any(String),
      notAfter: expect.any(String),
      pem: expect.stringContaining('BEGIN CERTIFICATE'),
    });
    const pkcs7 = await get('', { accept: 'application/pkcs7-mime' });
    expect(pkcs7.headers.get('content-type')).toBe('application/pkcs7-mime; smime-type=certs-only');
    const wins = await get('?format=json', { accept: 'application/pkcs7-mime' });
    expect(wins.json.sequence).toBe(json.json.sequence);
    expect((await get('?format=pkcs12')).json).toMatchObject({
      code: 'invalid_request',
      errors: [{ pointer: 'query/format' }],
    });
    expect((await get('', { accept: 'image/png' })).json).toMatchObject({ status: 406, code: 'not_acceptable' });
  });

  it('is the same bytes as PKCS#7 that it is as PEM', async () => {
    await importRoot();
    const response = await fetch(`${api.cloud.api}${path}?format=pkcs7`);
    const der = Buffer.from(await response.arrayBuffer());
    const { json } = await get('?format=json');
    for (const root of json.roots) expect(der.includes(new X509Certificate(root.pem).raw)).toBe(true);
  });

  it('answers 304 to whoever has it, in each format of its own', async () => {
    await importRoot();
    for (const format of ['pem', 'json', 'pkcs7']) {
      const { headers } = await get(`?format=${format}`);
      const etag = headers.get('etag') ?? '';
      const again = await get(`?format=${format}`, { 'if-none-match': etag });
      expect([again.status, again.text, again.headers.get('etag')]).toEqual([304, '', etag]);
      expect(again.headers.get('cache-control')).toBe('public, max-age=3600');
      const other = format === 'pem' ? 'json' : 'pem';
      expect((await get(`?format=${other}`, { 'if-none-match': etag })).status).toBe(200);
    }
    await importRoot();
  });

  it('answers HEAD', async () => {
    const head = await get('', {}, 'HEAD');
    const full = await get();
    expect([head.status, head.text]).toEqual([200, '']);
    expect(head.headers.get('etag')).toBe(full.headers.get('etag'));
  });

  it('costs Key Vault nothing per request', async () => {
    await importRoot();
    await get();
    api.cloud.faults.resetCalls();
    await Promise.all(Array.from({ length: 100 }, () => get()));
    expect(api.cloud.faults.calls().vault).toEqual({});
  });
});

describe('a root by its fingerprint', () => {
  it('is found in any spelling, in every format', async () => {
    const { sha256, pem } = await importRoot();
    const spellings = [sha256, sha256.toUpperCase(), sha256.replace(/..(?=.)/g, '$&:')];
    for (const spelling of spellings) {
      const answer = await get(`/roots/${spelling}`);
      expect([answer.status, answer.text.includes(pem)]).toEqual([200, true]);
      expect(answer.text.match(/BEGIN CERTIFICATE/g)).toHaveLength(1);
    }
    expect((await get(`/roots/${sha256}?format=json`)).json.roots).toMatchObject([{ sha256 }]);
    const { headers } = await get(`/roots/${sha256}`);
    expect((await get(`/roots/${sha256}`, { 'if-none-match': headers.get('etag') ?? '' })).status).toBe(304);
  });

  it('is refused where it is none, and not found where nobody trusts it', async () => {
    expect((await get('/roots/abc')).json).toMatchObject({
      code: 'invalid_request',
      errors: [{ pointer: 'path/sha256' }],
    });
    expect((await get(`/roots/${'0'.repeat(64)}`)).json).toMatchObject({ status: 404, code: 'root_not_found' });
  });
});

describe('the trust bundle while services are down', () => {
  it('is served stale with a warning, and without one once they are back', async () => {
    const { pem } = await importRoot();
    api.cloud.faults.add({ target: 'storage', fault: { status: 503 } });
    api.cloud.faults.add({ target: 'vault', fault: { status: 503 } });
    const stale = await eventually(async () => {
      const answer = await get();
      return answer.headers.get('warning') === null ? undefined : answer;
    });
    expect([stale.status, stale.headers.get('warning')]).toEqual([200, '110 gatepost "Response is Stale"']);
    expect(stale.text).toContain(pem);
    api.cloud.faults.clear();
    await eventually(async () => ((await get()).headers.get('warning') === null ? true : undefined));
  });

  it.each(['vault', 'storage'] as const)(
    'is a 503 with Retry-After on an instance that never had it (%s)',
    async (target) => {
      await importRoot();
      api.cloud.faults.add({ target, fault: { status: 503 } });
      await api.cloud.restartApi();
      const answer = await get();
      expect(answer.json).toMatchObject({ status: 503, code: 'upstream_unavailable' });
      expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
      api.cloud.faults.clear();
      await eventually(async () => ((await get()).status === 200 ? true : undefined));
    },
  );
});

async function eventually<T>(attempt: () => Promise<T | undefined>): Promise<T> {
  for (let count = 0; count < 100; count += 1) {
    const found = await attempt();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('It did not happen');
}
