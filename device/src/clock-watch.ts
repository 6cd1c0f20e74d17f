/** A clock that is set by hand or by NTP moves in one step; what time itself takes is the same on both of its clocks. */
const noticedMs = 60_000;

/** Notices that the clock of the machine was set, by a clock that nobody can set. */
export class ClockWatch {
  readonly #now: () => number;
  readonly #monotonic: () => number;
  #offset: number;

  constructor(now: () => Date = () => new Date(), monotonic: () => number = () => performance.now()) {
    this.#now = () => now().getTime();
    this.#monotonic = monotonic;
    this.#offset = this.#now() - this.#monotonic();
  }

  /** By how many milliseconds the clock was set since the last look; 0 where by less than a minute. */
  jumpMs(): number {
    const offset = this.#now() - this.#monotonic();
    const jump = offset - this.#offset;
    if (Math.abs(jump) < noticedMs) {
      // Slewing and drift are followed, so that they never add up to a jump.
      this.#offset = offset;
      return 0;
    }
    this.#offset = offset;
    return jump;
  }
}
