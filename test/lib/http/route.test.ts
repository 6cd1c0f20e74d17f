import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { GatepostError } from '../../../lib/errors.ts';
import { type Answer, type Authenticator, defineRoute, type Route } from '../../../lib/http/route.ts';
import { serve } from '../../../lib/http/serve.ts';
import { invocation, problemOf, type RequestParts, requestOf } from '../../support/requests.ts';

const everybody: Authenticator = async () => ({ plane: 'public' });
const common = { tag: 'Test', summary: 'A route', access: { plane: 'public' }, answers: {}, problems: [] } as const;

function putRoute(act: Route['act'], maxBodyBytes?: number): Route {
  return defineRoute({
    ...common,
    name: 'putThing',
    methods: ['PUT'],
    path: 'api/v1/things/{id}',
    params: z.strictObject({ id: z.string().regex(/^[a-z/]+$/, 'small letters') }),
    query: z.strictObject({ dry: z.enum(['true', 'false']).optional() }),
    body: z.strictObject({ size: z.int(), tags: z.array(z.string()).optional() }),
    ...(maxBodyBytes === undefined ? {} : { maxBodyBytes }),
    act,
  });
}

const echo: Route['act'] = async ({ params, query, body }) => ({ status: 200, json: { params, query, body } });

async function put(parts: RequestParts, path = '/api/v1/things/a', act = echo, maxBodyBytes?: number) {
  const context = invocation();
  const answer = await serve(putRoute(act, maxBodyBytes), everybody)(
    requestOf('PUT', path, { params: { id: 'a' }, ...parts }),
    context,
  );
  return { answer, context };
}

async function refusal(parts: RequestParts, path?: string, maxBodyBytes?: number) {
  const { answer } = await put(parts, path, echo, maxBodyBytes);
  const problem = problemOf(answer);
  return { status: answer.status, code: problem.code, pointers: problem.errors?.map((each) => each.pointer) };
}

