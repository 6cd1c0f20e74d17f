import { describe, expect, it } from 'vitest';
import { call, startApp } from './support.ts';

const order = "const seen = []; app.http('order', { handler: () => { seen.push('handler'); return {}; } });";
const ask = "app.http('z_seen', { handler: () => ({ jsonBody: seen.splice(0) }) });";

describe('invocation hooks', () => {
  it('run in the order of their registration: pre, handler, post', async () => {
    await using app = await startApp({
      main: `${order}
        for (const n of [1, 2]) app.hook.preInvocation(async (context) => { if (context.invocationContext.functionName === 'order') { await null; seen.push('pre' + n); } });
        for (const n of [1, 2]) app.hook.postInvocation((context) => { if (context.invocationContext.functionName === 'order') seen.push('post' + n); });
        ${ask}`,
    });
    await call(app.host, '/api/order');
    expect((await call(app.host, '/api/z_seen')).json()).toEqual(['pre1', 'pre2', 'handler', 'post1', 'post2']);
  });

  it('can replace the inputs and the handler before, and the result after', async () => {
    await using app = await startApp({
      main: `app.http('change', { handler: (request, context) => ({ body: 'handler ' + request }) });
        app.hook.preInvocation((context) => {
          context.inputs = ['replaced'];
          const original = context.functionHandler;
          context.functionHandler = async (...args) => ({ body: 'wrapped ' + (await original(...args)).body });
        });
        app.hook.postInvocation((context) => { context.result = { body: context.result.body + ' ' + context.inputs[0] }; });`,
    });
    expect((await call(app.host, '/api/change')).text).toBe('wrapped handler replaced replaced');
  });

  it('share hookData within one invocation and nothing between two', async () => {
    await using app = await startApp({
      main: `app.http('share', { handler: () => ({}) });
        app.hook.preInvocation((context) => { context.hookData.count = (context.hookData.count ?? 0) + 1; });
        app.hook.postInvocation((context) => { context.result = { jsonBody: context.hookData }; });`,
    });
    await call(app.host, '/api/share');
    expect((await call(app.host, '/api/share')).json()).toEqual({ count: 1 });
  });

  it('cannot replace hookData or the invocation context', async () => {
    await using app = await startApp({
      main: `const caught = [];
        app.http('fixed', { handler: () => ({ jsonBody: caught }) });
        app.hook.preInvocation((context) => {
          for (const name of ['hookData', 'invocationContext']) try { context[name] = {}; } catch (error) { caught.push(error.message); }
        });`,
    });
    expect((await call(app.host, '/api/fixed')).json()).toEqual([
      "Cannot assign to read only property 'hookData'",
      "Cannot assign to read only property 'invocationContext'",
    ]);
  });

  it('run after an error too, and a post hook that takes it away rescues the response', async () => {
    await using app = await startApp({
      main: `app.http('fails', { handler: () => { throw new Error('lost'); } });
        app.http('rescued', { handler: () => { throw new Error('saved'); } });
        app.hook.postInvocation((context) => {
          context.invocationContext.log('after', context.error?.message, context.result);
          if (context.error?.message === 'saved') { context.error = null; context.result = { body: 'rescued' }; }
        });`,
    });
    expect(await call(app.host, '/api/fails')).toMatchObject({ status: 500, text: '' });
    await app.logged('Function.fails.User: after lost null');
    expect(await call(app.host, '/api/rescued')).toMatchObject({ status: 200, text: 'rescued' });
  });

  it('make it a 500 when one throws before the handler, which is skipped with the post hooks', async () => {
    await using app = await startApp({
      main: `${order}
        let broken = true;
        app.hook.preInvocation(() => { if (broken) { broken = false; throw new Error('pre failed'); } });
        app.hook.postInvocation(() => { seen.push('post'); });
        ${ask}`,
    });
    expect(await call(app.host, '/api/order')).toMatchObject({ status: 500, text: '' });
    expect((await call(app.host, '/api/z_seen')).json()).toEqual([]);
  });

  it('may log in a post hook without the warning about a function that has ended', async () => {
    await using app = await startApp({
      main: `app.http('a', { handler: () => ({}) });
        app.hook.postInvocation((context) => context.invocationContext.log('from the hook'));`,
    });
    await call(app.host, '/api/a');
    await app.logged('Function.a.User: from the hook');
    expect(app.host.logs().join('\n')).not.toContain('Unexpected call');
  });

  it('stop when they are disposed of', async () => {
    await using app = await startApp({
      main: `${order}
        const hook = app.hook.preInvocation(() => { seen.push('pre'); });
        hook.dispose();
        ${ask}`,
    });
    await call(app.host, '/api/order');
    expect((await call(app.host, '/api/z_seen')).json()).toEqual(['handler']);
  });
});

describe('app hooks', () => {
  it('run when the app starts, before any call, and share hookData with the end', async () => {
    const lines: string[] = [];
    {
      await using app = await startApp(
        {
          main: `let started = false;
            app.http('a', { handler: () => ({ body: String(started) }) });
            app.hook.appStart(async (context) => { await new Promise((resolve) => setTimeout(resolve, 50)); started = true; context.hookData.since = 'start'; });
            app.hook.appTerminate((context) => console.log('terminated, since ' + context.hookData.since));`,
        },
        { log: (line) => lines.push(line) },
      );
      expect((await call(app.host, '/api/a')).text).toBe('true');
      expect(lines.join('\n')).not.toContain('terminated');
    }
    expect(lines.join('\n')).toContain('Host.Function.Console: terminated, since start');
  });

  it('know no log hook, as the worker whose behaviour this repeats', async () => {
    await using app = await startApp({ main: 'app.hook.log(() => {});' });
    expect(app.host.errors).toEqual([
      'Worker was unable to load entry point "main.js": Log hooks require Azure Functions Host v4.34 or higher.',
    ]);
  });

  it('refuse an unknown name with a RangeError of the system', async () => {
    await using app = await startApp({
      main: `const core = require('@azure/functions-core');
        try { core.registerHook('nonsense', () => {}); }
        catch (error) { console.log(error.name, error.isAzureFunctionsSystemError, core.version, core.hostVersion); }`,
    });
    await app.logged('RangeError true 3.9.1 4.1037');
  });
});
