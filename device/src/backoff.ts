export interface BackoffOptions {
  /** The upper end of the first wait, in milliseconds. */
  firstMs?: number;
  /** No wait is longer. */
  ceilingMs?: number;
  /** 0 <= value < 1. */
  random?: () => number;
}

/**
 * Exponential backoff with full jitter: wait n is anywhere between a floor and `firstMs * 2^n`, at most `ceilingMs`, so
 * that devices that lost the same gateway do not come back in the same moment
 * (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
 */
export class Backoff {
  readonly #firstMs: number;
  readonly #ceilingMs: number;
  readonly #random: () => number;
  #failures = 0;

  constructor(options: BackoffOptions = {}) {
    this.#firstMs = options.firstMs ?? 1_000;
    this.#ceilingMs = options.ceilingMs ?? 60_000;
    this.#random = options.random ?? Math.random;
  }

  /** Milliseconds to wait before the next try. Never below a tenth of the first wait: full jitter may draw zero. */
  next(): number {
    const upper = Math.min(this.#ceilingMs, this.#firstMs * 2 ** Math.min(this.#failures, 30));
    this.#failures += 1;
    return Math.round(Math.max(this.#random() * upper, this.#firstMs / 10));
  }

  /** The last try held: the next wait is a first one again. */
  reset(): void {
    this.#failures = 0;
  }
}
