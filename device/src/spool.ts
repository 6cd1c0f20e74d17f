import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { GatepostDeviceError, reasonOf, systemCode } from './errors.ts';
import { Latch } from './latch.ts';
import { readSegment, Segment, segmentNames, segmentPath } from './spool-segment.ts';
import { writeAtomically } from './state.ts';

export interface SpoolOptions {
  folder: string;
  /** Bytes on disk; the oldest segment goes where a new line would not fit. */
  limitBytes: number;
  log(line: string): void;
  /** How often what was written is synced, and how far delivery has come is noted. Default 1 000. */
  syncMs?: number;
}

/** A message of the spool, on its way. */
export interface Spooled {
  body: Buffer;
  messageId: string;
  /** It was delivered, or given up: the spool needs it no more. */
  done: () => void;
}

export const leastSpoolBytes = 1024 * 1024;
export const usualSpoolBytes = 64 * 1024 * 1024;
const cursorFile = 'cursor';
const lockFile = 'lock';
const largestSegment = 1024 * 1024;

/**
 * What is not delivered yet, on disk: segments of lines, each with its message id and a checksum, so that a line which was
 * half written when the power went is known. A line is safe from the end of the process once `append` has answered, and
 * from a power cut a second later. Delivery is at least once: how far it has come is noted once a second, and a message
 * that comes twice has the same id.
 */
export class Spool {
  readonly #options: SpoolOptions;
  readonly #segmentBytes: number;
  #segments: Segment[] = [];
  #writing: Promise<unknown> = Promise.resolve();
  #changed = new Latch();
  #ended = false;
  #timer: NodeJS.Timeout | undefined;
  #cursor = '';
  #said = 0;
  #newest = 0;
  readonly #removing = new Set<Promise<void>>();
  /** Messages that fell out because the spool was full, in this process. */
  dropped = 0;

  private constructor(options: SpoolOptions) {
    this.#options = options;
    this.#segmentBytes = Math.min(largestSegment, Math.floor(options.limitBytes / 4));
  }

  /**
   * Opens the folder, which belongs to one process at a time, and takes up what an earlier one left there.
   * Throws `usage` where the limit is too small and `state_unwritable`.
   */
  static async open(options: SpoolOptions): Promise<Spool> {
    if (!(options.limitBytes >= leastSpoolBytes)) {
      throw new GatepostDeviceError('usage', `A spool needs at least ${leastSpoolBytes} bytes: --spool-limit.`);
    }
    const spool = new Spool(options);
    try {
      await mkdir(options.folder, { recursive: true, mode: 0o700 });
      await lock(options.folder);
      await spool.#load();
    } catch (error) {
      if (error instanceof GatepostDeviceError) throw error;
      const reason = `The spool ${options.folder} cannot be used: ${reasonOf(error)}`;
      throw new GatepostDeviceError('state_unwritable', reason, { cause: error });
    }
    spool.#timer = setInterval(() => void spool.#note(), options.syncMs ?? 1_000);
    spool.#timer.unref();
    return spool;
  }

