import { setTimeout as delay } from 'node:timers/promises';
import { Backoff, type BackoffOptions } from './backoff.ts';
import { Delivery, type Telemetry } from './delivery.ts';
import { type DeviceErrorCode, GatepostDeviceError } from './errors.ts';
import { Intake } from './intake.ts';
import type { Change, Keeper } from './keeper.ts';
import type { Listener } from './listen.ts';
import { Outbox } from './outbox.ts';
import { stormMessage } from './pace.ts';
import { openSession, type Session, type SessionOptions } from './session.ts';
import type { Spool } from './spool.ts';
import { count } from './words.ts';

export interface RunOptions extends Omit<SessionOptions, 'sdkRetries' | 'pace'> {
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
  /** Keeps token, trust and gateway fresh; without one, the document is used as it is. */
  keeper?: Keeper | undefined;
  /** Holds on disk what is not delivered yet. */
  spool?: Spool | undefined;
  /** Takes what comes down from the cloud, on each session. */
  listener?: Listener | undefined;
  /** Told when the run stands (with the peer's address), waits, or stops. */
  onState?: ((state: 'connected' | 'waiting' | 'stopping', words: string) => void) | undefined;
  /** Opens a session in another way than from the document. */
  open?: ((options: SessionOptions) => Promise<Session>) | undefined;
  /** How long a connection is watched before a suspicious message is sent on it alone. Default 1 000. */
  settleMs?: number;
}

export interface RunResult {
  delivered: number;
  /** Lines that were no telemetry. */
  refused: number;
  /** Messages that the gateway would not take. */
  givenUp?: number;
  /** Messages that fell out of a full spool. */
  dropped?: number;
}

