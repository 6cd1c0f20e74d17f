import type { DequeuedMessageItem, QueueClient } from '@azure/storage-queue';
import type { IndexedFunction } from './function-index.ts';
import type { QueueSettings } from './host-json.ts';
import type { Invoker } from './invoker.ts';
import type { HostLog } from './log.ts';
import type { TypedData } from './protocol.ts';

/** How long a message that is being worked on stays invisible; renewed at half of it. */
const invisibleMs = 10 * 60_000;
const shortestPollMs = 100;

export interface QueueListenerOptions {
  target: IndexedFunction;
  queue: QueueClient;
  poisonQueue: QueueClient;
  settings: QueueSettings;
  invoker: Invoker;
  log: HostLog;
}

/** Feeds one queue to one function (azure-webjobs-sdk QueueListener and QueueProcessor). */
export class QueueListener {
  readonly #options: QueueListenerOptions;
  readonly #stopping = new AbortController();
  readonly #inFlight = new Set<Promise<void>>();
  #endPause: () => void = () => {};
  /** Remembers a wake-up that comes while the queue is being read, which may have been too late for that reading. */
  #woken = false;
  #polling: Promise<void> = Promise.resolve();

  constructor(options: QueueListenerOptions) {
    this.#options = options;
  }

  get queueName(): string {
    return this.#options.queue.name;
  }

  start(): void {
    this.#polling = this.#poll();
  }

  /** Looks at the queue at once: this host has just put something into it. */
  wake(): void {
    this.#woken = true;
    this.#endPause();
  }

  /** Takes no more messages and waits for those in flight. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#endPause();
    await this.#polling;
    await Promise.all(this.#inFlight);
  }

  async trigger(input: string): Promise<void> {
    await this.#options.invoker.run(this.#options.target, {
      data: { string: input },
      triggerMetadata: { DequeueCount: { int: 0 }, QueueTrigger: { string: input } },
      reason: 'This function was programmatically called via the host APIs.',
    });
  }

  async #poll(): Promise<void> {
    const { settings } = this.#options;
    let wait = shortestPollMs;
    while (!this.#stopping.signal.aborted) {
      if (this.#inFlight.size > settings.newBatchThreshold) {
        await Promise.race(this.#inFlight);
        continue;
      }
      const messages = await this.#receive();
      for (const message of messages) this.#begin(message);
      if (messages.length > 0) {
        wait = shortestPollMs;
        continue;
      }
      const woken = await this.#pause(wait);
      wait = woken ? shortestPollMs : Math.min(wait * 2, settings.maxPollingInterval);
    }
  }

  /** Answers whether something woke the listener before its time. */
  async #pause(milliseconds: number): Promise<boolean> {
    if (!this.#woken && !this.#stopping.signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        this.#endPause = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    const woken = this.#woken;
    this.#woken = false;
    return woken;
  }

  async #receive(): Promise<DequeuedMessageItem[]> {
    const { queue, settings, log, target } = this.#options;
    try {
      const received = await queue.receiveMessages({
        numberOfMessages: settings.batchSize,
        visibilityTimeout: invisibleMs / 1000,
        abortSignal: this.#stopping.signal,
      });
      return received.receivedMessageItems;
    } catch (error) {
      // A queue that does not exist is an empty one.
      const isMissing = (error as { statusCode?: number }).statusCode === 404;
      if (!isMissing && !this.#stopping.signal.aborted) {
        log.write('error', `Function.${target.name}`, `The queue "${queue.name}" cannot be read: ${String(error)}`);
      }
      return [];
    }
  }

  #begin(message: DequeuedMessageItem): void {
    const work = this.#process(message)
      .catch((error: unknown) => {
        const { log, target } = this.#options;
        log.write('error', `Function.${target.name}`, `Message ${message.messageId}: ${String(error)}`);
      })
      .finally(() => this.#inFlight.delete(work));
    this.#inFlight.add(work);
  }

  async #process(message: DequeuedMessageItem): Promise<void> {
    const { queue, settings } = this.#options;
    let receipt = message.popReceipt;
    let renewing: Promise<void> = Promise.resolve();
    const renewal = setInterval(() => {
      renewing = queue.updateMessage(message.messageId, receipt, undefined, invisibleMs / 1000).then(
        (renewed) => {
          receipt = renewed.popReceipt ?? receipt;
        },
        () => {},
      );
    }, invisibleMs / 2);
    let succeeded = true;
    try {
      await this.#invoke(message);
    } catch {
      succeeded = false;
    } finally {
      clearInterval(renewal);
      await renewing;
    }
    if (!succeeded && message.dequeueCount < settings.maxDequeueCount) {
      await queue.updateMessage(message.messageId, receipt, undefined, Math.ceil(settings.visibilityTimeout / 1000));
      if (settings.visibilityTimeout === 0) this.wake();
      return;
    }
    if (!succeeded) await this.#poison(message);
    await queue.deleteMessage(message.messageId, receipt);
  }

  async #invoke(message: DequeuedMessageItem): Promise<void> {
    const { invoker, target, settings } = this.#options;
    const text = settings.messageEncoding === 'base64' ? decodeBase64(message.messageText) : message.messageText;
    await invoker.run(target, {
      data: { string: text },
      triggerMetadata: metadataOf(message, text),
      reason: `New queue message detected on '${this.queueName}'.`,
    });
  }

  /** Moves a message, exactly as it came, to `QUEUE-poison`. */
  async #poison(message: DequeuedMessageItem): Promise<void> {
    const { poisonQueue, log, target } = this.#options;
    log.write(
      'warning',
      `Function.${target.name}`,
      `Message has reached MaxDequeueCount. Moving it to ${poisonQueue.name}.`,
    );
    await poisonQueue.createIfNotExists();
    await poisonQueue.sendMessage(message.messageText, { messageTimeToLive: -1 });
  }
}

function decodeBase64(text: string): string {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4 !== 0) throw new Error('The message is not Base64.');
  return Buffer.from(text, 'base64').toString();
}

function metadataOf(message: DequeuedMessageItem, text: string): Record<string, TypedData> {
  const date = (value: Date) => ({ json: JSON.stringify(value.toISOString().replace('.000Z', '+00:00')) });
  return {
    Id: { string: message.messageId },
    DequeueCount: { int: message.dequeueCount },
    InsertionTime: date(message.insertedOn),
    ExpirationTime: date(message.expiresOn),
    NextVisibleTime: date(message.nextVisibleOn),
    PopReceipt: { string: message.popReceipt },
    QueueTrigger: { string: text },
  };
}
