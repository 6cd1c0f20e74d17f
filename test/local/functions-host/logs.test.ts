import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { call, startApp } from './support.ts';

const everything = { logging: { logLevel: { default: 'Trace' } } };

describe('the log', () => {
  it('has what context.log formats, under Function.NAME.User, each method at its level', async () => {
    await using app = await startApp({
      hostJson: everything,
      main: `app.http('talk', { handler: (request, context) => {
        context.log('%s is %d', 'x', 7, { a: 1 });
        context.trace('t'); context.debug('d'); context.info('i'); context.warn('w'); context.error('e', new RangeError('boom').message);
        return {};
      } });`,
    });
    await call(app.host, '/api/talk');
    const lines = app.host.logs().filter((line) => line.includes('Function.talk.User'));
    expect(lines.map((line) => line.replace(/^\S+ /, ''))).toEqual([
      '[Information] Function.talk.User: x is 7 { a: 1 }',
      '[Trace] Function.talk.User: t',
      '[Debug] Function.talk.User: d',
      '[Information] Function.talk.User: i',
      '[Warning] Function.talk.User: w',
      '[Error] Function.talk.User: e boom',
    ]);
  });

  it('has console output under Host.Function.Console, standard error at the level that its words suggest', async () => {
    await using app = await startApp({
      main: `app.http('talk', { handler: () => {
        console.log('plain'); console.log('an error on standard output');
        console.error('nothing special'); console.error('a WARNing of failure'); console.error('an Error'); console.error('it failed');
        return {};
      } });`,
    });
    await call(app.host, '/api/talk');
    await app.logged('it failed');
    const lines = app.host.logs().filter((line) => line.includes('Host.Function.Console'));
    expect(lines.map((line) => line.replace(/^\S+ /, '').replace('Host.Function.Console: ', '')).sort()).toEqual([
      '[Error] an Error',
      '[Error] it failed',
      '[Information] an error on standard output',
      '[Information] nothing special',
      '[Information] plain',
      '[Warning] a WARNing of failure',
    ]);
  });

  it('takes what a function logs after its end, with a warning of the system', async () => {
    await using app = await startApp({
      main: `app.http('late', { handler: (request, context) => { setTimeout(() => context.log('too late'), 50); return {}; } });`,
    });
    await call(app.host, '/api/late');
    await app.logged('[Information] Function.late.User: too late');
    await app.logged(
      "[Warning] Function.late: Warning: Unexpected call to 'log' on the context object after function execution has completed.",
    );
  });

  it('leaves out what is below the level that host.json sets, by the longest category that fits', async () => {
    await using app = await startApp({
      hostJson: { logging: { logLevel: { default: 'Warning', Function: 'Error', 'Function.open.User': 'Debug' } } },
      main: `const handler = (request, context) => { context.debug('debug'); context.warn('warn'); return {}; };
        app.http('open', { handler }); app.http('shut', { handler });`,
    });
    await call(app.host, '/api/open');
    await call(app.host, '/api/shut');
    expect(app.host.logs().map((line) => line.replace(/^\S+ /, ''))).toEqual([
      '[Debug] Function.open.User: debug',
      '[Warning] Function.open.User: warn',
    ]);
  });

  it('goes to a file and to a listener only where they are asked for', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gatepost-log-'));
    const logFile = join(folder, 'host.log');
    const heard: string[] = [];
    {
      await using app = await startApp(
        { main: "app.http('a', { handler: (request, context) => { context.log('heard'); return {}; } });" },
        { logFile, log: (line) => heard.push(line) },
      );
      await call(app.host, '/api/a');
    }
    expect(heard.some((line) => line.endsWith('[Information] Function.a.User: heard'))).toBe(true);
    expect(readFileSync(logFile, 'utf8').trimEnd().split('\n')).toEqual(heard);
    rmSync(folder, { recursive: true });
  });

  it('says when a function begins and ends, and why', async () => {
    await using app = await startApp({ main: "app.http('a', { handler: () => ({}) });" });
    await call(app.host, '/api/a');
    await app.logged(
      /\[Information\] Function\.a: Executing 'Functions\.a' \(Reason='This function was .*', Id=[0-9a-f-]{36}\)/,
    );
    await app.logged(
      /\[Information\] Function\.a: Executed 'Functions\.a' \(Succeeded, Id=[0-9a-f-]{36}, Duration=\d+ms\)/,
    );
  });
});