/** A session that held this long was a good one: the next wait is short again. */
const steadyMs = 10_000;
/** So many sessions in a row that did not hold are no accident. */
const stormAfter = 5;
/** Where another try with the same state cannot succeed, whatever the network does. */
const hopeless: DeviceErrorCode[] = [
  'credential_expired',
  'credential_incomplete',
  'document_invalid',
  'internal',
  'not_supported',
];

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
  readonly #intake: Intake;
  readonly #backoff: Backoff;
  /** Aborted when nothing more is to be tried: all delivered, or out of time. */
  readonly #over = new AbortController();
  readonly #result: RunResult = { delivered: 0, refused: 0 };
  #deadline: NodeJS.Timeout | undefined;
  #lastFault: GatepostDeviceError | undefined;
  #delivery: Delivery | undefined;
  #shortSessions = 0;
  /** Ends the wait for the next try. */
  #hurry: () => void = () => {};

  constructor(options: RunOptions) {
    this.#options = options;
    this.#outbox = new Outbox(options.window ?? 64);
    this.#backoff = new Backoff(options.backoff);
    this.#intake = new Intake({
      input: options.input,
      outbox: this.#outbox,
      spool: options.spool,
      onBad: ({ number, reason }) => {
        this.#result.refused += 1;
        options.log(`line ${number} ${reason}: not sent`);
      },
      onEnd: () => this.#endInput(options.flushMs ?? 60_000),
      log: options.log,
    });
  }

  async run(): Promise<RunResult> {
    const { signal, keeper, spool } = this.#options;
    const onStop = () => this.#endInput(this.#options.stopMs ?? 5_000);
    signal.addEventListener('abort', onStop, { once: true });
    if (signal.aborted) onStop();
    const forget = keeper?.onChange((change) => this.#changed(change));
    // What is spooled is safe: it is read while the gateway is still away.
    if (spool !== undefined) this.#intake.start();
    try {
      await keeper?.renewExpired();
      let session = await this.#first();
      if (session !== undefined) this.#intake.start();
      while (session !== undefined) {
        const fault = await this.#deliver(session);
        await (fault === undefined ? session.close() : session.drop());
        session = this.#isOver() ? undefined : await this.#again(fault);
      }
    } finally {
      forget?.();
      signal.removeEventListener('abort', onStop);
      this.#stop();
      await spool?.close();
    }
    return this.#settle();
  }

  #settle(): RunResult {
    if (this.#intake.fault !== undefined) throw this.#intake.fault;
    const { spool } = this.#options;
    if (spool !== undefined && spool.dropped > 0) this.#result.dropped = spool.dropped;
    const left = spool?.size ?? this.#outbox.size + this.#intake.abandoned;
    if (left === 0) return this.#result;
    const why = this.#lastFault === undefined ? 'The gateway acknowledged too slowly.' : this.#lastFault.message;
    const kept = spool === undefined ? '' : ', kept in the spool for the next run';
    throw new GatepostDeviceError(
      this.#lastFault?.code ?? 'gateway_unreachable',
      `Not delivered: ${count(left, 'line')}${kept}. ${why}`,
    );
  }

  /** Nothing more is read; what is left has this long. */
  #endInput(limitMs: number): void {
    this.#options.onState?.('stopping', 'delivering what is left');
    this.#intake.end();
    clearTimeout(this.#deadline);
    if (this.#outbox.isDone) this.#stop();
    if (!this.#isOver()) this.#deadline = setTimeout(() => this.#stop(), limitMs);
  }

  /** Sends on one session until all is acknowledged, the run is over, or another session is due. Answers why it was lost. */
  async #deliver(session: Session): Promise<GatepostDeviceError | undefined> {
    const { log, keeper, listener, onState } = this.#options;
    const { subject, notAfter } = session.peer.certificate;
    const proof = `proven by root ${session.peer.rootSha256} (certificate ${subject}, valid to ${notAfter.toISOString()})`;
    log(`connected to ${session.peer.address}, ${proof}`);
    onState?.('connected', `connected to ${session.peer.address}`);
    const begun = performance.now();
    const delivery = this.#newDelivery(session);
    this.#delivery = delivery;
    const ended = new AbortController();
    if (keeper !== undefined) {
      const { followTwin } = await import('./twin-trust.ts');
      void followTwin({ session, keeper, log, ended: ended.signal });
    }
    listener?.attach(session);
    await delivery.run(this.#options.stopMs ?? 10_000);
    ended.abort();
    this.#delivery = undefined;
    if (this.#outbox.isDone) this.#stop();
    this.#judge(performance.now() - begun, delivery.fault);
    return delivery.fault;
  }

  #newDelivery(session: Session): Delivery {
    return new Delivery({
      session,
      outbox: this.#outbox,
      acknowledgeMs: this.#options.acknowledgeMs ?? 30_000,
      settleMs: this.#options.settleMs ?? 1_000,
      isOver: () => this.#isOver(),
      onDelivered: (item) => {
        this.#result.delivered += 1;
        item.done?.();
      },
      onGivenUp: (item, reason) => {
        this.#result.givenUp = (this.#result.givenUp ?? 0) + 1;
        item.done?.();
        this.#options.log(`${item.name} was given up: ${reason}`);
      },
    });
  }

  /** What a session that ended says about the next. */
  #judge(livedMs: number, fault: GatepostDeviceError | undefined): void {
    if (livedMs >= steadyMs) {
      this.#backoff.reset();
      this.#shortSessions = 0;
    }
    if (fault === undefined) return;
    const { log, document } = this.#options;
    this.#lastFault = fault;
    if (livedMs < steadyMs) this.#shortSessions += 1;
    if (!this.#isOver()) log(`${fault.message}; not acknowledged yet: ${count(this.#outbox.size, 'line')}`);
    if (this.#shortSessions === stormAfter) log(stormMessage(document.device.id, stormAfter));
  }

  /** The first connection, within the time that was given for it; undefined where the run was stopped before. */
  async #first(): Promise<Session | undefined> {
    const deadline = performance.now() + (this.#options.waitMs ?? 0);
    while (!this.#isOver()) {
      const opened = await this.#open();
      if (!(opened instanceof GatepostDeviceError)) return opened;
      const waitMs = this.#backoff.next();
      if (this.#isHopeless(opened) || performance.now() + waitMs > deadline) throw opened;
      this.#options.log(`${opened.message} Trying again in ${seconds(waitMs)}.`);
      this.#options.onState?.('waiting', opened.message);
      await this.#pause(waitMs);
    }
    return undefined;
  }

  /** Connects again, however long it takes; undefined where the run is over before. At once where nothing was wrong. */
  async #again(fault: GatepostDeviceError | undefined): Promise<Session | undefined> {
    let isLate = fault !== undefined;
    let said = fault?.code;
    while (!this.#isOver()) {
      if (isLate) {
        const waitMs = this.#backoff.next();
        this.#options.log(`trying again in ${seconds(waitMs)}`);
        await this.#pause(waitMs);
      }
      isLate = true;
      if (this.#isOver()) return undefined;
      const opened = await this.#open();
      if (!(opened instanceof GatepostDeviceError)) return opened;
      if (this.#isHopeless(opened)) throw opened;
      this.#lastFault = opened;
      this.#options.onState?.('waiting', opened.message);
      // An expired token is said once: the tries go on for as long as it takes.
      if (opened.code !== 'credential_expired' || said !== opened.code) this.#options.log(opened.message);
      said = opened.code;
      await this.#options.keeper?.inDoubt();
    }
    return undefined;
  }

  #isHopeless({ code }: GatepostDeviceError): boolean {
    const isCurable = code === 'credential_expired' && this.#options.keeper !== undefined;
    return hopeless.includes(code) && !isCurable;
  }

  /** A session, why there is none, or undefined where the run was over first. */
  #open(): Promise<Session | GatepostDeviceError | undefined> {
    const over = this.#over.signal;
    const document = this.#options.keeper?.document ?? this.#options.document;
    return new Promise((resolve, reject) => {
      const giveUp = () => resolve(undefined);
      over.addEventListener('abort', giveUp, { once: true });
      (this.#options.open ?? openSession)({ ...this.#options, document, sdkRetries: false })
        .then(
          (session) => (over.aborted ? session.close() : resolve(session)),
          (error: unknown) => (error instanceof GatepostDeviceError ? resolve(error) : reject(error)),
        )
        .finally(() => over.removeEventListener('abort', giveUp));
    });
  }

  /** The session that stands is drained and replaced; the one that is waited for is tried at once. */
  #changed({ what }: Change): void {
    // A key stays good whatever the token's clock says; what else changed takes a new connection to come into force.
    if (what === 'trust' || what === 'gateway') this.#backoff.reset();
    this.#delivery?.supersede();
    this.#hurry();
  }

  async #pause(ms: number): Promise<void> {
    const waiting = new AbortController();
    this.#hurry = () => waiting.abort();
    const end = () => waiting.abort();
    this.#over.signal.addEventListener('abort', end, { once: true });
    await delay(ms, undefined, { signal: waiting.signal }).catch(() => {});
    this.#over.signal.removeEventListener('abort', end);
    this.#hurry = () => {};
  }

  #isOver(): boolean {
    return this.#over.signal.aborted;
  }

  #stop(): void {
    clearTimeout(this.#deadline);
    this.#over.abort();
    this.#outbox.end();
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
