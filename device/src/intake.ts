import { randomUUID } from 'node:crypto';
import type { Telemetry } from './delivery.ts';
import { GatepostDeviceError, reasonOf } from './errors.ts';
import { type BadLine, readTelemetry, type TelemetryLine } from './lines.ts';
import type { Outbox } from './outbox.ts';
import type { Spool } from './spool.ts';

export interface IntakeOptions {
  input: AsyncIterable<Uint8Array | string>;
  outbox: Outbox<Telemetry>;
  spool: Spool | undefined;
  onBad(line: BadLine): void;
  /** The input has ended, and everything of it is where it should be. */
  onEnd(): void;
  log(line: string): void;
}

/** Brings the lines of the input into the outbox: straight, as fast as it has room, or by way of a spool. */
export class Intake {
  readonly #options: IntakeOptions;
  #isStarted = false;
  /** Why the input or the spool cannot be read. */
  fault: GatepostDeviceError | undefined;
  /** Lines that were read and found no room any more when the end came. */
  abandoned = 0;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** Begins to read; a second call does nothing. */
  start(): void {
    if (this.#isStarted) return;
    this.#isStarted = true;
    const { spool } = this.#options;
    if (spool !== undefined) void this.#feed(spool);
    void this.#read();
  }

  /** Nothing more is taken from the input. */
  end(): void {
    const { spool, outbox } = this.#options;
    // What is spooled already is still fed.
    if (spool === undefined || !this.#isStarted) outbox.end();
    else spool.end();
  }

  async #read(): Promise<void> {
    const { input, spool, onBad, onEnd } = this.#options;
    try {
      for await (const line of readTelemetry(input, onBad)) {
        const isTaken = spool === undefined ? await this.#put(line) : await spool.append(line.body, randomUUID());
        if (isTaken) continue;
        this.abandoned += 1;
        return;
      }
      await spool?.flush();
    } catch (error) {
      this.#fail('The input cannot be read', error);
    }
    onEnd();
  }

  #put({ body, number }: TelemetryLine): Promise<boolean> {
    return this.#options.outbox.put({ body, messageId: randomUUID(), name: `line ${number}`, refusals: 0 });
  }

  async #feed(spool: Spool): Promise<void> {
    const { outbox } = this.#options;
    try {
      for await (const { body, messageId, done } of spool.read()) {
        if (!(await outbox.put({ body, messageId, done, name: `message ${messageId}`, refusals: 0 }))) return;
      }
    } catch (error) {
      this.#fail('The spool cannot be read', error);
    }
    outbox.end();
  }

  #fail(what: string, error: unknown): void {
    const code = error instanceof GatepostDeviceError ? error.code : 'usage';
    this.fault ??= new GatepostDeviceError(code, `${what}: ${reasonOf(error)}`, { cause: error });
  }
}
