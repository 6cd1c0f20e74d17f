import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, startApp, type TestApp } from './support.ts';

const handlers = {
  undefined: 'undefined',
  null: 'null',
  empty: '({})',
  text: "({ body: 'täxt' })",
  json: '({ jsonBody: { a: 1 } })',
  jsonWithType: "({ jsonBody: {}, headers: { 'content-type': 'application/problem+json' }, status: 400 })",
  buffer: '({ body: Buffer.from([1, 2, 3]) })',
  stream: "({ body: require('node:stream').Readable.from(['a', 'b', 'c']) })",
  object: '({ body: { a: 1 } })',
  native: "new Response('native', { status: 201, headers: { 'x-a': '1' } })",
  library: "new HttpResponse({ status: 202, body: 'library' })",
  string: "'just a string'",
  number: '7',
  status199: '({ status: 199 })',
  status600: '({ status: 600 })',
  throwError: "(() => { throw new Error('secret detail'); })()",
  throwUndefined: '(() => { throw undefined; })()',
  throwString: "(() => { throw 'text'; })()",
  rejected: "Promise.reject(new Error('later'))",
  brokenStream: `({ body: require('node:stream').Readable.from((async function* () { yield 'a'; throw new Error('mid stream'); })()) })`,
  noContent: "({ status: 204, body: 'dropped' })",
  notModified: '({ status: 304, headers: { etag: \'"1"\' } })',
  array: '[1, 2]',
  setCookies: "({ headers: [['set-cookie', 'a=1'], ['set-cookie', 'b=2']] })",
  cookies: `({ headers: { 'set-cookie': 'own=1' }, cookies: [
    { name: 'plain', value: 'v w' },
    { name: 'path', value: 'v', path: '/x', domain: 'example.org', secure: true, httpOnly: true, sameSite: 'Strict', maxAge: 60 },
    { name: 'expires', value: 'v', expires: new Date(1893456000000) },
    { name: 'epoch', value: 'v', expires: new Date(0) },
    { name: 'lax', value: 'v', sameSite: 'Lax' }, { name: 'none', value: 'v', sameSite: 'None' },
  ] })`,
  invalidCookie: "({ cookies: [{ name: 'a', value: 7 }] })",
};

describe('a response that is not streamed', () => {
  let app: TestApp;
  beforeAll(async () => {
    const registrations = Object.entries(handlers).map(
      ([name, result]) => `app.http('${name}', { methods: ['GET', 'HEAD'], handler: () => ${result} });`,
    );
    app = await startApp({ main: registrations.join('\n') });
  });
  afterAll(() => app[Symbol.asyncDispose]());

  const get = (name: keyof typeof handlers) => call(app.host, `/api/${name}`);

  it.each(['undefined', 'null', 'throwUndefined'] as const)('is 204 without a body for %s', async (name) => {
    const answer = await get(name);
    expect(answer).toMatchObject({ status: 204, text: '' });
    expect(answer.headers['content-type']).toBeUndefined();
  });

  it('is 200 without body and content type for an empty object', async () => {
    const answer = await get('empty');
    expect(answer).toMatchObject({ status: 200, text: '' });
    expect(answer.headers['content-type']).toBeUndefined();
  });

  it('has the content type that its kind of body implies', async () => {
    const types = async (name: keyof typeof handlers) => {
      const { headers, text } = await get(name);
      return [headers['content-type'], text];
    };
    expect(await types('text')).toEqual(['text/plain;charset=UTF-8', 'täxt']);
    expect(await types('json')).toEqual(['application/json', '{"a":1}']);
    expect(await types('jsonWithType')).toEqual(['application/problem+json', '{}']);
    expect(await types('buffer')).toEqual([undefined, '\u0001\u0002\u0003']);
    expect(await types('stream')).toEqual([undefined, 'abc']);
    expect(await types('object')).toEqual(['text/plain;charset=UTF-8', '[object Object]']);
  });

  it('is sent chunked, without a length', async () => {
    const { headers } = await get('text');
    expect(headers['transfer-encoding']).toBe('chunked');
    expect(headers['content-length']).toBeUndefined();
  });

  it('may be a native Response or one of the library', async () => {
    const native = await get('native');
    expect(native).toMatchObject({ status: 201, text: 'native' });
    expect(native.headers['x-a']).toBe('1');
    expect(await get('library')).toMatchObject({ status: 202, text: 'library' });
  });

  it.each([
    'string',
    'number',
    'status199',
    'status600',
    'throwError',
    'throwString',
    'rejected',
    'brokenStream',
    'invalidCookie',
  ] as const)('is 500 with an empty body for %s', async (name) => {
    expect(await get(name)).toMatchObject({ status: 500, text: '' });
  });

  it('leaves what was thrown in the log', async () => {
    await get('throwError');
    await app.logged(
      /\[Error\] Function\.throwError: Executed 'Functions\.throwError' \(Failed, .*\nError: secret detail\n/,
    );
  });

  it('is empty for an array', async () => {
    expect(await get('array')).toMatchObject({ status: 200, text: '' });
  });

  it('has no body with 204 and 304', async () => {
    const noContent = await get('noContent');
    expect(noContent).toMatchObject({ status: 204, text: '' });
    expect(noContent.headers['content-length']).toBeUndefined();
    const notModified = await get('notModified');
    expect(notModified).toMatchObject({ status: 304, text: '' });
    expect(notModified.headers.etag).toBe('"1"');
  });

  it('has headers and no body for HEAD', async () => {
    const answer = await call(app.host, '/api/json', { method: 'HEAD' });
    expect(answer).toMatchObject({ status: 200, text: '' });
    expect(answer.headers['content-type']).toBe('application/json');
  });

  it('keeps the last alone of two set-cookie headers', async () => {
    expect((await get('setCookies')).headers['set-cookie']).toEqual(['b=2']);
  });

  it('has all cookies of the list, with the path / unless they name one, and loses an expiry of Date(0)', async () => {
    expect((await get('cookies')).headers['set-cookie']).toEqual([
      'own=1',
      'plain=v%20w; path=/',
      'path=v; max-age=60; domain=example.org; path=/x; secure; samesite=strict; httponly',
      'expires=v; expires=Tue, 01 Jan 2030 00:00:00 GMT; path=/',
      'epoch=v; path=/',
      'lax=v; path=/; samesite=lax',
      'none=v; path=/; samesite=none',
    ]);
  });
});
