/**
 * The behaviours that Microsoft's public end-to-end tests of the Node worker check from outside
 * (github.com/Azure/azure-functions-nodejs-e2e-tests: http, hooks, timer, storage), re-expressed against this host.
 * Those on blobs, tables, Cosmos DB, Event Hubs, Service Bus and SQL need extensions that this host refuses.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { Agent, request } from 'node:http';
import { QueueClient } from '@azure/storage-queue';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { type Storage, startStorage } from '../../../local/storage/azurite.ts';
import { startApp, type TestApp } from './support.ts';

const megabyte = 1024 * 1024;

describe.each([
  ['not streaming', ''],
  ['streaming', 'app.setup({ enableHttpStream: true });'],
])('http, %s', (mode, setup) => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startApp({
      main: `${setup}
        const { setTimeout: sleep } = require('node:timers/promises');
        app.http('helloWorld', { handler: async (request) => ({ body: 'Hello, ' + (request.query.get('name') || (await request.text()) || 'world') + '!' }) });
        app.http('cookies', { handler: () => ({ cookies: [
          { name: 'first', value: '1', maxAge: 200000 },
          { name: 'second', value: '2', maxAge: '200000', path: '/' },
          { name: 'third', value: '3', maxAge: 0 },
          { name: 'lax', value: '4', sameSite: 'Lax' }, { name: 'strict', value: '5', sameSite: 'Strict' }] }) });
        app.http('delayed', { handler: async (request) => { const name = await request.text(); await sleep(Math.random() * 50); return { body: 'Hello, ' + name + '!' }; } });
        app.http('receive', { handler: async (request) => { let size = 0; for await (const chunk of request.body) size += chunk.length; return { body: 'Received ' + size }; } });
        app.http('send', { handler: (request) => { const count = Number(request.query.get('megabytes')); const chunk = Buffer.alloc(${megabyte}, 'x');
          return { body: require('node:stream').Readable.from((function* () { for (let n = 0; n < count; n += 1) yield chunk; })()) }; } });`,
    });
  });
  afterAll(() => app[Symbol.asyncDispose]());

  const url = (path: string) => `${app.host.url}/api/${path}`;
  const answered = async (response: Response) => [response.status, await response.text()];

  it('says hello, to a name in the body, to a name in the query', async () => {
    expect(await answered(await fetch(url('helloWorld')))).toEqual([200, 'Hello, world!']);
    expect(await answered(await fetch(url('helloWorld'), { method: 'POST', body: 'body' }))).toEqual([
      200,
      'Hello, body!',
    ]);
    expect(await answered(await fetch(url('helloWorld?name=query')))).toEqual([200, 'Hello, query!']);
  });

  it('is 404 without a body where there is no function', async () => {
    expect(await answered(await fetch(url('nobody')))).toEqual([404, '']);
  });

  it('sends cookies with their attributes', async () => {
    const response = await fetch(url('cookies'));
    expect(await answered(response)).toEqual([200, '']);
    // In lower case the two modes differ in nothing but the default path.
    const path = mode === 'streaming' ? '' : '; path=/';
    const cookies = response.headers.getSetCookie().map((cookie) => cookie.toLowerCase());
    expect(cookies).toEqual([
      `first=1; max-age=200000${path}`,
      'second=2; max-age=200000; path=/',
      `third=3; max-age=0${path}`,
      `lax=4${path}; samesite=lax`,
      `strict=5${path}; samesite=strict`,
    ]);
  });

  it('answers 1024 requests at once, each with its own data', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 128 });
    const ask = (name: string) =>
      new Promise<string>((resolve, reject) => {
        const sent = request(url('delayed'), { method: 'POST', agent }, async (response) => {
          let text = '';
          for await (const chunk of response) text += chunk;
          resolve(text);
        });
        sent.on('error', reject);
        sent.end(name);
      });
    const names = Array.from({ length: 1024 }, () => randomBytes(8).toString('hex'));
    const texts = await Promise.all(names.map(ask));
    agent.destroy();
    expect(texts).toEqual(names.map((name) => `Hello, ${name}!`));
  });

  it('takes and gives bodies of 32 MB', async () => {
    const body = Buffer.alloc(32 * megabyte, 'y');
    expect(await answered(await fetch(url('receive'), { method: 'POST', body }))).toEqual([
      200,
      `Received ${body.length}`,
    ]);
    const sent = await (await fetch(url('send?megabytes=32'))).arrayBuffer();
    expect(sent.byteLength).toBe(32 * megabyte);
  });
});

describe('hooks', () => {
  it('are announced in the log, see and change what the list says', async () => {
    await using app = await startApp({
      hostJson: { logging: { logLevel: { default: 'Debug' } } },
      main: `
        app.hook.appStart(() => console.log('appStart ran'));
        app.hook.preInvocation((context) => {
          context.invocationContext.log('pre with ' + context.inputs.map((each) => each.constructor.name));
          context.hookData.kept = 'kept by pre';
          context.inputs.push('extra input');
          const handler = context.functionHandler;
          context.functionHandler = (...args) => { context.invocationContext.log('log of the new handler'); return handler(...args); };
        });
        app.hook.postInvocation((context) => context.invocationContext.log('post with ' + context.error + ' ' + JSON.stringify(context.result) + ' ' + context.hookData.kept));
        app.hook.postInvocation(() => {});
        app.http('hooked', { handler: (request, extra, context) => { context.log('second input ' + extra); return { body: 'hooked' }; } });`,
    });
    await app.logged('Executing 1 "appStart" hooks');
    await app.logged('appStart ran');
    await app.logged('Executed "appStart" hooks');
    const response = await fetch(`${app.host.url}/api/hooked`, { method: 'POST' });
    expect([response.status, await response.text()]).toEqual([200, 'hooked']);
    await app.logged('Executing 1 "preInvocation" hooks');
    await app.logged('pre with HttpRequest');
    await app.logged('Executed "preInvocation" hooks');
    await app.logged('log of the new handler');
    await app.logged('second input extra input');
    await app.logged('Executing 2 "postInvocation" hooks');
    await app.logged('post with null {"body":"hooked"} kept by pre');
    await app.logged('Executed "postInvocation" hooks');
  });
});

describe('timer', () => {
  it('is triggered, and is retried until it passes', async () => {
    await using app = await startApp({
      main: `app.timer('plain', { schedule: '*/1 * * * * *', handler: (timer, context) => context.log('plain was triggered') });
        app.timer('retried', { schedule: '*/1 * * * * *', retry: { strategy: 'fixedDelay', maxRetryCount: 2, delayInterval: { milliseconds: 0 } },
          handler: (timer, context) => {
            const { retryCount } = context.retryContext;
            if (retryCount < 2) { context.log('error on attempt ' + retryCount); throw new Error('again'); }
            context.log('pass on attempt ' + retryCount);
          } });`,
    });
    await app.logged('plain was triggered');
    await app.logged('error on attempt 0');
    await app.logged('error on attempt 1');
    await app.logged('pass on attempt 2');
  });
});

describe('storage', () => {
  let storage: Storage;
  beforeAll(async () => {
    storage = await startStorage({ faults: new FaultSwitch() });
  });
  afterAll(() => storage.close());

  const main = `
    const connection = 'STORAGE';
    const second = output.storageQueue({ queueName: '%SECOND%', connection });
    app.storageQueue('first', { queueName: '%FIRST%', connection, return: second, handler: (message, context) => { context.log('first got ' + message); return message; } });
    app.storageQueue('second', { queueName: '%SECOND%', connection, handler: (message, context) => context.log('second got ' + message) });
    app.http('put', { extraOutputs: [second], handler: async (request, context) => { context.extraOutputs.set(second, (await request.json()).output); return { status: 201 }; } });`;
  const env = () => ({
    STORAGE: storage.connectionString,
    FIRST: `first-${randomUUID()}`,
    SECOND: `second-${randomUUID()}`,
  });

  it('triggers on a queue, whose output triggers the next', async () => {
    const settings = env();
    const queue = new QueueClient(storage.connectionString, settings.FIRST);
    await queue.create();
    await using app = await startApp({ main }, { env: settings });
    const text = randomBytes(8).toString('hex');
    await queue.sendMessage(Buffer.from(`m${text}`).toString('base64'));
    await app.logged(`first got m${text}`);
    await app.logged(`second got m${text}`);
  });

  it('puts one message, or each of a list, into a queue', async () => {
    await using app = await startApp({ main }, { env: env() });
    const put = async (value: unknown) =>
      (await fetch(`${app.host.url}/api/put`, { method: 'POST', body: JSON.stringify({ output: value }) })).status;
    expect(await put('single')).toBe(201);
    await app.logged('second got single');
    const many = Array.from({ length: 5 }, (_, index) => `bulk${index}`);
    expect(await put(many)).toBe(201);
    for (const each of many) await app.logged(`second got ${each}`);
  });
});
