/** One line of input that is telemetry: the JSON text as it came. */
export interface TelemetryLine {
  number: number;
  body: Buffer;
}

export interface BadLine {
  number: number;
  reason: string;
}

/**
 * edgeHub closes the connection at an MQTT packet above 256 KiB (MaxInboundMessageSize), and the topic, with ids and
 * properties, is part of it: a line at the very limit would be sent for ever.
 */
export const maxLineBytes = 255 * 1024;

const newline = 0x0a;
const carriageReturn = 0x0d;
const utf8 = new TextDecoder('utf-8', { fatal: true });

/**
 * Splits a byte stream into lines of JSON. Empty lines are passed over; a line that is not JSON, not UTF-8 or longer
 * than {@link maxLineBytes} is handed to `onBad` and skipped. Never holds more than one line of the limit's length.
 */
export async function* readTelemetry(
  input: AsyncIterable<Uint8Array | string>,
  onBad: (line: BadLine) => void,
): AsyncGenerator<TelemetryLine> {
  const lines = new LineCutter(onBad);
  for await (const chunk of input) {
    for (const line of lines.push(bytesOf(chunk))) yield line;
  }
  yield* lines.end();
}

class LineCutter {
  readonly #onBad: (line: BadLine) => void;
  #pending: Buffer[] = [];
  #size = 0;
  #number = 0;
  #tooLong = false;

  constructor(onBad: (line: BadLine) => void) {
    this.#onBad = onBad;
  }

  *push(chunk: Buffer): Generator<TelemetryLine> {
    let start = 0;
    for (let at = chunk.indexOf(newline); at !== -1; at = chunk.indexOf(newline, start)) {
      this.#keep(chunk.subarray(start, at));
      start = at + 1;
      yield* this.#finish();
    }
    this.#keep(chunk.subarray(start));
  }

  *end(): Generator<TelemetryLine> {
    if (this.#size > 0 || this.#tooLong) yield* this.#finish();
  }

  #keep(part: Buffer): void {
    if (this.#tooLong || part.length === 0) return;
    this.#size += part.length;
    if (this.#size > maxLineBytes) {
      this.#tooLong = true;
      this.#pending = [];
      return;
    }
    this.#pending.push(part);
  }

  *#finish(): Generator<TelemetryLine> {
    this.#number += 1;
    const whole = Buffer.concat(this.#pending);
    const line = whole.at(-1) === carriageReturn ? whole.subarray(0, -1) : whole;
    const tooLong = this.#tooLong;
    this.#pending = [];
    this.#size = 0;
    this.#tooLong = false;
    const fault = tooLong ? `is longer than ${maxLineBytes} bytes` : faultOf(line);
    if (fault === 'empty') return;
    if (fault === undefined) yield { number: this.#number, body: line };
    else this.#onBad({ number: this.#number, reason: fault });
  }
}

function bytesOf(chunk: Uint8Array | string): Buffer {
  if (typeof chunk === 'string') return Buffer.from(chunk);
  return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}

/** The parser's own message is not passed on: it quotes the line, and telemetry does not belong into a log. */
function faultOf(line: Buffer): string | undefined {
  let text: string;
  try {
    text = utf8.decode(line).trim();
  } catch {
    return 'is not UTF-8';
  }
  if (text === '') return 'empty';
  try {
    JSON.parse(text);
    return undefined;
  } catch {
    return 'is not JSON';
  }
}
