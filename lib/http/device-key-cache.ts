import { GatepostError } from '../errors.ts';
import type { Redacted } from '../redacted.ts';

/** A device, or one of its modules. */
export interface Identity {
  deviceId: string;
  moduleId: string | null;
}

/**
 * The symmetric keys (base64) that the hub holds for a device or one of its modules. Undefined where it may not prove
 * itself with one: there is no such identity, it is disabled, or it authenticates by certificate. Reads the hub every
 * time: {@link DeviceKeyCache} does the caching.
 */
export type DeviceKeys = (deviceId: string, moduleId: string | null) => Promise<readonly Redacted[] | undefined>;

type Keys = Awaited<ReturnType<DeviceKeys>>;

interface HeldKeys {
  keys: Keys;
  readAt: number;
}

const absenceHeldMs = 10_000;
const mostHeld = 10_000;
/**
 * Reads of the hub in a minute that may be spent on tokens which prove nobody. A hub of one S1 unit allows 100 registry
 * operations a minute, and anybody can invent device ids: without a limit they would spend what onboarding needs.
 */
const mostFruitless = 30;
const minuteMs = 60_000;
/** Reads at one time for identities that have not proven themselves here: what the limit above can be overrun by. */
const mostAtOnce = 8;

/** Keys as last read. The oldest are forgotten when there are too many. */
export class DeviceKeyCache {
  readonly #read: DeviceKeys;
  readonly #clock: () => Date;
  readonly #held = new Map<string, HeldKeys>();
  readonly #reading = new Map<string, Promise<Keys>>();
  readonly #proven = new Set<string>();
  readonly #waiting: (() => void)[] = [];
  #atOnce = 0;
  #fruitless = { since: 0, count: 0 };

  constructor(read: DeviceKeys, clock: () => Date) {
    this.#read = read;
    this.#clock = clock;
  }

  /**
   * The keys, read again where they are older than `oldestMs`, or than ten seconds where there were none. Throws
   * `upstream_throttled` where too many tokens have proven nobody in this minute and this identity never did.
   */
  async keys(identity: Identity, oldestMs: number): Promise<Keys> {
    const id = idOf(identity);
    const known = this.#held.get(id);
    const limit = known?.keys === undefined ? Math.min(absenceHeldMs, oldestMs) : oldestMs;
    if (known !== undefined && this.#clock().getTime() - known.readAt < limit) return known.keys;
    const reading = this.#reading.get(id) ?? this.#readFor(identity).finally(() => this.#reading.delete(id));
    this.#reading.set(id, reading);
    return reading;
  }

  /** Says that a token was signed with a key of this identity: its reads are not limited any more. */
  prove(identity: Identity): void {
    remember(this.#proven, idOf(identity));
  }

  /** Says that a token was signed with none. Counts once for what it made this instance read. */
  doubt(identity: Identity, since: number): void {
    const readAt = this.#held.get(idOf(identity))?.readAt;
    if (readAt === undefined || readAt < since || this.#proven.has(idOf(identity))) return;
    this.#turnMinute();
    this.#fruitless.count += 1;
  }

  async #readFor(identity: Identity): Promise<Keys> {
    const proven = this.#proven.has(idOf(identity));
    if (!proven) await this.#enter();
    try {
      const keys = await this.#read(identity.deviceId, identity.moduleId);
      this.#held.delete(idOf(identity));
      this.#held.set(idOf(identity), { keys, readAt: this.#clock().getTime() });
      forgetOldest(this.#held);
      return keys;
    } finally {
      if (!proven) this.#leave();
    }
  }

  async #enter(): Promise<void> {
    if (this.#atOnce >= mostAtOnce) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#atOnce += 1;
    this.#turnMinute();
    if (this.#fruitless.count < mostFruitless) return;
    this.#leave();
    const left = this.#fruitless.since + minuteMs - this.#clock().getTime();
    throw new GatepostError('upstream_throttled', 'Too many SAS tokens prove nobody just now. Repeat the call later.', {
      retryAfterSeconds: left / 1000,
    });
  }

  /** Hands the place on, or frees it. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#atOnce -= 1;
    else next();
  }

  #turnMinute(): void {
    const now = this.#clock().getTime();
    if (now - this.#fruitless.since >= minuteMs) this.#fruitless = { since: now, count: 0 };
  }
}

function remember(ids: Set<string>, id: string): void {
  ids.delete(id);
  ids.add(id);
  forgetOldest(ids);
}

function forgetOldest(collection: Map<string, unknown> | Set<string>): void {
  const [oldest] = collection.keys();
  if (collection.size > mostHeld && oldest !== undefined) collection.delete(oldest);
}

function idOf({ deviceId, moduleId }: Identity): string {
  return JSON.stringify([deviceId, moduleId]);
}
