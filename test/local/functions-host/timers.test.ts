import { describe, expect, it } from 'vitest';
import { startApp } from './support.ts';

describe('timers', () => {
  it('run at their times, one run after the other, with an object in camel case', async () => {
    await using app = await startApp({
      main: `let running = 0;
        app.timer('tick', { schedule: '* * * * * *', handler: async (timer, context) => {
          running += 1;
          context.log('tick', running, JSON.stringify(timer), context.triggerMetadata ?? 'no metadata');
          await new Promise((resolve) => setTimeout(resolve, 1500));
          running -= 1;
        } });`,
    });
    const line = await app.logged(/tick 1 /);
    await new Promise((resolve) => setTimeout(resolve, 4000));
    const timer = JSON.parse(/\{.*\}/.exec(line)?.[0] ?? '');
    const date = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00$/);
    expect(timer).toEqual({
      isPastDue: false,
      schedule: { adjustForDST: true },
      scheduleStatus: { last: date, next: date, lastUpdated: date },
    });
    expect(line).toContain('no metadata');
    expect(app.host.logs().filter((each) => each.includes('User: tick 1')).length).toBeGreaterThanOrEqual(2);
    expect(app.host.logs().join('\n')).not.toContain('User: tick 2');
  });

  it('read their schedule from a setting, and may run when the host starts', async () => {
    await using app = await startApp(
      {
        main: "app.timer('once', { schedule: '%WHEN%', runOnStartup: true, handler: (timer, context) => context.log('ran') });",
      },
      { env: { WHEN: '0 0 0 1 1 *' } },
    );
    await app.logged('Function.once.User: ran');
  });

  it('are refused where their setting is missing, while others run', async () => {
    await using app = await startApp({
      main: `app.timer('lost', { schedule: '%NOT_THERE%', handler: () => {} });
        app.timer('fine', { schedule: '0 0 0 1 1 *', handler: (timer, context) => context.log('fine') });`,
    });
    expect(app.host.faults).toEqual([{ name: 'lost', message: "'%NOT_THERE%' does not resolve to a value." }]);
    await app.host.invoke('fine');
    await app.logged('Function.fine.User: fine');
  });

  it('with a schedule that cannot be read do not start, and the log says why', async () => {
    await using app = await startApp({ main: "app.timer('odd', { schedule: 'at noon', handler: () => {} });" });
    await app.logged(
      "The listener for function 'odd' was unable to start: The schedule expression 'at noon' was not recognized",
    );
  });

  it('do not run while they are disabled', async () => {
    await using app = await startApp(
      {
        main: "app.timer('off', { schedule: '* * * * * *', runOnStartup: true, handler: (timer, context) => context.log('ran') });",
      },
      { env: { 'AzureWebJobs.off.Disabled': 'true' } },
    );
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(app.host.logs().join('\n')).not.toContain('Function.off');
  });

  it('are tried again as their retry policy says, and know which try it is', async () => {
    await using app = await startApp({
      main: `app.timer('again', { schedule: '0 0 0 1 1 *', retry: { strategy: 'fixedDelay', maxRetryCount: 2, delayInterval: 10 },
        handler: (timer, context) => { context.log('retry', JSON.stringify(context.retryContext)); throw new Error('not yet'); } });`,
    });
    await app.host.invoke('again');
    await app.logged(/retry \{"retryCount":2,"maxRetryCount":2,"exception":\{"message":"not yet"/);
    expect(await app.logged('Function.again.User')).toContain('retry {"retryCount":0,"maxRetryCount":2}');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(app.host.logs().filter((line) => line.includes('again.User')).length).toBe(3);
  });

  it('go on after a crash of the worker', async () => {
    await using app = await startApp({
      main: `app.timer('die', { schedule: '0 0 0 1 1 *', handler: () => process.exit(1) });
        app.timer('tick', { schedule: '* * * * * *', handler: (timer, context) => context.log('tick of ' + process.pid) });`,
    });
    const first = /tick of \d+/.exec(await app.logged(/tick of \d+/))?.[0] ?? '';
    await app.host.invoke('die');
    await app.logged(new RegExp(`(?!${first}$)tick of \\d+$`));
  });
});
