/** setTimeout takes no more than 2^31 ms, and a day is often enough for anything here. */
const longestMs = 86_400_000;

export interface TimetableOptions {
  /** Answers the milliseconds until it wants to be done again; undefined: not before it is brought forward. */
  job: () => Promise<number | undefined>;
  /** No wait is shorter, whatever the job says: never a busy loop. */
  shortestMs: number;
  signal: AbortSignal;
}

/** One job that is done again and again, at the time that it named itself. Never two at once. */
export class Timetable {
  readonly #options: TimetableOptions;
  #isDue = false;
  #skip: () => void = () => {};

  constructor(options: TimetableOptions) {
    this.#options = options;
    options.signal.addEventListener('abort', () => this.#skip(), { once: true });
  }

  start(firstMs: number | undefined): void {
    void this.#run(firstMs);
  }

  /** Does the job now, or again as soon as it is done. */
  soon(): void {
    this.#isDue = true;
    this.#skip();
  }

  async #run(firstMs: number | undefined): Promise<void> {
    const { job, shortestMs, signal } = this.#options;
    let waitMs = firstMs;
    for (;;) {
      await this.#wait(Math.min(waitMs ?? longestMs, longestMs));
      if (signal.aborted) return;
      const isEarly = this.#isDue === false && (waitMs === undefined || waitMs > longestMs);
      this.#isDue = false;
      if (isEarly) {
        if (waitMs !== undefined) waitMs -= longestMs;
        continue;
      }
      waitMs = await job().catch(() => shortestMs);
      if (waitMs !== undefined) waitMs = Math.max(waitMs, shortestMs);
    }
  }

  #wait(ms: number): Promise<void> {
    if (this.#isDue || this.#options.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#skip(), ms);
      // What is waited for here keeps no process alive.
      timer.unref();
      this.#skip = () => {
        clearTimeout(timer);
        this.#skip = () => {};
        resolve();
      };
    });
  }
}

/** Anywhere from `from` to `to` times `ms`, so that a fleet that was switched on together does not call together. */
export function jittered(ms: number, random: () => number, from = 0.8, to = 1.2): number {
  return ms * (from + random() * (to - from));
}
