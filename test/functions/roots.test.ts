import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { badRoots, goodRoot, pfxOf, rsaRoot } from '../support/certificates.ts';
import { type CallOptions, newId, startTestCloud, type TestCloud } from '../support/cloud.ts';
import { sendRaw } from '../support/raw-http.ts';

let api: TestCloud;

beforeAll(async () => {
  api = await startTestCloud({ apiEnv: { GATEPOST_UPSTREAM_TIMEOUT_MS: '3000' } });
});
afterEach(() => api.cloud.faults.clear());
afterAll(() => api.close());

const post = (json: unknown, options: CallOptions = {}) => api.call('POST', '/api/v1/roots', { json, ...options });

async function sequence(): Promise<number> {
  return (await api.call('GET', '/api/v1/roots')).json.sequence;
}

describe('POST /roots', () => {
  it('imports a public root and says where it is', async () => {
    const name = newId('root');
    const { certificate } = await goodRoot();
    const answer = await post({ name, pem: certificate });
    expect(answer.status).toBe(201);
    expect(answer.headers.get('location')).toBe(`/api/v1/roots/${name}`);
    expect(answer.json).toEqual({
      name,
      kind: 'public',
      state: 'active',
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      subject: expect.stringMatching(/^CN=/),
      serialNumber: expect.stringMatching(/^[0-9a-f]+$/),
      notBefore: expect.any(String),
      notAfter: expect.any(String),
      createdAt: expect.any(String),
    });
    expect((await api.call('GET', `/api/v1/roots/${name}`)).json).toEqual(answer.json);
  });

  it('imports a CA with its key, as PEM and as PFX, and never shows the key', async () => {
    const [pem, pfx] = [await goodRoot(), await rsaRoot(2048, 'SHA-256')];
    const bodies = [
      { name: newId('ca'), pem: pem.certificate, key: pem.privateKey },
      { name: newId('ca'), pfx: pfxOf(pfx, 'secret-password'), password: 'secret-password' },
    ];
    for (const body of bodies) {
      const answer = await post(body);
      expect([answer.status, answer.json.kind]).toEqual([201, 'authority']);
      expect(answer.text).not.toContain('PRIVATE');
      expect((await post(body)).status).toBe(200);
    }
  });

  it('answers 200 and leaves the sequence where it is when it is repeated', async () => {
    const body = { name: newId('root'), pem: (await goodRoot()).certificate };
    await post(body);
    const before = await sequence();
    const again = await post(body);
    expect([again.status, await sequence()]).toEqual([200, before]);
  });

  it('raises the sequence by exactly one for each of twenty imports at once', async () => {
    const before = await sequence();
    const bodies = await Promise.all(
      Array.from({ length: 20 }, async () => ({ name: newId('root'), pem: (await goodRoot()).certificate })),
    );
    const answers = await Promise.all(bodies.map((body) => post(body)));
    expect(answers.map((answer) => answer.status)).toEqual(Array(20).fill(201));
    expect(await sequence()).toBe(before + 20);
  });

  it.each(Object.entries(badRoots))('refuses a certificate that is %s', async (code, make) => {
    const { certificate } = await make();
    const answer = await post({ name: newId('root'), pem: certificate });
    expect(answer.json).toMatchObject({ status: 400, code, errors: [{ pointer: '/pem', code }] });
    expect(answer.headers.get('content-type')).toMatch('application/problem+json');
  });

  it('refuses several certificates, a private key in pem, and noise', async () => {
    const [one, other] = [await goodRoot(), await goodRoot()];
    const bodies = {
      root_several_certificates: { pem: one.certificate + other.certificate },
      root_private_key_present: { pem: one.certificate + one.privateKey },
      root_not_pem: { pem: randomBytes(40_000).toString('base64') },
      root_key_mismatch: { pem: one.certificate, key: other.privateKey },
      root_not_pfx: { pfx: randomBytes(900).toString('base64') },
    };
    for (const [code, body] of Object.entries(bodies)) {
      expect((await post({ name: newId('root'), ...body })).json).toMatchObject({ status: 400, code });
    }
  });

  it('refuses a name or a certificate that is taken', async () => {
    const [one, other] = [await goodRoot(), await goodRoot()];
    const name = newId('root');
    await post({ name, pem: one.certificate });
    expect(await api.outcome('POST', '/api/v1/roots', { json: { name, pem: other.certificate } })).toBe(
      '409 root_name_taken',
    );
    expect(await api.outcome('POST', '/api/v1/roots', { json: { name: newId('root'), pem: one.certificate } })).toBe(
      '409 root_already_trusted',
    );
  });

  it('refuses unknown, missing and mixed fields, each with its pointer', async () => {
    const pointers = async (json: unknown) => {
      const { json: problem } = await post(json);
      expect(problem).toMatchObject({ status: 400, code: 'invalid_request' });
      return problem.errors.map((error: { pointer: string }) => error.pointer);
    };
    expect(await pointers({ name: 'a', pem: 'b', colour: 'red' })).toEqual(['/colour']);
    expect(await pointers({ name: 'a' })).toEqual(['/pem']);
    expect(await pointers({ name: 'a/b', pem: 'b' })).toEqual(['/name']);
    expect(await pointers({ name: 'a', pfx: '***' })).toEqual(['/pfx']);
    expect(await pointers({ name: 'a', pem: 'b', pfx: 'YQ==' })).toEqual(['/pfx']);
    expect(await pointers([])).toEqual(['']);
  });

  it('refuses a megabyte, a chunked body, another content type, and what is no JSON', async () => {
    const url = `${api.cloud.api}/api/v1/roots`;
    const headers = { authorization: `Bearer ${api.cloud.operatorToken}`, 'content-type': 'application/json' };
    const noise = JSON.stringify({ name: 'noise', pem: randomBytes(1_048_576).toString('base64') });
    const small = JSON.stringify({ name: 'a', pem: 'b' });
    const sized = (body: string) => ({ ...headers, 'content-length': String(Buffer.byteLength(body)) });
    const cases = [
      [413, 'payload_too_large', sized(noise), noise],
      [411, 'length_required', { ...headers, 'transfer-encoding': 'chunked' }, small],
      [415, 'unsupported_media_type', { ...sized(small), 'content-type': 'text/plain' }, small],
      [400, 'invalid_json', sized('{"name"'), '{"name"'],
    ] as const;
    for (const [status, code, sent, body] of cases) {
      const answer = await sendRaw(url, { method: 'POST', headers: sent, body });
      expect([answer.status, JSON.parse(answer.text).code]).toEqual([status, code]);
    }
  });

  it('has never logged a key or a password of what it was sent', async () => {
    const { certificate, privateKey } = await goodRoot();
    await post({ name: newId('ca'), pem: certificate, key: privateKey });
    await post({ name: newId('ca'), pem: certificate + privateKey, password: 'hunter-2' });
    const [, secret = ''] = privateKey.split('\n');
    const logs = JSON.stringify(api.cloud.host.logs?.() ?? []);
    expect(logs).not.toContain(secret);
    expect(logs).not.toContain('hunter-2');
  });
});

