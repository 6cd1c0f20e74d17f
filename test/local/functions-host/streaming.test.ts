import { createConnection } from 'node:net';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Call, call, startApp, type TestApp } from './support.ts';

// Under a time limit of its own: a busy machine may take seconds over it.
const large = `app.setup({ enableHttpStream: true });
  const { Readable } = require('node:stream');
  app.http('size', { handler: async (request) => {
    if (request.method === 'GET') {
      const chunk = Buffer.alloc(1024 * 1024, 'z');
      return { body: Readable.from((function* () { for (let n = 0; n < 128; n += 1) yield chunk; })()) };
    }
    let size = 0;
    for await (const piece of request.body) size += piece.length;
    return { body: String(size) };
  } });`;

describe('a streamed request', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp(
      {
        hostJson: { extensions: { http: { customHeaders: { 'x-custom': 'yes' } } } },
        main: `app.setup({ enableHttpStream: true });
          const { Readable } = require('node:stream');
          const { setTimeout: sleep } = require('node:timers/promises');
          app.http('see', { route: 'see/{id?}', handler: async (request, context) => ({
            headers: { 'x-invocation': context.invocationId },
            jsonBody: { url: request.url, method: request.method, query: [...request.query], params: request.params,
              headers: Object.fromEntries(request.headers), body: await request.text() } }) });
          app.http('slow', { handler: () => ({ body: Readable.from((async function* () {
            yield 'first'; await sleep(300); yield 'second'; })()) }) });
          app.http('cookies', { handler: () => ({ cookies: [{ name: 'a', value: '1' }, { name: 'b', value: '2', path: '/b' }] }) });
          app.http('throws', { handler: () => { throw new Error('never told'); } });
          app.http('undefined', { handler: () => {} });
          app.http('null', { handler: () => null });
          app.http('invalid', { handler: () => 'text' });
          app.http('broken', { handler: () => ({ body: Readable.from((async function* () { yield 'a'; throw new Error('mid'); })()) }) });
          app.http('die', { handler: () => { process.exit(3); } });
          app.http('closed', { authLevel: 'function', handler: () => ({ body: 'in' }) });
          app.http('hello', { handler: () => ({ body: 'Hello' }) });`,
      },
      { streaming: { answerTimeoutMs: 2000 }, keys: { host: { default: 'h' } } },
    );
  });
  afterAll(() => app[Symbol.asyncDispose]());

  interface Seen {
    url: string;
    method: string;
    query: [string, string][];
    params: Record<string, string>;
    headers: Record<string, string>;
    body: string;
  }
  const see = async (path: string, options?: Call) => (await call(app.host, path, options)).json() as Seen;

  it('has its invocation id on the response', async () => {
    const { headers } = await call(app.host, '/api/see');
    expect(headers['x-ms-invocation-id']).toMatch(/^[0-9a-f-]{36}$/);
    expect(headers['x-invocation']).toBe(headers['x-ms-invocation-id']);
    expect(headers['x-custom']).toBe('yes');
  });

  it('has its body even when that came chunked', async () => {
    expect(await see('/api/see', { method: 'POST', body: 'kept', chunked: true })).toMatchObject({ body: 'kept' });
    expect(await see('/api/see', { method: 'POST', body: 'kept' })).toMatchObject({ body: 'kept', method: 'POST' });
  });

  it('has repeated query keys apart', async () => {
    expect((await see('/api/see?a=1&a=2')).query).toEqual([
      ['a', '1'],
      ['a', '2'],
    ]);
  });

  it('has query values and top-level properties of a JSON body in params as well, the route above the query above the body', async () => {
    const options = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"id":"body","q":"body","b":"body","n":7,"flag":true,"deep":{"x":1},"nothing":null}',
    };
    const { params, body } = await see('/api/see/route?id=query&q=query', options);
    expect(params).toEqual({ id: 'route', q: 'query', b: 'body', n: '7', flag: 'true', deep: '{"x":1}' });
    expect(body).toBe(options.body);
    expect((await see('/api/see?id=query')).params).toEqual({ id: 'query' });
  });

  it('has no body properties in params where the body is not JSON', async () => {
    const text = { method: 'POST', headers: { 'content-type': 'text/plain' }, body: '{"a":1}' };
    expect((await see('/api/see', text)).params).toEqual({});
    const broken = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"a":' };
    expect(await see('/api/see', broken)).toMatchObject({ params: {}, body: '{"a":' });
  });

  it('has %2F as %252F in its URL', async () => {
    expect((await see('/api/see/a%2Fb%20c')).url).toBe(`${app.host.url}/api/see/a%252Fb%20c`);
  });

  it('has its headers, joined as without streaming', async () => {
    expect((await see('/api/see', { headers: { 'X-Number': ['1', '2'] } })).headers['x-number']).toBe('1,2');
  });

  it('needs its key and its route as without streaming', async () => {
    expect((await call(app.host, '/api/closed')).status).toBe(401);
    expect((await call(app.host, '/api/closed?code=h')).text).toBe('in');
    expect((await call(app.host, '/api/nothing')).status).toBe(404);
    expect((await call(app.host, '/api/closed?code=h', { method: 'PUT' })).status).toBe(404);
  });

  it('gets its response in pieces as the function makes them', async () => {
    const response = await fetch(`${app.host.url}/api/slow`);
    const times: number[] = [];
    let text = '';
    for await (const chunk of response.body ?? []) {
      times.push(performance.now());
      text += Buffer.from(chunk).toString();
    }
    expect(text).toBe('firstsecond');
    expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThan(200);
  });

  it('gets cookies without a default path', async () => {
    expect((await call(app.host, '/api/cookies')).headers['set-cookie']).toEqual(['a=1', 'b=2; Path=/b']);
  });

  it.each(['throws', 'undefined', 'null', 'invalid'])(
    'is not answered before the time limit when the handler %s, and is 500 then',
    async (name) => {
      const begin = performance.now();
      expect(await call(app.host, `/api/${name}`)).toMatchObject({ status: 500, text: '' });
      expect(performance.now() - begin).toBeGreaterThan(1900);
    },
  );

  it('hangs when the response breaks in mid stream', async () => {
    const socket = createConnection(app.host.port, '127.0.0.1');
    let received = '';
    let closed = false;
    socket.on('data', (data) => {
      received += String(data);
    });
    socket.on('close', () => {
      closed = true;
    });
    socket.write('GET /api/broken HTTP/1.1\r\nHost: x\r\n\r\n');
    await app.logged(/Executed 'Functions\.broken' \(Failed/);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(received).toContain('HTTP/1.1 200');
    expect(received).not.toMatch(/\r\n0\r\n\r\n$/);
    expect(closed).toBe(false);
    socket.destroy();
  });

  it('is 500 when the worker dies under it, and the next one works', async () => {
    expect(await call(app.host, '/api/die')).toMatchObject({ status: 500, text: '' });
    expect((await call(app.host, '/api/hello')).text).toBe('Hello');
  });

  it('is let go when its caller goes away', async () => {
    const controller = new AbortController();
    const asked = fetch(`${app.host.url}/api/slow`, { signal: controller.signal }).then((response) => response.text());
    setTimeout(() => controller.abort(), 100);
    await expect(asked).rejects.toThrow();
    expect((await call(app.host, '/api/hello')).text).toBe('Hello');
  });

  it('takes and gives 128 MB without a length', async () => {
    await using app = await startApp({ main: large });
    const chunk = Buffer.alloc(1024 * 1024, 'z');
    const stream = Readable.toWeb(Readable.from(Array.from({ length: 128 }, () => chunk))) as ReadableStream;
    const posted = await fetch(`${app.host.url}/api/size`, {
      method: 'POST',
      body: stream,
      duplex: 'half',
    } as RequestInit);
    expect(await posted.text()).toBe(String(128 * chunk.length));
    let received = 0;
    for await (const piece of (await fetch(`${app.host.url}/api/size`)).body ?? []) received += piece.length;
    expect(received).toBe(128 * chunk.length);
  });
});
