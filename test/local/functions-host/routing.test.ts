import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, startApp, type TestApp } from './support.ts';

describe('routes', () => {
  let app: TestApp;
  beforeAll(async () => {
    const echo = '(request, context) => ({ jsonBody: { name: context.functionName, params: request.params } })';
    app = await startApp({
      main: `const echo = ${echo};
        app.http('get', { methods: ['GET'], route: 'only-get', handler: echo });
        app.http('head', { methods: ['GET', 'HEAD', 'OPTIONS'], route: 'with-head', handler: echo });
        app.http('number', { route: 'number/{id:int}', handler: echo });
        app.http('devices_b', { route: 'devices/{id}', handler: echo });
        app.http('Devices_a', { route: 'devices/special', handler: echo });
        app.http('things_a', { route: 'things/{id}', handler: echo });
        app.http('things_B', { route: 'things/special', handler: echo });
        app.http('put', { methods: ['PUT'], route: 'shared/{id}', handler: echo });
        app.http('any', { methods: ['GET'], route: 'shared/{*rest}', handler: echo });
        app.http('optional', { route: 'optional/{a}/{b?}', handler: echo });
        app.http('fallback', { route: 'fallback/{a=first}', handler: echo });
        app.http('administration', { route: 'administration', handler: echo });
        app.http('runtimes', { route: '/runtime/{id}', handler: echo });`,
    });
  });
  afterAll(() => app[Symbol.asyncDispose]());

  const reached = async (path: string, method = 'GET') => {
    const answer = await call(app.host, path, { method });
    return answer.status === 200 ? answer.json() : answer.status;
  };

  it.each(['POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH'])(
    'answers %s 404 with an empty body where it is not listed',
    async (method) => {
      const answer = await call(app.host, '/api/only-get', { method });
      expect(answer).toMatchObject({ status: 404, text: '' });
      expect(answer.headers['content-length']).toBe('0');
      expect(answer.headers.allow).toBeUndefined();
    },
  );

  it('serves HEAD and OPTIONS where they are listed', async () => {
    expect(await call(app.host, '/api/with-head', { method: 'HEAD' })).toMatchObject({ status: 200, text: '' });
    expect(await reached('/api/with-head', 'OPTIONS')).toMatchObject({ name: 'head' });
  });

  it('answers 404 with an empty body where no function has the route, or a constraint fails', async () => {
    expect(await call(app.host, '/api/nothing')).toMatchObject({ status: 404, text: '' });
    expect(await call(app.host, '/api/number/seven')).toMatchObject({ status: 404, text: '' });
    expect(await reached('/api/number/7')).toEqual({ name: 'number', params: { id: '7' } });
  });

  it('tries the functions in the order of their names, whatever is more specific', async () => {
    expect(await reached('/api/devices/special')).toMatchObject({ name: 'Devices_a' });
    expect(await reached('/api/things/special')).toMatchObject({ name: 'things_a', params: { id: 'special' } });
  });

  it('goes on to the next function where the method does not fit', async () => {
    expect(await reached('/api/shared/1', 'GET')).toMatchObject({ name: 'any' });
    expect(await reached('/api/shared/1', 'PUT')).toMatchObject({ name: 'put' });
  });

  it('ignores case and accepts a trailing slash', async () => {
    expect(await reached('/API/Only-GET')).toMatchObject({ name: 'get' });
    expect(await reached('/api/only-get/')).toMatchObject({ name: 'get' });
    expect(await reached('/api/only-get//')).toBe(404);
  });

  it('leaves out an optional value that is absent and fills in a default', async () => {
    expect(await reached('/api/optional/1')).toMatchObject({ params: { a: '1' } });
    expect(await reached('/api/optional/1/2')).toMatchObject({ params: { a: '1', b: '2' } });
    expect(await reached('/api/optional')).toBe(404);
    expect(await reached('/api/fallback')).toMatchObject({ params: { a: 'first' } });
    expect(await reached('/api/fallback/x')).toMatchObject({ params: { a: 'x' } });
  });

  it('gives a catch-all the rest of the path, or no value at all', async () => {
    expect(await reached('/api/shared/1/2/3')).toMatchObject({ params: { rest: '1/2/3' } });
    expect(await reached('/api/shared')).toEqual({ name: 'any', params: {} });
  });

  it('resolves dot segments before it looks for a route', async () => {
    expect(await reached('/api/x/../only-get')).toMatchObject({ name: 'get' });
    expect(await reached('/api/x/%2e%2e/./only-get')).toMatchObject({ name: 'get' });
    expect(await reached('/../../api/only-get')).toMatchObject({ name: 'get' });
  });

  it('refuses routes that begin with admin or runtime, even behind a prefix', () => {
    expect(app.host.functions).not.toContain('administration');
    expect(app.host.functions).not.toContain('runtimes');
    expect(app.host.faults).toEqual([
      { name: 'administration', message: 'The specified route conflicts with one or more built in routes.' },
      { name: 'runtimes', message: 'The specified route conflicts with one or more built in routes.' },
    ]);
  });
});

