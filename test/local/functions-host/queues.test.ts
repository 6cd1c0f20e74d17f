import { randomUUID } from 'node:crypto';
import { type QueueClient, QueueServiceClient } from '@azure/storage-queue';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { type Storage, startStorage } from '../../../local/storage/azurite.ts';
import { call, startApp } from './support.ts';

const base64 = (text: string) => Buffer.from(text).toString('base64');
const unbase64 = (text: string | undefined) => Buffer.from(text ?? '', 'base64').toString();
const queues = (settings: object) => ({ extensions: { queues: { maxPollingInterval: '00:00:00.2', ...settings } } });

describe('queue triggers', () => {
  let storage: Storage;
  let service: QueueServiceClient;
  beforeAll(async () => {
    storage = await startStorage({ faults: new FaultSwitch() });
    service = QueueServiceClient.fromConnectionString(storage.connectionString);
  });
  afterAll(() => storage.close());

  /** A queue of this test alone, and the options of a host that reads from it. */
  async function newQueue(create = true) {
    const queue = service.getQueueClient(`q-${randomUUID()}`);
    if (create) await queue.create();
    const options = { storageConnectionString: storage.connectionString, env: { QUEUE: queue.name } };
    return { queue, poison: service.getQueueClient(`${queue.name}-poison`), options };
  }

  async function eventually<T>(look: () => Promise<T | undefined>, what: string, timeoutMs = 15_000): Promise<T> {
    const deadline = Date.now() + timeoutMs;
    while (Date.now() < deadline) {
      const found = await look();
      if (found !== undefined) return found;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`In vain: ${what}`);
  }

  const emptied = (queue: QueueClient) =>
    eventually(async () => {
      const { approximateMessagesCount } = await queue.getProperties();
      return approximateMessagesCount === 0 ? true : undefined;
    }, 'the queue is emptied');

  const peeked = (queue: QueueClient) =>
    eventually(async () => {
      if (!(await queue.exists())) return undefined;
      return (await queue.peekMessages()).peekedMessageItems[0];
    }, `a message in ${queue.name}`);

  const logging = `app.storageQueue('work', { queueName: '%QUEUE%', connection: 'AzureWebJobsStorage',
    handler: (message, context) => context.log('got', typeof message, JSON.stringify(message), JSON.stringify(context.triggerMetadata)) });`;

  it('get the decoded message, parsed when it is JSON, and delete it after', async () => {
    const { queue, options } = await newQueue();
    await queue.sendMessage(base64('{"a":[1]}'));
    await queue.sendMessage(base64('plain täxt'));
    await using app = await startApp({ main: logging, hostJson: queues({}) }, options);
    await app.logged('got object {"a":[1]}');
    await app.logged('got string "plain täxt"');
    await emptied(queue);
  });

  it('get metadata with keys in camel case', async () => {
    const { queue, options } = await newQueue();
    const sent = await queue.sendMessage(base64('text'));
    await using app = await startApp({ main: logging, hostJson: queues({}) }, options);
    const line = await app.logged('got string "text"');
    const date = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$/);
    expect(JSON.parse(line.slice(line.indexOf('"text"') + 7))).toEqual({
      id: sent.messageId,
      dequeueCount: 1,
      insertionTime: date,
      expirationTime: date,
      nextVisibleTime: date,
      popReceipt: expect.any(String),
      queueTrigger: 'text',
    });
  });

  it('see a message that comes later, in a queue that is made later', async () => {
    const { queue, options } = await newQueue(false);
    await using app = await startApp({ main: logging, hostJson: queues({}) }, options);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await queue.create();
    await queue.sendMessage(base64('late'));
    await app.logged('got string "late"');
    expect(app.host.logs().join('\n')).not.toContain('cannot be read');
  });

  it('try a failing message five times, count them, and move it as it is to the poison queue', async () => {
    const { queue, poison, options } = await newQueue();
    await queue.sendMessage(base64('bad'));
    await using app = await startApp(
      {
        hostJson: queues({}),
        main: `app.storageQueue('work', { queueName: '%QUEUE%', connection: 'AzureWebJobsStorage',
          handler: (message, context) => { context.log('try', context.triggerMetadata.dequeueCount); throw new Error('bad message'); } });`,
      },
      options,
    );
    expect((await peeked(poison)).messageText).toBe(base64('bad'));
    await emptied(queue);
    const tries = app.host.logs().filter((line) => line.includes('work.User: try'));
    expect(tries.map((line) => line.slice(-1))).toEqual(['1', '2', '3', '4', '5']);
    await app.logged('Message has reached MaxDequeueCount');
  });

  it('wait for visibilityTimeout between tries, and give up after maxDequeueCount', async () => {
    const { queue, poison, options } = await newQueue();
    await queue.sendMessage(base64('bad'));
    const begin = Date.now();
    await using app = await startApp(
      {
        hostJson: queues({ maxDequeueCount: 2, visibilityTimeout: '00:00:02' }),
        main: `app.storageQueue('work', { queueName: '%QUEUE%', connection: 'AzureWebJobsStorage',
          handler: (message, context) => { context.log('try'); throw new Error('bad message'); } });`,
      },
      options,
    );
    await peeked(poison);
    expect(Date.now() - begin).toBeGreaterThan(1900);
    expect(app.host.logs().filter((line) => line.includes('work.User: try')).length).toBe(2);
  });

  it('never hand a message that is not Base64 to the function: it becomes poison', async () => {
    const { queue, poison, options } = await newQueue();
    await queue.sendMessage('not base64!');
    await using app = await startApp({ main: logging, hostJson: queues({ maxDequeueCount: 1 }) }, options);
    expect((await peeked(poison)).messageText).toBe('not base64!');
    expect(app.host.logs().join('\n')).not.toContain('got ');
  });

  it('read and write plain text where messageEncoding is none', async () => {
    const { queue, options } = await newQueue();
    const answers = service.getQueueClient(`${queue.name}-out`);
    await queue.sendMessage('plain');
    await using _app = await startApp(
      {
        hostJson: queues({ messageEncoding: 'none' }),
        main: `app.storageQueue('work', { queueName: '%QUEUE%', connection: 'AzureWebJobsStorage',
          return: output.storageQueue({ queueName: '%QUEUE%-out', connection: 'AzureWebJobsStorage' }), handler: (message) => message + '!' });`,
      },
      options,
    );
    expect((await peeked(answers)).messageText).toBe('plain!');
  });

  it('work on at most batchSize and newBatchThreshold together', async () => {
    const { queue, options } = await newQueue();
    for (let n = 0; n < 6; n += 1) await queue.sendMessage(base64(`m${n}`));
    await using app = await startApp(
      {
        hostJson: queues({ batchSize: 2, newBatchThreshold: 0 }),
        main: `let running = 0;
          app.storageQueue('work', { queueName: '%QUEUE%', connection: 'AzureWebJobsStorage', handler: async (message, context) => {
            running += 1; context.log('running', running); await new Promise((resolve) => setTimeout(resolve, 100)); running -= 1; } });`,
      },
      options,
    );
    await emptied(queue);
    const seen = app.host.logs().filter((line) => line.includes('User: running'));
    expect(seen.length).toBe(6);
    expect(Math.max(...seen.map((line) => Number(line.slice(-1))))).toBe(2);
  });

  it('give a message back to the queue when the worker dies over it', async () => {
    const { queue, options } = await newQueue();
    await queue.sendMessage(base64('dangerous'));
    await using app = await startApp(
      {
        hostJson: queues({}),
        main: `app.storageQueue('work', { queueName: '%QUEUE%', connection: 'AzureWebJobsStorage', handler: (message, context) => {
          if (context.triggerMetadata.dequeueCount === 1) process.exit(1);
          context.log('survived', context.triggerMetadata.dequeueCount); } });`,
      },
      options,
    );
    await app.logged('survived 2');
    await emptied(queue);
  });

  it('finish the message in flight before the host stops, and leave the rest', async () => {
    const { queue, options } = await newQueue();
    const lines: string[] = [];
    const app = await startApp(
      {
        hostJson: queues({ batchSize: 1, newBatchThreshold: 0 }),
        main: `app.storageQueue('work', { queueName: '%QUEUE%', connection: 'AzureWebJobsStorage', handler: async (message, context) => {
          context.log('begin', message); await new Promise((resolve) => setTimeout(resolve, 500)); context.log('end', message); } });`,
      },
      { ...options, log: (line) => lines.push(line) },
    );
    await queue.sendMessage(base64('one'));
    await queue.sendMessage(base64('two'));
    await app.logged('begin one');
    await app[Symbol.asyncDispose]();
    expect(lines.join('\n')).toContain('end one');
    expect(lines.join('\n')).not.toContain('begin two');
    expect(
      (await queue.receiveMessages()).receivedMessageItems.map(({ messageText }) => unbase64(messageText)),
    ).toEqual(['two']);
  });

  it('do not run while their function is disabled, but by the admin API', async () => {
    const { queue, options } = await newQueue();
    await queue.sendMessage(base64('ignored'));
    await using app = await startApp(
      { main: logging, hostJson: queues({}) },
      { ...options, env: { ...options.env, 'AzureWebJobs.work.Disabled': 'true' } },
    );
    await app.host.invoke('work', { by: 'hand' });
    await app.logged('got object {"by":"hand"}');
    expect(app.host.logs().join('\n')).not.toContain('ignored');
  });

  it('that cannot be reached or are not defined keep no other function from working', async () => {
    await using app = await startApp({
      main: `app.http('hello', { handler: () => ({ body: 'Hello' }) });
        app.storageQueue('undefined', { queueName: 'some-queue', connection: 'NOT_A_SETTING', handler: () => {} });
        app.storageQueue('unnamed', { queueName: 'Not_A_Name', connection: 'AzureWebJobsStorage', handler: () => {} });`,
    });
    await app.logged(
      "The listener for function 'undefined' was unable to start: Storage account connection string 'NOT_A_SETTING' does not exist.",
    );
    await app.logged(
      "The listener for function 'unnamed' was unable to start: 'not_a_name' is not a valid queue name.",
    );
    expect((await call(app.host, '/api/hello')).text).toBe('Hello');
  });
});

