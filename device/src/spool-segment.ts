import { createHash } from 'node:crypto';
import { type FileHandle, open, readdir, readFile, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';

const suffix = '.segment';
const newline = 0x0a;
/** `<message id> <checksum> `, and the newline after the body. */
const idBytes = 36;
const checksumBytes = 16;
const headBytes = idBytes + 1 + checksumBytes + 1;
/** Holds a whole line of the largest size. */
const readBytes = 512 * 1024;

export interface SpooledRecord {
  body: Buffer;
  messageId: string;
  /** Where it ends in the segment. */
  end: number;
}

export function segmentPath(folder: string, name: string): string {
  return join(folder, `${name}${suffix}`);
}

/** The names of the segments in a folder, oldest first. */
export async function segmentNames(folder: string): Promise<string[]> {
  const files = await readdir(folder);
  return files
    .filter((each) => each.endsWith(suffix))
    .map((each) => each.slice(0, -suffix.length))
    .sort();
}

/**
 * Takes up a segment of an earlier process from `offset` on. What does not check at its end was half written: it is cut
 * off, and its bytes are counted.
 */
export async function readSegment(
  path: string,
  name: string,
  offset: number,
): Promise<{ segment: Segment; damaged: number }> {
  const content = await readFile(path);
  const ends: number[] = [];
  let good = Math.min(offset, content.length);
  for (let record = parse(content, good, 0); record !== undefined; record = parse(content, good, 0)) {
    good = record.end;
    ends.push(good);
  }
  if (good < content.length) await truncate(path, good);
  const file = await open(path, 'r');
  return {
    segment: new Segment({ path, name, file, isOpen: false, ends, offset, bytes: good }),
    damaged: content.length - good,
  };
}

interface SegmentParts {
  path: string;
  name: string;
  file: FileHandle;
  isOpen: boolean;
  /** Where each message that is left ends. */
  ends: number[];
  offset: number;
  bytes: number;
}

/** One file of the spool. */
export class Segment {
  /** Bytes that a message takes beyond its body. */
  static readonly overhead = headBytes + 1;
  readonly name: string;
  /** Whether this process writes to it: one of an earlier process is only read. */
  readonly isOpen: boolean;
  readonly #path: string;
  readonly #file: FileHandle;
  /** Ends of messages that are not done, in order. */
  readonly #ends: number[];
  #bytes: number;
  #read: number;
  #settled: number;
  #isDirty = false;
  #isGone = false;
  #buffer: Buffer = Buffer.alloc(0);
  #bufferAt = 0;

  constructor(parts: SegmentParts) {
    this.name = parts.name;
    this.isOpen = parts.isOpen;
    this.#path = parts.path;
    this.#file = parts.file;
    this.#ends = parts.ends;
    this.#bytes = parts.bytes;
    this.#read = parts.offset;
    this.#settled = parts.offset;
  }

  static async create(path: string, name: string): Promise<Segment> {
    const file = await open(path, 'wx+', 0o600);
    return new Segment({ path, name, file, isOpen: true, ends: [], offset: 0, bytes: 0 });
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Messages that are not done. */
  get left(): number {
    return this.#ends.length;
  }

  /** Messages that nobody has read yet. */
  get unread(): number {
    return this.#ends.filter((end) => end > this.#read).length;
  }

  get isReadOut(): boolean {
    return this.#read >= this.#bytes;
  }

  /** Everything before this offset is done. */
  get settled(): number {
    return this.#settled;
  }

  async append(body: Buffer, messageId: string): Promise<void> {
    const head = `${messageId} ${checksum(messageId, body)} `;
    const record = Buffer.concat([Buffer.from(head), body, Buffer.of(newline)]);
    await this.#file.write(record, 0, record.length, this.#bytes);
    this.#bytes += record.length;
    this.#ends.push(this.#bytes);
    this.#isDirty = true;
  }

  /** The next message that was not read; undefined at the end of what is there now, or where the segment is gone. */
  async next(): Promise<SpooledRecord | undefined> {
    if (this.#isGone || this.isReadOut) return undefined;
    let record = parse(this.#buffer, this.#read - this.#bufferAt, this.#bufferAt);
    if (record === undefined) {
      const buffer = Buffer.alloc(Math.min(readBytes, this.#bytes - this.#read));
      const { bytesRead } = await this.#file.read(buffer, 0, buffer.length, this.#read);
      if (this.#isGone) return undefined;
      this.#buffer = buffer.subarray(0, bytesRead);
      this.#bufferAt = this.#read;
      record = parse(this.#buffer, 0, this.#bufferAt);
      if (record === undefined) throw new Error(`${this.#path} was changed by another process`);
    }
    this.#read = record.end;
    return record;
  }

  /** The message that ends here is done. */
  done(end: number): void {
    const at = this.#ends.indexOf(end);
    if (at === -1) return;
    this.#ends.splice(at, 1);
    // Only an unbroken row from the beginning is settled: what is left after it is sent again by the next process.
    const first = this.#ends[0];
    if (first === undefined) this.#settled = this.#bytes;
    else if (at === 0) this.#settled = Math.max(this.#settled, end);
  }

  async sync(): Promise<void> {
    if (!this.#isDirty || this.#isGone) return;
    this.#isDirty = false;
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    if (this.#isGone) return;
    this.#isGone = true;
    await this.#file.close();
  }

  async remove(): Promise<void> {
    await this.close();
    await rm(this.#path, { force: true });
  }
}

/** Reads the message at `at` of a buffer that begins at `base` of its file; undefined where there is no whole one. */
function parse(buffer: Buffer, at: number, base: number): SpooledRecord | undefined {
  if (at < 0 || at >= buffer.length) return undefined;
  const end = buffer.indexOf(newline, at);
  if (end === -1 || end - at < headBytes) return undefined;
  const messageId = buffer.toString('latin1', at, at + idBytes);
  const sum = buffer.toString('latin1', at + idBytes + 1, at + idBytes + 1 + checksumBytes);
  const body = buffer.subarray(at + headBytes, end);
  if (sum !== checksum(messageId, body)) return undefined;
  // A copy: the buffer is half a megabyte and would stay as long as the message.
  return { messageId, body: Buffer.from(body), end: base + end + 1 };
}

function checksum(messageId: string, body: Buffer): string {
  return createHash('sha256').update(messageId).update(body).digest('hex').slice(0, checksumBytes);
}
