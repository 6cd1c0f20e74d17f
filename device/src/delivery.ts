import { setTimeout as delay } from 'node:timers/promises';
import { telemetryMessage } from './client.ts';
import { GatepostDeviceError, reasonOf } from './errors.ts';
import type { Outbox } from './outbox.ts';
import type { Session } from './session.ts';
import { withTimeout } from './timeout.ts';

/** A message on its way. */
export interface Telemetry {
  body: Buffer;
  /** The same on every try, so that a consumer can drop a second delivery. */
  messageId: string;
  /** Where it came from, in words: `line 7`. */
  name: string;
  /** How often the gateway refused it, or cut the connection where nothing else can have been why. */
  refusals: number;
  /** What a spool needs to know when it is done with. */
  done?: () => void;
}

export interface DeliveryOptions {
  session: Session;
  outbox: Outbox<Telemetry>;
  acknowledgeMs: number;
  /** Whether nothing more is to be tried. */
  isOver(): boolean;
  onDelivered(item: Telemetry): void;
  onGivenUp(item: Telemetry, reason: string): void;
  /** How long a connection is watched before a suspicious message is sent on it. */
  settleMs: number;
}

/** A message that was refused this often is given up. */
export const mostRefusals = 5;
/** From so many on, it is sent alone, so that no other message is blamed for what it does. */
const suspicious = 3;
/** A cut that comes later than this after a message was sent is not for that message. */
const blamedMs = 10_000;

/** Errors by which the gateway judges one message; all the others say something about the connection. */
const judgements = [
  'MessageTooLargeError',
  'ArgumentError',
  'ArgumentOutOfRangeError',
  'FormatError',
  'InvalidOperationError',
  'NotImplementedError',
];

/** Sends what is in the outbox on one session, until all is acknowledged or the session is no more. */
export class Delivery {
  readonly #options: DeliveryOptions;
  /** Why the session was lost. */
  fault: GatepostDeviceError | undefined;
  #isSuperseded = false;
  #acknowledged = 0;
  #sentAt: number | undefined;

  constructor(options: DeliveryOptions) {
    this.#options = options;
  }

  /** Ends this session for a better one: what is under way is waited for, nothing more is sent. */
  supersede(): void {
    this.#isSuperseded = true;
    this.#options.outbox.wake();
  }

  async run(drainMs: number): Promise<void> {
    const { session, outbox } = this.#options;
    session.client.on('disconnect', (event: { transportObj?: unknown } | undefined) => {
      this.#lost(`the connection was lost (${reasonOf(event?.transportObj ?? 'closed by the gateway')})`, 'cut');
    });
    // Without a listener, an error of a link of AMQP would end the process.
    session.client.on('error', (error: unknown) => this.#lost(`the connection was lost: ${reasonOf(error)}`, 'other'));
    outbox.rewind();
    const isStopped = () => this.fault !== undefined || this.#isSuperseded || this.#options.isOver();
    await this.#sendAll(isStopped);
    await outbox.drained(isStopped);
    if (this.#isSuperseded && this.fault === undefined) {
      const timer = setTimeout(() => this.#lost('what was under way was not acknowledged in time', 'other'), drainMs);
      await outbox.quiet(() => this.fault !== undefined || this.#options.isOver());
      clearTimeout(timer);
    }
    session.client.removeAllListeners('disconnect');
  }

  async #sendAll(isStopped: () => boolean): Promise<void> {
    const { outbox, settleMs } = this.#options;
    const sdk = await import('./sdk.ts');
    const isAlone = (outbox.first?.refusals ?? 0) >= suspicious;
    outbox.limit(isAlone ? 1 : Number.POSITIVE_INFINITY);
    // A connection that is cut while it is idle is cut for another reason.
    if (isAlone) await delay(settleMs);
    for (;;) {
      const item = await outbox.take(isStopped);
      if (item === undefined) return;
      this.#sentAt ??= performance.now();
      void this.#send(sdk, item);
    }
  }

  async #send(sdk: typeof import('./sdk.ts'), item: Telemetry): Promise<void> {
    const { session, outbox, acknowledgeMs, onDelivered } = this.#options;
    try {
      const sent = session.client.sendEvent(telemetryMessage(sdk, item.body, item.messageId));
      const result = await withTimeout(sent, acknowledgeMs, 'the acknowledgement of a message');
      // AMQP: a message that the peer released is no error to the SDK, and no success either (sender_link.ts).
      if (result === undefined) throw new Error('the gateway gave a message back');
      this.#acknowledged += 1;
      outbox.limit(Number.POSITIVE_INFINITY);
      if (outbox.acknowledge(item)) onDelivered(item);
    } catch (error) {
      if (judgements.includes((error as Error)?.name)) await this.#refused(sdk, item, error);
      else this.#lost(`the connection was lost: ${reasonOf(error)}`, isCut(error) ? 'cut' : 'other');
    }
  }

  /** The gateway refused this one message and the connection stands: it is tried again, but not for ever. */
  async #refused(sdk: typeof import('./sdk.ts'), item: Telemetry, error: unknown): Promise<void> {
    item.refusals += 1;
    if (item.refusals >= mostRefusals) {
      this.#giveUp(item, `the gateway refused it ${mostRefusals} times (${(error as Error).name})`);
      return;
    }
    await delay(this.#options.settleMs);
    if (this.fault === undefined && !this.#options.isOver()) await this.#send(sdk, item);
  }

  #giveUp(item: Telemetry, reason: string): void {
    if (this.#options.outbox.acknowledge(item)) this.#options.onGivenUp(item, reason);
  }

  #lost(reason: string, how: 'cut' | 'other'): void {
    if (this.fault !== undefined) return;
    this.fault = new GatepostDeviceError('gateway_unreachable', reason);
    this.#blame(how);
    this.#options.outbox.wake();
  }

  /**
   * edgeHub closes the connection at a message that it does not take, without a word. It works in order, so a
   * connection that is cut soon after it began to send, and before anything was acknowledged, was cut for its oldest message,
   * or for a reason that has nothing to do with messages: hence the count, and the last tries alone.
   */
  #blame(how: 'cut' | 'other'): void {
    const { outbox } = this.#options;
    const item = outbox.first;
    if (item === undefined || this.#sentAt === undefined || outbox.underWay === 0) return;
    const isBlamed = how === 'cut' && this.#acknowledged === 0 && performance.now() - this.#sentAt < blamedMs;
    if (!isBlamed) {
      item.refusals = 0;
      return;
    }
    item.refusals += 1;
    if (item.refusals >= mostRefusals) {
      this.#giveUp(item, `the gateway cut the connection at it ${mostRefusals} times`);
    }
  }
}

/** Whether an operation failed because the peer closed the connection, and not for want of an answer. */
function isCut(error: unknown): boolean {
  const name = (error as Error)?.name;
  return name === 'NotConnectedError' || name === 'Error';
}