describe('GET and DELETE of roots', () => {
  it('list what there is, and take a root out of the bundle', async () => {
    const name = newId('root');
    await post({ name, pem: (await goodRoot()).certificate });
    const listed = await api.call('GET', '/api/v1/roots');
    expect(listed.json.value.map((root: { name: string }) => root.name)).toContain(name);
    const before = listed.json.sequence;
    const removed = await api.call('DELETE', `/api/v1/roots/${name}`);
    expect([removed.status, removed.text]).toEqual([204, '']);
    expect(await sequence()).toBe(before + 1);
    expect(await api.outcome('GET', `/api/v1/roots/${name}`)).toBe('404 root_not_found');
    expect(await api.outcome('DELETE', `/api/v1/roots/${name}`)).toBe('404 root_not_found');
  });

  it('answer 304 to a list that has not changed', async () => {
    const { headers } = await api.call('GET', '/api/v1/roots');
    const again = await api.call('GET', '/api/v1/roots', { headers: { 'if-none-match': headers.get('etag') ?? '' } });
    expect(again.status).toBe(304);
  });
});

describe('the access to roots', () => {
  it('needs Trust.Manage to change and Trust.Read to read', async () => {
    const reader = await api.tokenWith('Trust.Read');
    const others = await api.tokenWith('Fleet.Read', 'Fleet.Provision', 'Credential.Issue');
    const json = { name: newId('root'), pem: (await goodRoot()).certificate };
    expect(await api.outcome('GET', '/api/v1/roots', { authorization: reader })).toBe('200');
    expect(await api.outcome('POST', '/api/v1/roots', { json, authorization: reader })).toBe('403 role_missing');
    expect(await api.outcome('DELETE', '/api/v1/roots/a', { authorization: reader })).toBe('403 role_missing');
    expect(await api.outcome('GET', '/api/v1/roots', { authorization: others })).toBe('403 role_missing');
  });

  it('needs a token of this tenant, for this API, that is signed and has not expired', async () => {
    const { entra } = api.cloud;
    const now = Math.floor(Date.now() / 1000);
    const claims = { aud: entra.audience, roles: ['Trust.Manage'] };
    const [, body] = api.cloud.operatorToken.split('.');
    const none = Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url');
    const cases = {
      '401 token_missing': [null, 'Basic YTpi'],
      '401 token_expired': [await entra.issue({ ...claims, expiresInSeconds: -3600, notBefore: now - 7200 })],
      '401 token_invalid': [
        await entra.issue({ ...claims, aud: 'https://vault.azure.net' }),
        await entra.issue({ ...claims, issuer: 'https://evil.example/v2.0' }),
        `${none}.${body}.`,
        'nonsense',
      ],
    };
    for (const [outcome, tokens] of Object.entries(cases)) {
      for (const token of tokens) {
        const authorization = token === null || token.startsWith('Basic') ? token : `Bearer ${token}`;
        const answer = await api.call('GET', '/api/v1/roots', { authorization });
        expect(`${answer.status} ${answer.json.code}`).toBe(outcome);
        expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer realm="gatepost"/);
      }
    }
  });

  it('is not had by pretending to be Easy Auth', async () => {
    const principal = { auth_typ: 'aad', claims: [{ typ: 'roles', val: 'Trust.Manage' }], role_typ: 'roles' };
    const headers = { 'x-ms-client-principal': Buffer.from(JSON.stringify(principal)).toString('base64') };
    expect(await api.outcome('GET', '/api/v1/roots', { authorization: null, headers })).toBe('401 token_missing');
  });
});

