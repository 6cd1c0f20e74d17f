import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * A double's memory over a restart: one JSON document, written atomically with owner-only permissions. Writes are
 * gathered for a moment, so call {@link flush} when the double stops.
 */
export class StateFile<T> {
  readonly #path: string | undefined;
  readonly #capture: () => T;
  #timer: NodeJS.Timeout | undefined;

  /** `path` undefined keeps nothing. `capture` answers the document as it stands when it is written. */
  constructor(path: string | undefined, capture: () => T) {
    this.#path = path;
    this.#capture = capture;
  }

  /** What was stored last; undefined where nothing was. */
  read(): T | undefined {
    if (this.#path === undefined) return undefined;
    try {
      return JSON.parse(readFileSync(this.#path, 'utf8')) as T;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Says that the state has changed. */
  touch(): void {
    if (this.#path === undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => this.flush(), 50);
    this.#timer.unref();
  }

  flush(): void {
    if (this.#path === undefined) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    const draft = `${this.#path}.${process.pid}.tmp`;
    try {
      writeFileSync(draft, JSON.stringify(this.#capture()), { mode: 0o600 });
      renameSync(draft, this.#path);
    } catch (error) {
      rmSync(draft, { force: true });
      throw error;
    }
  }
}
