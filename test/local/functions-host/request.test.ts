import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Call, call, startApp, type TestApp } from './support.ts';

interface Seen {
  method: string;
  url: string;
  headers: Record<string, string>;
  query: [string, string][];
  params: Record<string, string>;
  body: string;
  metadata: unknown;
  traceContext: unknown;
  user: unknown;
}

describe('a request that is not streamed', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp(
      {
        main: `app.http('see', {
          route: 'see/{id?}/{more?}',
          methods: ['GET', 'POST', 'DELETE'],
          handler: async (request, context) => ({ jsonBody: {
            method: request.method, url: request.url, headers: Object.fromEntries(request.headers), query: [...request.query],
            params: request.params, body: await request.text(), metadata: context.triggerMetadata ?? 'none',
            traceContext: context.traceContext, user: request.user,
          } }),
        });`,
      },
      { env: { FUNCTIONS_REQUEST_BODY_SIZE_LIMIT: '200000' } },
    );
  });
  afterAll(() => app[Symbol.asyncDispose]());

  const see = async (path: string, options?: Call) => (await call(app.host, path, options)).json() as Seen;

  it('has header names in lower case, and repeated headers joined by a comma alone', async () => {
    const { headers } = await see('/api/see', {
      headers: { 'X-Number': ['1', '2'], 'X-Empty': '', ACCEPT: 'text/plain' },
    });
    expect(headers).toMatchObject({ 'x-number': '1,2', 'x-empty': '', accept: 'text/plain' });
  });

  it('has one query entry for a repeated key, whatever the case of the key', async () => {
    expect((await see('/api/see?a=1&a=2&b=x%20y+z')).query).toEqual([
      ['a', '1,2'],
      ['b', 'x y z'],
    ]);
    expect((await see('/api/see?Key=1&key=2')).query).toEqual([['Key', '1,2']]);
    expect((await see('/api/see')).query).toEqual([]);
  });

  it('keeps code in the query', async () => {
    expect((await see('/api/see?code=abc')).query).toEqual([['code', 'abc']]);
  });

  it('has nothing but route values in params, and no key for an absent one', async () => {
    const options = { method: 'POST', body: '{"fromBody":1}', headers: { 'content-type': 'application/json' } };
    expect((await see('/api/see/7?fromQuery=1', options)).params).toEqual({ id: '7' });
    expect((await see('/api/see')).params).toEqual({});
  });

  it('decodes %20 in params and leaves %2F', async () => {
    const { params, url } = await see('/api/see/a%20b/c%2Fd%2fe%C3%A9');
    expect(params).toEqual({ id: 'a b', more: 'c%2Fd%2feé' });
    expect(url).toBe(`${app.host.url}/api/see/a%20b/c%2Fd%2fe%C3%A9`);
  });

  it('leaves percent signs that encode nothing', async () => {
    expect((await see('/api/see/100%/%zz%ff')).params).toEqual({ id: '100%', more: '%zz%ff' });
  });

  it('has the URL as the caller sent it, under the Host that it named', async () => {
    const { url } = await see('/api/See/1?x=%2F&y', { headers: { host: 'api.example:8080' } });
    expect(url).toBe('http://api.example:8080/api/See/1?x=%2F&y');
  });

  it('has the body of a POST, binary safe', async () => {
    expect((await see('/api/see', { method: 'POST', body: 'grüße' })).body).toBe('grüße');
    expect((await see('/api/see', { method: 'DELETE', body: 'gone' })).body).toBe('gone');
  });

  it('has no body where it came chunked, without a length', async () => {
    expect(await see('/api/see', { method: 'POST', body: 'lost', chunked: true })).toMatchObject({ body: '' });
  });

  it('has no body where it is a GET', async () => {
    expect(await see('/api/see', { method: 'GET', body: 'dropped' })).toMatchObject({ method: 'GET', body: '' });
  });

  it('has no trigger metadata and an empty trace context', async () => {
    const { metadata, traceContext } = await see('/api/see', {
      headers: { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' },
    });
    expect(metadata).toBe('none');
    expect(traceContext).toEqual({ traceParent: '', traceState: '', attributes: {} });
  });

  it('has the user that x-ms-client-principal names', async () => {
    const principal = { auth_typ: 'aad', claims: [{ typ: 'roles', val: 'Fleet.Read' }], name_typ: 'n', role_typ: 'r' };
    const header = Buffer.from(JSON.stringify(principal)).toString('base64');
    const { user } = await see('/api/see', {
      headers: {
        'x-ms-client-principal': header,
        'x-ms-client-principal-id': 'o1',
        'x-ms-client-principal-name': 'jo',
        'x-ms-client-principal-idp': 'aad',
      },
    });
    expect(user).toMatchObject({ id: 'o1', username: 'jo', identityProvider: 'aad' });
    expect((await see('/api/see')).user).toBeNull();
  });

  it('is refused above the limit of its body', async () => {
    const fits = 'x'.repeat(200_000);
    expect((await see('/api/see', { method: 'POST', body: fits })).body.length).toBe(200_000);
    expect(await call(app.host, '/api/see', { method: 'POST', body: `${fits}x` })).toMatchObject({
      status: 413,
      text: '',
    });
  });
});

describe('host.json', () => {
  it('limits the requests in flight: 429 above it', async () => {
    await using app = await startApp({
      hostJson: { extensions: { http: { maxOutstandingRequests: 1 } } },
      main: `let release;
        app.http('wait', { handler: () => new Promise((resolve) => { release = () => resolve({ body: 'done' }); }) });
        app.timer('release', { schedule: '0 0 0 1 1 *', handler: () => release() });`,
    });
    const waiting = call(app.host, '/api/wait');
    await app.logged("Executing 'Functions.wait'");
    const refused = await call(app.host, '/api/wait');
    expect(refused).toMatchObject({ status: 429, text: '' });
    expect(refused.headers['x-function-scaleout']).toBe('1');
    await app.host.invoke('release');
    expect((await waiting).text).toBe('done');
  });

  it('adds custom headers to what functions answer', async () => {
    await using app = await startApp({
      hostJson: { extensions: { http: { customHeaders: { 'x-content-type-options': 'nosniff' } } } },
      main: "app.http('a', { handler: () => ({ body: 'a' }) }); app.http('b', { handler: () => {} });",
    });
    expect((await call(app.host, '/api/a')).headers['x-content-type-options']).toBe('nosniff');
    expect((await call(app.host, '/api/b')).headers['x-content-type-options']).toBe('nosniff');
  });
});