describe('a served route', () => {
  it('hands the parsed path, query and body to the action and answers what it answers', async () => {
    const { answer } = await put({ json: { size: 3 } }, '/api/v1/things/a?dry=true');
    expect(answer.status).toBe(200);
    expect(JSON.parse(String(answer.body))).toEqual({ params: { id: 'a' }, query: { dry: 'true' }, body: { size: 3 } });
    expect(answer.headers).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-ms-request-id': '0d9a4f6e-1111-4222-8333-444455556666',
    });
  });

  it('decodes %2F in a path value, which the host leaves, and no other escape a second time', async () => {
    const { answer } = await put({ json: { size: 1 }, params: { id: 'a%2Fb%2fc' } });
    expect(JSON.parse(String(answer.body)).params).toEqual({ id: 'a/b/c' });
    expect(await refusal({ json: { size: 1 }, params: { id: 'a%41' } })).toMatchObject({ pointers: ['path/id'] });
  });

  it('refuses unknown fields of the body, each with its pointer', async () => {
    expect(await refusal({ json: { size: 1, colour: 'red', 'a/b~c': 1 } })).toEqual({
      status: 400,
      code: 'invalid_request',
      pointers: ['/colour', '/a~1b~0c'],
    });
  });

  it('lists every wrong field of the body', async () => {
    expect(await refusal({ json: { size: 'big', tags: ['a', 2] } })).toMatchObject({ pointers: ['/size', '/tags/1'] });
  });

  it('refuses unknown and repeated query parameters', async () => {
    expect(await refusal({ json: { size: 1 } }, '/api/v1/things/a?drry=true')).toMatchObject({
      pointers: ['query/drry'],
    });
    expect(await refusal({ json: { size: 1 } }, '/api/v1/things/a?dry=true&dry=false')).toMatchObject({
      status: 400,
      pointers: ['query/dry'],
    });
  });

  it('does not mind the function key that a front door may add to the query', async () => {
    const { answer } = await put({ json: { size: 1 } }, '/api/v1/things/a?code=abc');
    expect(answer.status).toBe(200);
    expect(String(answer.body)).not.toContain('abc');
  });

  it('refuses a path value outside of its schema', async () => {
    expect(await refusal({ json: { size: 1 }, params: { id: 'A!' } })).toMatchObject({
      status: 400,
      pointers: ['path/id'],
    });
  });

  it('refuses a body that is not JSON without quoting it', async () => {
    const { answer, context } = await put({
      body: '{"size": SharedAccessKey=c2VjcmV0',
      headers: { 'content-type': 'application/json' },
    });
    expect(problemOf(answer)).toMatchObject({ status: 400, code: 'invalid_json' });
    expect(JSON.stringify([answer, context.lines])).not.toContain('c2VjcmV0');
  });

  it('refuses a body that is not UTF-8', async () => {
    const body = new Uint8Array([0x22, 0xff, 0xfe, 0x22]);
    expect(await refusal({ body, headers: { 'content-type': 'application/json' } })).toMatchObject({
      status: 400,
      code: 'invalid_json',
    });
  });

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'application/json; charset=utf-16', ''])(
    'refuses the content type %j',
    async (type) => {
      const headers = type === '' ? {} : { 'content-type': type };
      expect(await refusal({ body: '{"size":1}', headers })).toMatchObject({
        status: 415,
        code: 'unsupported_media_type',
      });
    },
  );

  it.each(['application/json', 'Application/JSON; charset="UTF-8"', 'application/merge-patch+json'])(
    'takes the content type %j',
    async (type) => {
      const { answer } = await put({ body: '{"size":1}', headers: { 'content-type': type } });
      expect(answer.status).toBe(200);
    },
  );

  it('asks for a Content-Length where a chunked body arrived empty', async () => {
    const headers = { 'content-type': 'application/json', 'transfer-encoding': 'chunked' };
    expect(await refusal({ headers })).toMatchObject({ status: 411, code: 'length_required' });
    expect(await refusal({ headers: { 'content-type': 'application/json' } })).toMatchObject({ status: 411 });
  });

  it('refuses a body that is larger than the route accepts, declared or not', async () => {
    const json = { size: 1, tags: ['x'.repeat(100)] };
    expect(await refusal({ json }, undefined, 64)).toMatchObject({ status: 413, code: 'payload_too_large' });
    expect(await refusal({ json, headers: { 'content-length': '10' } }, undefined, 64)).toMatchObject({ status: 413 });
  });

  it('tells nobody what an unforeseen error said', async () => {
    const { answer, context } = await put({ json: { size: 1 } }, undefined, async () => {
      throw Object.assign(new RangeError('SharedAccessKey=c2VjcmV0'), { code: 'E_TEST' });
    });
    expect(problemOf(answer)).toMatchObject({ status: 500, code: 'internal', instance: context.invocationId });
    expect(JSON.stringify([answer, context.lines])).not.toContain('c2VjcmV0');
    const [line] = context.lines.filter((each) => each.level === 'error');
    expect(JSON.parse(line?.line ?? '')).toMatchObject({
      errorName: 'RangeError',
      errorCode: 'E_TEST',
      route: 'putThing',
    });
  });

  it('sends Retry-After with a 503 also where the cause named no time', async () => {
    const failing = (options?: { retryAfterSeconds: number }) => async () => {
      throw new GatepostError('upstream_unavailable', 'Later.', options);
    };
    const { answer: bare } = await put({ json: { size: 1 } }, undefined, failing());
    const { answer: timed } = await put({ json: { size: 1 } }, undefined, failing({ retryAfterSeconds: 17.2 }));
    expect(bare.headers['retry-after']).toBe('5');
    expect(timed.headers['retry-after']).toBe('18');
  });

  it('never lets a secret be cached', async () => {
    const { answer } = await put({ json: { size: 1 } }, undefined, async () => ({
      status: 200,
      json: {},
      headers: { 'cache-control': 'public' },
      noStore: true,
    }));
    expect(answer.headers['cache-control']).toBe('no-store');
  });

  it('echoes a plain client request id and drops one that could be more', async () => {
    const { answer } = await put({ json: { size: 1 }, headers: { 'x-ms-client-request-id': 'run-7.3' } });
    const { answer: bad } = await put({ json: { size: 1 }, headers: { 'x-ms-client-request-id': 'a b{}' } });
    expect(answer.headers['x-ms-client-request-id']).toBe('run-7.3');
    expect(bad.headers['x-ms-client-request-id']).toBeUndefined();
  });

  it('authenticates before it looks at anything else', async () => {
    const refuse: Authenticator = async () => {
      throw new GatepostError('token_missing', 'A token, please.');
    };
    const answer = await serve(putRoute(echo), refuse)(requestOf('PUT', '/api/v1/things/a?x=1'), invocation());
    expect(problemOf(answer)).toMatchObject({ status: 401, code: 'token_missing' });
    expect(answer.headers['www-authenticate']).toMatch(/^Bearer /);
  });
});

