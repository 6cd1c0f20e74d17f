import { inspect } from 'node:util';

const shown = '[redacted]';

/**
 * A secret on its way through the process. Printing, logging, spreading or serialising it shows `[redacted]`; only
 * {@link reveal} gives the value, so that every place that uses one can be found.
 */
export class Redacted {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return shown;
  }

  toJSON(): string {
    return shown;
  }

  [inspect.custom](): string {
    return shown;
  }
}
