import { Latch } from './latch.ts';

/**
 * What has been read and is not yet acknowledged, in order. At most `capacity` items: `put` waits for room, which is
 * how a slow gateway slows the producer down. After a lost connection `rewind` offers everything unacknowledged again,
 * so delivery is at least once.
 */
export class Outbox<T> {
  readonly #capacity: number;
  #items: T[] = [];
  /** How many of the items, from the front, have been taken since the last rewind. */
  #taken = 0;
  /** How many may be under way at once. */
  #limit = Number.POSITIVE_INFINITY;
  #ended = false;
  #changed = new Latch();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#items.length;
  }

  /** The oldest that is not acknowledged. */
  get first(): T | undefined {
    return this.#items[0];
  }

  /** How many were taken and are not acknowledged. */
  get underWay(): number {
    return this.#taken;
  }

  /** Lets no more than this many be under way at once. */
  limit(items: number): void {
    this.#limit = items;
    this.#wake();
  }

  /** All was put and all was acknowledged. */
  get isDone(): boolean {
    return this.#ended && this.#items.length === 0;
  }

  /** Adds an item, as soon as there is room. Answers false where the outbox was ended before there was. */
  async put(item: T): Promise<boolean> {
    while (this.#items.length >= this.#capacity && !this.#ended) await this.#changed.wait();
    if (this.#ended) return false;
    this.#items.push(item);
    this.#wake();
    return true;
  }

  /** Nothing more will be put. */
  end(): void {
    this.#ended = true;
    this.#wake();
  }

  /** The next item to send; undefined where everything was taken and nothing more will come, or `isStopped` says so. */
  async take(isStopped: () => boolean): Promise<T | undefined> {
    for (;;) {
      if (isStopped()) return undefined;
      const next = this.#taken < this.#limit ? this.#items[this.#taken] : undefined;
      if (next !== undefined) {
        this.#taken += 1;
        return next;
      }
      if (this.#ended && this.#taken >= this.#items.length) return undefined;
      await this.#changed.wait();
    }
  }

  /** The gateway has acknowledged this item. Answers false where it had done so before, on another connection. */
  acknowledge(item: T): boolean {
    const at = this.#items.indexOf(item);
    if (at === -1) return false;
    this.#items.splice(at, 1);
    if (at < this.#taken) this.#taken -= 1;
    this.#wake();
    return true;
  }

  /** Offers everything unacknowledged again, oldest first. */
  rewind(): void {
    this.#taken = 0;
    this.#wake();
  }

  /** Resolves when everything that was put is acknowledged and nothing more will come, or `isStopped` says so. */
  async drained(isStopped: () => boolean): Promise<void> {
    while (!this.isDone && !isStopped()) await this.#changed.wait();
  }

  /** Resolves when nothing is under way, or `isStopped` says so. */
  async quiet(isStopped: () => boolean): Promise<void> {
    while (this.#taken > 0 && !isStopped()) await this.#changed.wait();
  }

  /** Makes those who wait look again. */
  wake(): void {
    this.#wake();
  }

  #wake(): void {
    this.#changed.open();
  }
}
