import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { call, startApp, type TestApp } from './support.ts';

describe('the admin API', () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp(
      {
        hostJson: { extensions: { http: { routePrefix: 'v1' } } },
        main: `app.http('Hello', { route: 'say/{what}', handler: () => ({}) });
          app.timer('tick', { schedule: '0 0 0 1 1 *', handler: (timer, context) => context.log('ticked'), retry: undefined });
          app.timer('off', { schedule: '0 0 0 1 1 *', handler: (timer, context) => context.log('off ran') });
          app.http('bad name', { handler: () => ({}) });`,
      },
      { keys: { master: 'm', host: { default: 'h' } }, env: { 'AzureWebJobs.off.Disabled': 'true' } },
    );
  });
  afterAll(() => app[Symbol.asyncDispose]());

  const master = { 'x-functions-key': 'm' };
  const start = (name: string, body: string) =>
    call(app.host, `/admin/functions/${name}`, {
      method: 'POST',
      headers: { ...master, 'content-type': 'application/json' },
      body,
    });

  it('answers ping without a key', async () => {
    expect(await call(app.host, '/admin/host/ping')).toMatchObject({ status: 200, text: '' });
    expect(await call(app.host, '/admin/host/ping', { method: 'POST', body: '' })).toMatchObject({ status: 200 });
  });

  it.each(['/admin/host/status', '/admin/functions', '/admin/functions/tick', '/admin/nothing', '/admin'])(
    'wants the master key for %s: no key and a host key get 401',
    async (path) => {
      expect(await call(app.host, path)).toMatchObject({ status: 401, text: '' });
      expect(await call(app.host, path, { headers: { 'x-functions-key': 'h' } })).toMatchObject({ status: 401 });
      expect((await call(app.host, `${path}?code=m`)).status).not.toBe(401);
    },
  );

  it('tells the state of the host', async () => {
    const status = (await call(app.host, '/admin/host/status', { headers: master })).json();
    expect(status).toMatchObject({ state: 'Running', version: expect.stringMatching(/^4\./) });
  });

  it('tells in the state of the host that an app did not load', async () => {
    await using broken = await startApp({ main: "throw new Error('broken')" }, { keys: { master: 'm' } });
    const status = (await call(broken.host, '/admin/host/status', { headers: master })).json();
    expect(status).toMatchObject({ errors: [expect.stringContaining('broken')] });
  });

  it('lists the functions with their bindings and addresses', async () => {
    const listed = (await call(app.host, '/admin/functions', { headers: master })).json() as { name: string }[];
    expect(listed.map(({ name }) => name)).toEqual(['Hello', 'off', 'tick']);
    expect(listed[0]).toMatchObject({
      invoke_url_template: `${app.host.url}/v1/say/{what}`,
      isDisabled: false,
      config: {
        bindings: [
          { type: 'httpTrigger', direction: 'in', route: 'say/{what}' },
          { type: 'http', name: '$return' },
        ],
      },
    });
    expect(listed[1]).toMatchObject({ isDisabled: true, invoke_url_template: null });
    expect((await call(app.host, '/admin/functions/HELLO', { headers: master })).json()).toEqual(listed[0]);
  });

  it('tells what is wrong with a function', async () => {
    const status = async (name: string) => call(app.host, `/admin/functions/${name}/status`, { headers: master });
    expect((await status('tick')).json()).toEqual({});
    expect((await status('none')).status).toBe(404);
    await using one = await startApp({ main: "app.http('host', { handler: () => ({}) });" }, { keys: { master: 'm' } });
    const answer = await call(one.host, '/admin/functions/host/status', { headers: master });
    expect(answer.json()).toEqual({ errors: ["'host' is not a valid function name."] });
  });

  it('starts a function and answers 202 at once', async () => {
    expect(await start('tick', '{"input":""}')).toMatchObject({ status: 202, text: '' });
    await app.logged('Function.tick.User: ticked');
  });

  it('starts a disabled function too', async () => {
    expect((await start('off', '{}')).status).toBe(202);
    await app.logged('Function.off.User: off ran');
  });

  it('answers 404 for an unknown function and 400 for a body that is no invocation', async () => {
    expect((await start('none', '{}')).status).toBe(404);
    expect((await start('tick', 'not JSON')).status).toBe(400);
    expect((await start('tick', '')).status).toBe(400);
    expect((await start('tick', '{"input":{"a":1}}')).status).toBe(400);
  });

  it('is what invoke() of the host calls', async () => {
    await expect(app.host.invoke('none')).rejects.toThrow('404');
    await app.host.invoke('tick');
  });
});