describe('keys', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp(
      {
        main: `const handler = (request) => ({ body: request.query.get('code') ?? 'none' });
          app.http('open', { handler });
          app.http('closed', { authLevel: 'function', handler });
          app.http('other', { authLevel: 'function', handler });
          app.http('master', { authLevel: 'admin', handler });
          app.http('off', { handler });
          app.http('away', { handler });`,
      },
      {
        keys: { master: 'm', host: { default: 'h' }, functions: { CLOSED: { default: 'f' } } },
        env: { 'AzureWebJobs.off.Disabled': 'true', 'AzureWebJobs.away.Disabled': '1' },
      },
    );
  });
  afterAll(() => app[Symbol.asyncDispose]());

  const status = async (path: string, key?: string) =>
    (await call(app.host, path, key === undefined ? {} : { headers: { 'x-functions-key': key } })).status;

  it('are asked for by level function: 401 with an empty body without a valid one', async () => {
    expect(await call(app.host, '/api/closed')).toMatchObject({ status: 401, text: '' });
    expect(await status('/api/closed', 'wrong')).toBe(401);
    expect(await status('/api/closed?code=wrong')).toBe(401);
  });

  it('are taken from the header or from ?code=', async () => {
    expect(await status('/api/closed', 'f')).toBe(200);
    expect(await status('/api/closed?code=f')).toBe(200);
    expect(await status('/api/closed?x=1&code=f')).toBe(200);
  });

  it('open one function, or every function as a host key, or everything as the master key', async () => {
    expect(await status('/api/other', 'f')).toBe(401);
    expect(await status('/api/other', 'h')).toBe(200);
    expect(await status('/api/master', 'h')).toBe(401);
    expect(await status('/api/master', 'm')).toBe(200);
    expect(await status('/api/closed', 'm')).toBe(200);
  });

  it('count from the header alone where it is sent', async () => {
    expect(await status('/api/closed?code=f', 'wrong')).toBe(401);
    expect(await status('/api/closed?code=wrong', 'f')).toBe(200);
  });

  it('do not matter to an anonymous function, and code stays in its query', async () => {
    expect(await call(app.host, '/api/open?code=whatever')).toMatchObject({ status: 200, text: 'whatever' });
  });

  it('reach a disabled function only as the master key', async () => {
    for (const path of ['/api/off', '/api/away']) {
      expect(await status(path)).toBe(404);
      expect(await status(path, 'h')).toBe(404);
      expect(await status(path, 'm')).toBe(200);
    }
  });

  it('are made up where none are given, and differ from host to host', async () => {
    await using one = await startApp({ main: '' });
    await using two = await startApp({ main: '' });
    expect(one.host.masterKey.length).toBeGreaterThan(40);
    expect(one.host.masterKey).not.toBe(two.host.masterKey);
  });
});

describe('home page', () => {
  it('is at / and can be switched off', async () => {
    await using on = await startApp({ main: '' });
    await using off = await startApp({ main: '' }, { env: { AzureWebJobsDisableHomepage: 'true' } });
    const page = await call(on.host, '/');
    expect(page.status).toBe(200);
    expect(page.headers['content-type']).toContain('text/html');
    expect(await call(off.host, '/')).toMatchObject({ status: 204, text: '' });
  });
});
