import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { Backoff, type BackoffOptions } from './backoff.ts';
import { telemetryMessage } from './client.ts';
import { type DeviceErrorCode, GatepostDeviceError, reasonOf } from './errors.ts';
import { type BadLine, readTelemetry, type TelemetryLine } from './lines.ts';
import { Outbox } from './outbox.ts';
import { openSession, type Session, type SessionOptions } from './session.ts';
import { withTimeout } from './timeout.ts';
import { count } from './words.ts';

export interface RunOptions extends Omit<SessionOptions, 'sdkRetries'> {
  /** Newline-delimited JSON. */
  input: AsyncIterable<Uint8Array | string>;
  /** One line of progress or warning; never a secret, never telemetry. */
  log(line: string): void;
  /** Stops reading and ends the run. */
  signal: AbortSignal;
  /** How long to keep trying for the first connection, in milliseconds. Default 0: the first fault ends the run. */
  waitMs?: number;
  /** How long to keep trying to deliver what is left after the input has ended. Default 60 000. */
  flushMs?: number;
  /** The same after `signal`. Default 5 000. */
  stopMs?: number;
  /** How long the gateway may take to acknowledge one message. */
  acknowledgeMs?: number;
  /** Messages that are under way at once. */
  window?: number;
  backoff?: BackoffOptions;
}

export interface RunResult {
  delivered: number;
  /** Lines that were no telemetry. */
  refused: number;
}

interface Telemetry extends TelemetryLine {
  /** The same on every try, so that a consumer can drop a second delivery. */
  messageId: string;
}

/** A session that held this long was a good one: the next wait is short again. */
const steadyMs = 10_000;
/** Where another try with the same state cannot succeed, whatever the network does. */
const hopeless: DeviceErrorCode[] = ['credential_expired', 'credential_incomplete', 'document_invalid', 'internal'];

/**
 * Sends the input as telemetry until it ends, through lost connections. Delivery is at least once and in order but for
 * repetitions. Resolves when everything is acknowledged; throws the fault of the first connection, a fault that no
 * retry can cure, or the last one where lines could not be delivered in time.
 */
export async function run(options: RunOptions): Promise<RunResult> {
  return new Runner(options).run();
}

class Runner {
  readonly #options: RunOptions;
  readonly #outbox: Outbox<Telemetry>;
  readonly #backoff: Backoff;
  /** Aborted when nothing more is to be tried: all delivered, or out of time. */
  readonly #over = new AbortController();
  readonly #result: RunResult = { delivered: 0, refused: 0 };
  #inputFault: unknown;
  /** Lines that were read when the run was stopped and found no room any more. */
  #abandoned = 0;
  #deadline: NodeJS.Timeout | undefined;
  #lastFault: GatepostDeviceError | undefined;

  constructor(options: RunOptions) {
    this.#options = options;
    this.#outbox = new Outbox(options.window ?? 64);
    this.#backoff = new Backoff(options.backoff);
  }

