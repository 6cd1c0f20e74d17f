import { setTimeout as sleep } from 'node:timers/promises';
import type { IndexedFunction } from './function-index.ts';
import type { QueueSettings } from './host-json.ts';
import type { Invoker } from './invoker.ts';
import type { HostLog } from './log.ts';
import type { Binding, TypedData } from './protocol.ts';
import { queueClientOf, toMessages } from './queue-client.ts';
import { QueueListener } from './queue-listener.ts';
import type { Settings } from './settings.ts';
import { TimerListener } from './timers.ts';

interface Listener {
  start(): void;
  stop(): Promise<void>;
  /** Runs the function once, now, outside its trigger. */
  trigger(input: string): Promise<void>;
}

/** The timers and queues of an app, and what its functions write to queues. */
export class Triggers {
  readonly #invoker: Invoker;
  readonly #queues: QueueSettings;
  readonly #settings: Settings;
  readonly #log: HostLog;
  readonly #listeners = new Map<string, Listener>();
  #starting: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(invoker: Invoker, queues: QueueSettings, settings: Settings, log: HostLog) {
    this.#invoker = invoker;
    this.#queues = queues;
    this.#settings = settings;
    this.#log = log;
  }

  /**
   * Starts what is not started yet: after a crash, the new worker takes over the listeners of the old one. A trigger that
   * cannot be started takes no other with it.
   */
  start(functions: IndexedFunction[]): void {
    this.#starting = this.#starting.then(() => this.#start(functions));
  }

  async #start(functions: IndexedFunction[]): Promise<void> {
    for (const target of functions) {
      if (target.http !== undefined || this.#listeners.has(target.name)) continue;
      try {
        const listener = await this.#listen(target);
        if (this.#stopped) return;
        this.#listeners.set(target.name, listener);
        if (!target.disabled) listener.start();
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        this.#log.write(
          'error',
          'Host.Startup',
          `The listener for function '${target.name}' was unable to start: ${reason}`,
        );
      }
    }
  }

  /** Starts nothing more and waits for what is running, but not for longer than the grace. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    await this.#starting;
    const stopped = Promise.all([...this.#listeners.values()].map((listener) => listener.stop()));
    const grace = new AbortController();
    await Promise.race([stopped, sleep(graceMs, undefined, { signal: grace.signal })]);
    grace.abort();
  }

  /** What the admin API asks for; nobody waits for the outcome, so it goes to the log. */
  async trigger(target: IndexedFunction, input: string): Promise<void> {
    await this.#starting;
    const listener = this.#listeners.get(target.name);
    if (listener === undefined) {
      const reason = `Function '${target.name}' has no listener that could be triggered by hand.`;
      this.#log.write('error', `Function.${target.name}`, reason);
      return;
    }
    // The invoker logs a failure.
    await listener.trigger(input).catch(() => {});
  }

  /** Writes an output binding: the queue is made where it does not exist. */
  async write(binding: Binding, value: TypedData): Promise<void> {
    const queue = await queueClientOf(binding, this.#settings);
    for (const message of toMessages(value)) {
      const text = this.#queues.messageEncoding === 'base64' ? message.toString('base64') : message.toString();
      await sendCreating(queue, text);
    }
    for (const listener of this.#listeners.values()) {
      if (listener instanceof QueueListener && listener.queueName === queue.name) listener.wake();
    }
  }

  async #listen(target: IndexedFunction): Promise<Listener> {
    if (target.trigger.type.toLowerCase() === 'timertrigger') return new TimerListener(target, this.#invoker);
    const queue = await queueClientOf(target.trigger, this.#settings);
    const poisonQueue = await queueClientOf({ ...target.trigger, queueName: `${queue.name}-poison` }, this.#settings);
    return new QueueListener({
      target,
      queue,
      poisonQueue,
      settings: this.#queues,
      invoker: this.#invoker,
      log: this.#log,
    });
  }
}

async function sendCreating(
  queue: { sendMessage(text: string): Promise<unknown>; create(): Promise<unknown> },
  text: string,
): Promise<void> {
  try {
    await queue.sendMessage(text);
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode !== 404) throw error;
    await queue.create().catch((made: unknown) => {
      // Another writer was faster.
      if ((made as { statusCode?: number }).statusCode !== 409) throw made;
    });
    await queue.sendMessage(text);
  }
}