describe('roots while a service is down', () => {
  it.each([
    ['vault', { status: 503 }, '503 upstream_unavailable'],
    ['vault', { status: 429, retryAfter: 30 }, '503 upstream_throttled'],
    ['vault', { hang: true }, '504 upstream_timeout'],
    ['storage', { status: 500 }, '503 upstream_unavailable'],
    ['storage', { hang: true }, '504 upstream_timeout'],
  ] as const)('(%s: %j) answer %s, and a repeat heals', async (target, fault, outcome) => {
    const json = { name: newId('root'), pem: (await goodRoot()).certificate };
    const before = await sequence();
    api.cloud.faults.add({ target, fault });
    const answer = await post(json);
    expect(`${answer.status} ${answer.json.code}`).toBe(outcome);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
    api.cloud.faults.clear();
    expect((await post(json)).status).toBe(201);
    expect(await sequence()).toBe(before + 1);
  });

  it.each([
    ['vault', { status: 500 }, {}],
    ['storage', { status: 500 }, {}],
    ['storage', { status: 412 }, { method: 'PUT' }],
  ] as const)('are imported all the same where it fails twice (%s: %j)', async (target, fault, match) => {
    const before = await sequence();
    api.cloud.faults.add({ target, fault, match, times: 2 });
    expect((await post({ name: newId('root'), pem: (await goodRoot()).certificate })).status).toBe(201);
    expect(await sequence()).toBe(before + 1);
  });

  it.each(['before', 'after'] as const)(
    'are whole after a repeat where storage cuts the connection %s the write',
    async (cut) => {
      const json = { name: newId('root'), pem: (await goodRoot()).certificate };
      const before = await sequence();
      api.cloud.faults.add({ target: 'storage', match: { method: 'PUT' }, fault: { cut }, times: 1 });
      expect((await post(json)).json).toMatchObject({ status: 503, code: 'upstream_unavailable' });
      expect((await post(json)).status).toBe(cut === 'before' ? 201 : 200);
      expect(await sequence()).toBe(before + 1);
    },
  );

  it('wait as long as Key Vault asks, within reason', async () => {
    api.cloud.faults.add({ target: 'vault', fault: { status: 429, retryAfter: 1 }, times: 2 });
    const { status } = await post({ name: newId('root'), pem: (await goodRoot()).certificate });
    expect(status).toBe(201);
  });
});

// Last, since an instance does not ask Entra ID again for two seconds after it failed.
describe('roots while Entra ID is down', () => {
  it('are not refused with a 401 where it is Entra ID that is down', async () => {
    await api.cloud.restartApi();
    api.cloud.faults.add({ target: 'entra', fault: { status: 503 } });
    const answer = await api.call('GET', '/api/v1/roots');
    expect(answer.json).toMatchObject({ status: 503, code: 'upstream_unavailable' });
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
  });
});
