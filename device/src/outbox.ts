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
  #ended = false;
  #changed = new Signal();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#items.length;
  }

  /** All was put and all was acknowledged. */
  get isDone(): boolean {
    return this.#ended && this.#items.length === 0;
  }

  /** Adds an item, as soon as there is room. Answers false where the outbox was ended before there was. */
  async put(item: T): Promise<boolean> {
    while (this.#items.length >= this.#capacity && !this.#ended) await this.#changed.promise;
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
      const next = this.#items[this.#taken];
      if (next !== undefined) {
        this.#taken += 1;
        return next;
      }
      if (this.#ended) return undefined;
      await this.#changed.promise;
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
    while (!this.isDone && !isStopped()) await this.#changed.promise;
  }

  /** Makes those who wait look again. */
  wake(): void {
    this.#wake();
  }

  #wake(): void {
    const before = this.#changed;
    this.#changed = new Signal();
    before.resolve();
  }
}

/** Promise.withResolvers, which Node 20 does not have. */
class Signal {
  resolve: () => void = () => {};
  readonly promise = new Promise<void>((resolve) => {
    this.resolve = resolve;
  });
}