describe('queue outputs', () => {
  let storage: Storage;
  let service: QueueServiceClient;
  beforeAll(async () => {
    storage = await startStorage({ faults: new FaultSwitch() });
    service = QueueServiceClient.fromConnectionString(storage.connectionString);
  });
  afterAll(() => storage.close());

  it.each([
    ["'text'", ['text']],
    ['{ a: 1 }', ['{"a":1}']],
    ["['x', { y: 1 }]", ['x', '{"y":1}']],
    ['7', ['7']],
    ["Buffer.from('bytes')", ['bytes']],
    ['undefined', []],
  ])('turn %s into the messages %j, in a queue that they make', async (value, expected) => {
    const name = `out-${randomUUID()}`;
    await using app = await startApp(
      {
        main: `const out = output.storageQueue({ queueName: '%QUEUE%', connection: 'AzureWebJobsStorage' });
          app.http('put', { extraOutputs: [out], handler: (request, context) => { context.extraOutputs.set(out, ${value}); return { status: 202 }; } });`,
      },
      { storageConnectionString: storage.connectionString, env: { QUEUE: name } },
    );
    expect((await call(app.host, '/api/put')).status).toBe(202);
    const queue = service.getQueueClient(name);
    if (expected.length === 0) return expect(await queue.exists()).toBe(false);
    const { receivedMessageItems } = await queue.receiveMessages({ numberOfMessages: 32 });
    expect(receivedMessageItems.map(({ messageText }) => unbase64(messageText)).sort()).toEqual([...expected].sort());
  });

  it('wake the trigger of the same queue at once, whatever its polling interval', async () => {
    const name = `out-${randomUUID()}`;
    await using app = await startApp(
      {
        main: `const out = output.storageQueue({ queueName: '%QUEUE%', connection: 'AzureWebJobsStorage' });
          app.http('put', { extraOutputs: [out], handler: (request, context) => { context.extraOutputs.set(out, 'now'); return {}; } });
          app.storageQueue('work', { queueName: '%QUEUE%', connection: 'AzureWebJobsStorage', handler: (message, context) => context.log('got', message) });`,
      },
      { storageConnectionString: storage.connectionString, env: { QUEUE: name } },
    );
    // Long enough for the poll to have backed off to seconds: 100 ms, 200, 400, 800, 1600, 3200.
    await new Promise((resolve) => setTimeout(resolve, 3500));
    await call(app.host, '/api/put');
    await app.logged('got now', 2000);
  });

  it('that fail make the call fail', async () => {
    await using app = await startApp({
      main: `const out = output.storageQueue({ queueName: 'some-queue', connection: 'NOT_A_SETTING' });
        app.http('put', { extraOutputs: [out], handler: (request, context) => { context.extraOutputs.set(out, 'x'); return {}; } });`,
    });
    expect(await call(app.host, '/api/put')).toMatchObject({ status: 500, text: '' });
  });
});