  /** Messages that are neither delivered nor dropped. */
  get size(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.left, 0);
  }

  get bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.bytes, 0);
  }

  /** Writes one line. Answers false where the spool was ended before. Throws `state_unwritable`. */
  append(body: Buffer, messageId: string): Promise<boolean> {
    if (this.#ended) return Promise.resolve(false);
    const written = this.#writing.then(async () => {
      const segment = await this.#room(body.length);
      await segment.append(body, messageId);
      this.#changed.open();
      return true;
    });
    this.#writing = written.catch(() => {});
    return written.catch((error: unknown) => {
      const reason = `The spool ${this.#options.folder} cannot be written: ${reasonOf(error)}`;
      throw new GatepostDeviceError('state_unwritable', reason, { cause: error });
    });
  }

  /** Everything that is there and that comes, oldest first, until the spool is ended and all was read. */
  async *read(): AsyncGenerator<Spooled> {
    let segment = this.#segments[0];
    for (;;) {
      if (segment === undefined || !this.#segments.includes(segment)) {
        // It was dropped, or is done with: on with the oldest that was not read.
        segment = this.#segments.find((each) => !each.isReadOut);
      }
      const record = await segment?.next();
      if (record !== undefined && segment !== undefined) {
        const from = segment;
        yield { ...record, done: () => this.#done(from, record.end) };
        continue;
      }
      const later: Segment | undefined = this.#segments.find((each) => !each.isReadOut && each !== segment);
      if (later !== undefined) {
        segment = later;
        continue;
      }
      if (this.#ended) return;
      await this.#changed.wait();
    }
  }

  /** Nothing more is appended. */
  end(): void {
    this.#ended = true;
    this.#changed.open();
  }

  /** Resolves when all that was appended is on the disk. */
  async flush(): Promise<void> {
    await this.#writing;
    await this.#note();
  }

  async close(): Promise<void> {
    this.end();
    clearInterval(this.#timer);
    this.#sweep();
    await this.flush().catch((error: unknown) => this.#options.log(`the spool: ${reasonOf(error)}`));
    await Promise.all([...this.#removing, ...this.#segments.map((segment) => segment.close())]);
    await rm(join(this.#options.folder, lockFile), { force: true });
  }

  async #load(): Promise<void> {
    const { folder, log } = this.#options;
    const [first = '', offset = '0'] = (await readFile(join(folder, cursorFile), 'utf8').catch(() => '')).split(' ');
    this.#newest = Number(first);
    for (const name of await segmentNames(folder)) {
      this.#newest = Math.max(this.#newest, Number(name));
      const path = segmentPath(folder, name);
      if (name < first) {
        await rm(path, { force: true });
        continue;
      }
      const { segment, damaged } = await readSegment(path, name, name === first ? Number(offset) : 0);
      if (damaged > 0) log(`the spool: ${damaged} bytes at the end of ${path} were half written, and dropped`);
      if (segment.left > 0) this.#segments.push(segment);
      else await segment.remove();
    }
    if (this.size > 0) log(`the spool holds ${this.size} from before`);
  }

  /** The segment that takes the next line; makes room by dropping the oldest. */
  async #room(bodyBytes: number): Promise<Segment> {
    const need = bodyBytes + Segment.overhead;
    while (this.bytes + need > this.#options.limitBytes && this.#segments.length > 0) await this.#drop();
    const last = this.#segments.at(-1);
    if (last?.isOpen === true && last.bytes + need <= this.#segmentBytes) return last;
    await last?.sync();
    // Names only ever grow, also where the clock went back.
    this.#newest = Math.max(this.#newest + 1, Date.now() * 1000);
    const name = String(this.#newest).padStart(20, '0');
    const segment = await Segment.create(segmentPath(this.#options.folder, name), name);
    this.#segments.push(segment);
    this.#sweep();
    return segment;
  }

  async #drop(): Promise<void> {
    const oldest = this.#segments.shift();
    if (oldest === undefined) return;
    this.dropped += oldest.unread;
    await oldest.remove();
    // One line at the first, the tenth, the hundredth: a full spool on a device that is offline for a week is no news.
    if (this.dropped > 0 && this.dropped >= this.#said * 10) {
      this.#said = Math.max(this.dropped, 1);
      this.#options.log(`the spool is full: ${this.dropped} of the oldest messages were dropped so far`);
    }
  }

  #done(segment: Segment, end: number): void {
    segment.done(end);
    if (segment.left === 0) this.#sweep();
  }

  /** Removes the segments that nobody needs any more; the newest is still written to. */
  #sweep(): void {
    const newest = this.#segments.at(-1);
    const isNeeded = (each: Segment) => each.left > 0 || !each.isReadOut || (each === newest && !this.#ended);
    const rest = this.#segments.filter((each) => !isNeeded(each));
    if (rest.length === 0) return;
    this.#segments = this.#segments.filter(isNeeded);
    for (const segment of rest) {
      const removed = segment.remove().catch((error: unknown) => this.#options.log(`the spool: ${reasonOf(error)}`));
      this.#removing.add(removed);
      void removed.then(() => this.#removing.delete(removed));
    }
  }

  /** Syncs what was written, and notes how far delivery has come. */
  async #note(): Promise<void> {
    const { folder, log } = this.#options;
    try {
      await this.#segments.at(-1)?.sync();
      const first = this.#segments[0];
      const cursor = first === undefined ? '' : `${first.name} ${first.settled}`;
      if (cursor === this.#cursor) return;
      this.#cursor = cursor;
      await writeAtomically(folder, cursorFile, cursor);
    } catch (error) {
      log(`the spool cannot be synced: ${reasonOf(error)}`);
    }
  }
}

/** One process at a time. A lock whose process is gone is of one that was killed. */
async function lock(folder: string): Promise<void> {
  const path = join(folder, lockFile);
  for (let attempt = 1; ; attempt += 1) {
    try {
      const file = await open(path, 'wx', 0o600);
      await file.writeFile(`${process.pid}`);
      await file.close();
      return;
    } catch (error) {
      if (systemCode(error) !== 'EEXIST' || attempt > 3) throw error;
      const owner = Number(await readFile(path, 'utf8').catch(() => ''));
      if (isRunning(owner)) {
        throw new GatepostDeviceError('state_unwritable', `The spool ${folder} is in use by process ${owner}.`);
      }
      await rm(path, { force: true });
    }
  }
}

function isRunning(id: number): boolean {
  // In a container a process often has the id of the one before it.
  if (!Number.isInteger(id) || id <= 0 || id === process.pid) return false;
  try {
    process.kill(id, 0);
    return true;
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
}