  async run(): Promise<RunResult> {
    const { signal } = this.#options;
    const onStop = () => this.#endInput(this.#options.stopMs ?? 5_000);
    signal.addEventListener('abort', onStop, { once: true });
    if (signal.aborted) onStop();
    try {
      let session = await this.#first();
      if (session !== undefined) void this.#read();
      while (session !== undefined) {
        const isLost = await this.#deliver(session);
        await (isLost ? session.drop() : session.close());
        session = this.#isOver() ? undefined : await this.#again();
      }
    } finally {
      signal.removeEventListener('abort', onStop);
      this.#stop();
    }
    if (this.#inputFault !== undefined) throw this.#inputFault;
    if (this.#outbox.size + this.#abandoned > 0) throw this.#undelivered();
    return this.#result;
  }

  async #read(): Promise<void> {
    const onBad = ({ number, reason }: BadLine) => {
      this.#result.refused += 1;
      this.#options.log(`line ${number} ${reason}: not sent`);
    };
    try {
      for await (const line of readTelemetry(this.#options.input, onBad)) {
        if (await this.#outbox.put({ ...line, messageId: randomUUID() })) continue;
        this.#abandoned += 1;
        return;
      }
    } catch (error) {
      const reason = `The input cannot be read: ${reasonOf(error)}`;
      this.#inputFault = new GatepostDeviceError('usage', reason, { cause: error });
    }
    this.#endInput(this.#options.flushMs ?? 60_000);
  }

  /** Nothing more is read; what is left has this long. */
  #endInput(limitMs: number): void {
    this.#outbox.end();
    clearTimeout(this.#deadline);
    if (this.#outbox.isDone) this.#stop();
    if (!this.#isOver()) this.#deadline = setTimeout(() => this.#stop(), limitMs);
  }

  /** Sends on one session until all is acknowledged, the run is over, or the session is lost: then it answers true. */
  async #deliver(session: Session): Promise<boolean> {
    const { log } = this.#options;
    const { subject, notAfter } = session.peer.certificate;
    log(
      `connected to ${session.peer.address}, proven by root ${session.peer.rootSha256} (certificate ${subject}, valid to ${notAfter.toISOString()})`,
    );
    const begun = performance.now();
    const lost = new Lost(() => this.#outbox.wake());
    session.client.on('disconnect', (event: { transportObj?: unknown } | undefined) => {
      lost.because(
        new GatepostDeviceError(
          'gateway_unreachable',
          `the connection was lost (${reasonOf(event?.transportObj ?? 'closed by the gateway')})`,
        ),
      );
    });
    this.#outbox.rewind();
    const isStopped = () => lost.fault !== undefined || this.#isOver();
    await this.#sendAll(session, lost, isStopped);
    await this.#outbox.drained(isStopped);
    session.client.removeAllListeners('disconnect');
    if (this.#outbox.isDone) this.#stop();
    if (performance.now() - begun >= steadyMs) this.#backoff.reset();
    if (lost.fault === undefined) return false;
    this.#lastFault = lost.fault;
    if (!this.#isOver()) log(`${lost.fault.message}; not acknowledged yet: ${count(this.#outbox.size, 'line')}`);
    return true;
  }

  async #sendAll(session: Session, lost: Lost, isStopped: () => boolean): Promise<void> {
    const sdk = await import('./sdk.ts');
    for (;;) {
      const item = await this.#outbox.take(isStopped);
      if (item === undefined) return;
      const sent = session.client.sendEvent(telemetryMessage(sdk, item.body, item.messageId));
      withTimeout(sent, this.#options.acknowledgeMs ?? 30_000, 'the acknowledgement of a message').then(
        () => {
          if (this.#outbox.acknowledge(item)) this.#result.delivered += 1;
        },
        (error: unknown) =>
          lost.because(new GatepostDeviceError('gateway_unreachable', `the connection was lost: ${reasonOf(error)}`)),
      );
    }
  }

  /** The first connection, within the time that was given for it; undefined where the run was stopped before. */
  async #first(): Promise<Session | undefined> {
    const deadline = performance.now() + (this.#options.waitMs ?? 0);
    while (!this.#isOver()) {
      const opened = await this.#open();
      if (!(opened instanceof GatepostDeviceError)) return opened;
      const waitMs = this.#backoff.next();
      if (hopeless.includes(opened.code) || performance.now() + waitMs > deadline) throw opened;
      this.#options.log(`${opened.message} Trying again in ${seconds(waitMs)}.`);
      await this.#pause(waitMs);
    }
    return undefined;
  }

  /** Reconnects, however long it takes; undefined where the run is over before. */
  async #again(): Promise<Session | undefined> {
    while (!this.#isOver()) {
      const waitMs = this.#backoff.next();
      this.#options.log(`trying again in ${seconds(waitMs)}`);
      await this.#pause(waitMs);
      if (this.#isOver()) return undefined;
      const opened = await this.#open();
      if (!(opened instanceof GatepostDeviceError)) return opened;
      if (hopeless.includes(opened.code)) throw opened;
      this.#lastFault = opened;
      this.#options.log(opened.message);
    }
    return undefined;
  }

  /** A session, why there is none, or undefined where the run was over first. */
  #open(): Promise<Session | GatepostDeviceError | undefined> {
    const over = this.#over.signal;
    return new Promise((resolve, reject) => {
      const giveUp = () => resolve(undefined);
      over.addEventListener('abort', giveUp, { once: true });
      openSession({ ...this.#options, sdkRetries: false })
        .then(
          (session) => (over.aborted ? session.close() : resolve(session)),
          (error: unknown) => (error instanceof GatepostDeviceError ? resolve(error) : reject(error)),
        )
        .finally(() => over.removeEventListener('abort', giveUp));
    });
  }

  async #pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#over.signal }).catch(() => {});
  }

  #isOver(): boolean {
    return this.#over.signal.aborted;
  }

  #stop(): void {
    clearTimeout(this.#deadline);
    this.#over.abort();
    this.#outbox.wake();
  }

  #undelivered(): GatepostDeviceError {
    const why = this.#lastFault === undefined ? 'The gateway acknowledged too slowly.' : this.#lastFault.message;
    return new GatepostDeviceError(
      this.#lastFault?.code ?? 'gateway_unreachable',
      `Not delivered: ${count(this.#outbox.size + this.#abandoned, 'line')}. ${why}`,
    );
  }
}

/** The first reason for which a session ended. */
class Lost {
  readonly #onLost: () => void;
  fault: GatepostDeviceError | undefined;

  constructor(onLost: () => void) {
    this.#onLost = onLost;
  }

  because(fault: GatepostDeviceError): void {
    this.fault ??= fault;
    this.#onLost();
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
