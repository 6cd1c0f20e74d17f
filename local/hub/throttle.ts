import { HubError } from './errors.ts';

export interface ThrottleTier {
  tier: 'F1' | 'S1' | 'S2' | 'S3';
  units: number;
}

/** What is metered apart. */
export type Meter = 'registry' | 'query' | 'twinRead' | 'twinWrite' | 'method' | 'telemetry' | 'connection';

/**
 * Operations a second for so many units. Source: learn.microsoft.com, *IoT Hub quotas and throttling*. Direct methods are
 * metered by volume there (24 MB/min/unit in meters of 4 KB) and in 4 KB calls here.
 */
const rates: Record<Meter, Record<'S1' | 'S2' | 'S3', (units: number) => number>> = {
  registry: { S1: (u) => (100 * u) / 60, S2: (u) => (100 * u) / 60, S3: (u) => (5000 * u) / 60 },
  query: { S1: (u) => (20 * u) / 60, S2: (u) => (20 * u) / 60, S3: (u) => (1000 * u) / 60 },
  twinRead: { S1: () => 100, S2: (u) => Math.max(100, 10 * u), S3: (u) => 500 * u },
  twinWrite: { S1: () => 50, S2: (u) => Math.max(50, 5 * u), S3: (u) => 250 * u },
  method: { S1: (u) => 40 * u, S2: (u) => 120 * u, S3: (u) => 6000 * u },
  telemetry: { S1: (u) => Math.max(100, 12 * u), S2: (u) => 120 * u, S3: (u) => 6000 * u },
  connection: { S1: (u) => Math.max(100, 12 * u), S2: (u) => 120 * u, S3: (u) => 6000 * u },
};

const messagesPerDay: Record<ThrottleTier['tier'], number> = { F1: 8000, S1: 400_000, S2: 6_000_000, S3: 300_000_000 };

/** How many seconds of its rate a meter may burst. The limits a minute are counted by the minute, the others by the second. */
const burstSeconds: Record<Meter, number> = {
  registry: 60,
  query: 60,
  twinRead: 1,
  twinWrite: 1,
  method: 1,
  telemetry: 1,
  connection: 1,
};

/** Thirds of a token do not add up to a whole one: who waits as long as it was told must be let in. */
const rounding = 1e-6;

interface Bucket {
  tokens: number;
  filledAt: number;
}

/** A token bucket for each meter; lets everything through while no tier is set. */
export class Throttle {
  #tier: ThrottleTier | undefined;
  readonly #buckets = new Map<Meter, Bucket>();
  readonly #now: () => Date;
  #day = '';
  #messages = 0;

  constructor(now: () => Date) {
    this.#now = now;
  }

  /** Starts with full buckets; undefined turns throttling off. */
  set(tier: ThrottleTier | undefined): void {
    this.#tier = tier;
    this.#buckets.clear();
    this.#messages = 0;
  }

  /** Throws 429 with Retry-After, in whole seconds until there is a token again, where the meter has run out. */
  take(meter: Meter): void {
    if (this.#tier === undefined) return;
    const rate = rates[meter][this.#tier.tier === 'F1' ? 'S1' : this.#tier.tier](this.#tier.units);
    const capacity = Math.max(1, rate * burstSeconds[meter]);
    const now = this.#now().getTime();
    const bucket = this.#buckets.get(meter) ?? { tokens: capacity, filledAt: now };
    this.#buckets.set(meter, bucket);
    bucket.tokens = Math.min(capacity, bucket.tokens + ((now - bucket.filledAt) / 1000) * rate);
    bucket.filledAt = now;
    if (bucket.tokens < 1 - rounding) {
      const retryAfter = Math.ceil((1 - bucket.tokens) / rate - rounding);
      throw new HubError('ThrottlingException', 'Throttling exception: too many requests', { retryAfter });
    }
    bucket.tokens -= 1;
  }

  /** Counts telemetry against the quota of the day (UTC). */
  takeMessage(): void {
    this.take('telemetry');
    if (this.#tier === undefined) return;
    const day = this.#now().toISOString().slice(0, 10);
    if (day !== this.#day) {
      this.#day = day;
      this.#messages = 0;
    }
    const quota = messagesPerDay[this.#tier.tier] * this.#tier.units;
    if (this.#messages >= quota) throw new HubError('IotHubQuotaExceeded', `Total number of messages: ${quota}`);
    this.#messages += 1;
  }
}
