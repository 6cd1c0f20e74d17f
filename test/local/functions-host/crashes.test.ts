import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HostLog } from '../../../local/functions-host/log.ts';
import { Supervisor } from '../../../local/functions-host/supervisor.ts';
import { call, startApp } from './support.ts';

const main = `
  setInterval(() => {}, 1000);
  app.http('pid', { handler: () => ({ body: String(process.pid) }) });
  app.http('wait', { handler: () => new Promise(() => {}) });
  app.http('slow', { handler: async () => { await new Promise((resolve) => setTimeout(resolve, 300)); return { body: 'finished' }; } });
  app.http('reject', { handler: () => { Promise.reject(new Error('unhandled')); return new Promise(() => {}); } });
  app.http('throw', { handler: () => { setTimeout(() => { throw new Error('uncaught'); }); return new Promise(() => {}); } });
  app.http('exit', { handler: () => process.exit(0) });
  app.hook.appTerminate(() => console.log('terminated ' + process.pid));`;

const alive = (pid: string) => {
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch {
    return false;
  }
};

describe('a crash of the worker', () => {
  it.each([
    ['an unhandled rejection', 'reject', 'Error: unhandled'],
    ['an uncaught exception', 'throw', 'Error: uncaught'],
    ['process.exit', 'exit', 'has crashed: exit code 0'],
  ])('by %s answers the calls in flight 500 and is followed by a new worker', async (_what, path, shown) => {
    await using app = await startApp({ main });
    const first = (await call(app.host, '/api/pid')).text;
    const waiting = call(app.host, '/api/wait');
    await app.logged("Executing 'Functions.wait'");
    expect(await call(app.host, `/api/${path}`)).toMatchObject({ status: 500, text: '' });
    expect(await waiting).toMatchObject({ status: 500, text: '' });
    const second = await call(app.host, '/api/pid');
    expect(second.status).toBe(200);
    expect(second.text).not.toBe(first);
    await app.logged(shown);
  });

  it('stops the host when it is the third', async () => {
    await using app = await startApp({ main });
    for (let crash = 1; crash <= 2; crash += 1) {
      expect((await call(app.host, '/api/exit')).status).toBe(500);
      expect((await call(app.host, '/api/pid')).status).toBe(200);
    }
    expect((await call(app.host, '/api/exit')).status).toBe(500);
    await app.host.stopped;
    await expect(call(app.host, '/api/pid')).rejects.toThrow('ECONNREFUSED');
  });

  it('leaves a host that can be started again after it gave up', async () => {
    await using app = await startApp({ main });
    for (let crash = 1; crash <= 3; crash += 1) await call(app.host, '/api/exit');
    await app.host.stopped;
    await app.host.restart();
    expect((await call(app.host, '/api/pid')).status).toBe(200);
  });

  it('while the app is loading is tried three times, and then the host does not start', async () => {
    await expect(startApp({ main: 'process.exit(1);' })).rejects.toThrow('crashed too often');
  });
});

describe('a graceful stop', () => {
  it('runs appTerminate, ends the worker and closes the port', async () => {
    const lines: string[] = [];
    const app = await startApp({ main }, { log: (line) => lines.push(line) });
    const { text: pid } = await call(app.host, '/api/pid');
    expect(alive(pid)).toBe(true);
    await app[Symbol.asyncDispose]();
    expect(alive(pid)).toBe(false);
    expect(lines.join('\n')).toContain(`terminated ${pid}`);
    expect(lines.join('\n')).not.toContain('crashed');
    await expect(call(app.host, '/api/pid')).rejects.toThrow('ECONNREFUSED');
  });

  it('lets a call in flight finish first', async () => {
    const app = await startApp({ main });
    const slow = call(app.host, '/api/slow');
    await app.logged("Executing 'Functions.slow'");
    await app[Symbol.asyncDispose]();
    expect(await slow).toMatchObject({ status: 200, text: 'finished' });
  });

  it('happens at a restart, during which the port stays open and calls wait for the new worker', async () => {
    await using app = await startApp({ main });
    const { text: first } = await call(app.host, '/api/pid');
    const slow = call(app.host, '/api/slow');
    await app.logged("Executing 'Functions.slow'");
    const restarted = app.host.restart();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const meanwhile = call(app.host, '/api/pid');
    expect((await call(app.host, '/admin/host/ping')).status).toBe(200);
    await restarted;
    expect((await slow).text).toBe('finished');
    const { text: second } = await meanwhile;
    expect(second).not.toBe(first);
    expect((await call(app.host, '/api/pid')).text).toBe(second);
    await app.logged(`terminated ${first}`);
    expect(alive(first)).toBe(false);
  });

  it('waits ten seconds and no longer for a call that never ends', async () => {
    const app = await startApp({ main });
    const waiting = call(app.host, '/api/wait');
    await app.logged("Executing 'Functions.wait'");
    const begin = Date.now();
    await app[Symbol.asyncDispose]();
    expect(Date.now() - begin).toBeGreaterThan(9_000);
    expect(Date.now() - begin).toBeLessThan(20_000);
    expect((await waiting).status).toBe(500);
  });

  it('does not wait for an app that is still being loaded', async () => {
    const options = { main: 'main.mjs' };
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-app-'));
    writeFileSync(join(directory, 'host.json'), '{"version":"2.0"}');
    writeFileSync(
      join(directory, 'main.mjs'),
      'console.log("loading"); await new Promise(() => setInterval(() => {}, 1000));',
    );
    const log = new HostLog({ log: undefined, logFile: undefined });
    const gaveUp = () => {};
    const supervisor = new Supervisor({ directory, ...options, settings: {}, log }, { started: gaveUp, gaveUp });
    while (!log.lines().some((line) => line.includes('loading')))
      await new Promise((resolve) => setTimeout(resolve, 10));
    const begin = Date.now();
    await supervisor.stop();
    expect(Date.now() - begin).toBeLessThan(5_000);
    await expect(supervisor.worker()).rejects.toThrow('The host has stopped.');
    rmSync(directory, { recursive: true });
  });

  it('leaves Ctrl-C, which a terminal sends to the worker as well, to the host', async () => {
    await using app = await startApp({ main });
    const { text: pid } = await call(app.host, '/api/pid');
    process.kill(Number(pid), 'SIGINT');
    expect((await call(app.host, '/api/pid')).text).toBe(pid);
  });

  it('is not needed for the worker to end with its host: a host that is killed leaves no process', async () => {
    await using app = await startApp({ main });
    const host = JSON.stringify(new URL('../../../local/functions-host/host.ts', import.meta.url).href);
    const program = `const { startFunctionsHost } = await import(${host});
      console.log((await startFunctionsHost({ directory: ${JSON.stringify(app.directory)} })).url);`;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const url = String((await once(child.stdout, 'data'))[0]).trim();
    const pid = await (await fetch(`${url}/api/pid`)).text();
    child.kill('SIGKILL');
    const deadline = Date.now() + 5000;
    while (alive(pid) && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
    expect(alive(pid)).toBe(false);
  });

  it('twice is once', async () => {
    const app = await startApp({ main });
    await Promise.all([app.host.close(), app.host.close()]);
    await app[Symbol.asyncDispose]();
  });
});
