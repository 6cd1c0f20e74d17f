import { Backoff, type BackoffOptions } from './backoff.ts';

export interface PaceOptions {
  backoff?: BackoffOptions | undefined;
  /** A connection that held this long was a good one. */
  steadyMs?: number | undefined;
  /** Connections in a row that did not hold, before {@link onStorm} is called. */
  suspicious?: number | undefined;
  /** Called once for each row of connections that were accepted and did not hold. */
  onStorm?: ((connections: number) => void) | undefined;
  /** Milliseconds that only ever grow. */
  now?: (() => number) | undefined;
}

/** What connections that are accepted and cut again and again mean. */
export function stormMessage(id: string, connections: number): string {
  return (
    `${connections} connections of ${id} in a row were accepted and cut soon after. Most likely another client uses the same identity: ` +
    'each pushes the other out. One identity is for one device; look for a copied state folder or a second process. Waiting longer between tries.'
  );
}

/**
 * How long to wait before a connection. The SDK reconnects at once where a listener is registered: two clients with one
 * identity push each other out more than a hundred times a second, and no event tells the program.
 */
export class Pace {
  readonly #options: PaceOptions;
  readonly #backoff: Backoff;
  readonly #now: () => number;
  #isFirst = true;
  #acceptedAt: number | undefined;
  #short = 0;
  readonly #waiting = new Set<() => void>();
  #cancelled: Error | undefined;

  constructor(options: PaceOptions = {}) {
    this.#options = options;
    this.#backoff = new Backoff(options.backoff ?? { firstMs: 250 });
    this.#now = options.now ?? (() => performance.now());
  }

  /** The gateway accepted the connection that was waited for. */
  accepted(): void {
    this.#acceptedAt = this.#now();
  }

  /** Milliseconds to wait before the connection that is about to begin: none for the first. */
  next(): number {
    if (this.#isFirst) {
      this.#isFirst = false;
      return 0;
    }
    const acceptedAt = this.#acceptedAt;
    this.#acceptedAt = undefined;
    if (acceptedAt !== undefined && this.#now() - acceptedAt >= (this.#options.steadyMs ?? 10_000)) {
      this.#backoff.reset();
      this.#short = 0;
    } else if (acceptedAt !== undefined) {
      // One that was refused, or never came about, says nothing of a second client.
      this.#short += 1;
      if (this.#short === (this.#options.suspicious ?? 4)) this.#options.onStorm?.(this.#short);
    }
    return this.#backoff.next();
  }

  /** Calls back in time for the next connection; at once, and in the same turn, for the first. With an error after `cancel`. */
  wait(then: (error?: Error) => void): void {
    const waitMs = this.#cancelled === undefined ? this.next() : 0;
    if (waitMs === 0) {
      then(this.#cancelled);
      return;
    }
    const timer = setTimeout(() => {
      this.#waiting.delete(end);
      then();
    }, waitMs);
    const end = () => {
      clearTimeout(timer);
      then(this.#cancelled);
    };
    this.#waiting.add(end);
  }

  /** Nothing connects any more; what waits is told so, for the SDK would hang. */
  cancel(): void {
    this.#cancelled ??= new Error('The client is closed.');
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const end of waiting) end();
  }
}