describe('a route that reads', () => {
  const get = (answer: Answer) =>
    serve(
      defineRoute({
        ...common,
        name: 'getThing',
        methods: ['GET', 'HEAD'],
        path: 'api/v1/thing',
        act: async () => answer,
      }),
      everybody,
    );
  const found: Answer = {
    status: 200,
    body: 'abc',
    headers: { etag: '"1"', 'content-type': 'text/plain', 'cache-control': 'public, max-age=5' },
  };

  it('answers HEAD as GET, without the body', async () => {
    const answer = await get(found)(requestOf('HEAD', '/api/v1/thing'), invocation());
    expect(answer).toMatchObject({ status: 200, headers: { etag: '"1"', 'content-type': 'text/plain' } });
    expect(answer.body).toBeUndefined();
  });

  it.each(['"1"', 'W/"1"', '"0", "1"', '*'])('answers 304 to If-None-Match: %s', async (tag) => {
    const request = requestOf('GET', '/api/v1/thing', { headers: { 'if-none-match': tag } });
    const answer = await get(found)(request, invocation());
    expect(answer).toMatchObject({ status: 304, headers: { etag: '"1"', 'cache-control': 'public, max-age=5' } });
    expect(answer.body).toBeUndefined();
    expect(answer.headers['content-type']).toBeUndefined();
  });

  it('answers in full where the tag is another', async () => {
    const request = requestOf('GET', '/api/v1/thing', { headers: { 'if-none-match': '"2"' } });
    expect((await get(found)(request, invocation())).status).toBe(200);
  });
});

describe('a route whose body may be left out', () => {
  const post = (parts: RequestParts) =>
    serve(
      defineRoute({
        ...common,
        name: 'postThing',
        methods: ['POST'],
        path: 'api/v1/thing',
        body: z.strictObject({ size: z.int() }).optional(),
        act: async ({ body }) => ({ status: 200, json: { body: body ?? null } }),
      }),
      everybody,
    )(requestOf('POST', '/api/v1/thing', parts), invocation());

  it('acts without one', async () => {
    expect(await post({})).toMatchObject({ status: 200, body: '{"body":null}' });
    expect(await post({ headers: { 'content-length': '0' } })).toMatchObject({ status: 200 });
  });

  it('still reads one, and still refuses a chunked one', async () => {
    expect(await post({ json: { size: 2 } })).toMatchObject({ body: '{"body":{"size":2}}' });
    expect(await post({ headers: { 'transfer-encoding': 'chunked' } })).toMatchObject({ status: 411 });
  });
});

describe('the declaration of a route', () => {
  const act = async () => ({ status: 200 });
  const good = { ...common, name: 'getThing', methods: ['GET'], path: 'api/v1/thing', act } as const;

  it('does not start without an access policy', () => {
    expect(() => defineRoute({ ...good, access: undefined as never })).toThrow(/no access policy/);
    expect(() => defineRoute({ ...good, access: { plane: 'operator', roles: [] as never } })).toThrow(/roles/);
  });

  it('refuses schemas that would let unknown fields pass', () => {
    expect(() => defineRoute({ ...good, query: z.object({}) })).toThrow(/strictObject/);
    const union = z.union([z.strictObject({ a: z.string() }), z.object({ b: z.string() })]);
    expect(() => defineRoute({ ...good, methods: ['POST'], body: union })).toThrow(/strictObject/);
  });

  it('refuses a path whose variables are not described, or that the host keeps for itself', () => {
    expect(() => defineRoute({ ...good, path: 'api/v1/things/{id}' })).toThrow(/\{id\}/);
    expect(() => defineRoute({ ...good, path: 'admin/things' })).toThrow(/refuses the path/);
    expect(() => defineRoute({ ...good, name: 'host' })).toThrow(/refuses its name/);
  });

  it('refuses a body on a route that reads', () => {
    expect(() => defineRoute({ ...good, body: z.strictObject({}) })).toThrow(/GET has no body/);
  });
});
