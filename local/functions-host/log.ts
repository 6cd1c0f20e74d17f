import { createWriteStream, type WriteStream } from 'node:fs';
import type { LogLevel } from './protocol.ts';

const order: readonly LogLevel[] = ['trace', 'debug', 'information', 'warning', 'error', 'critical', 'none'];
const kept = 10_000;

export interface LogOptions {
  /** Called with each line. */
  log: ((line: string) => void) | undefined;
  /** Each line is appended to this file. */
  logFile: string | undefined;
}

interface Entry {
  time: number;
  level: LogLevel;
  category: string;
  message: string;
}

/** The host's log: filtered by category and level as host.json says, the last lines kept in memory. */
export class HostLog {
  #levels: Record<string, LogLevel> = { default: 'information' };
  readonly #known = new Map<string, number>();
  readonly #entries: Entry[] = [];
  readonly #listener: ((line: string) => void) | undefined;
  #file: WriteStream | undefined;

  constructor(options: LogOptions) {
    this.#listener = options.log;
    this.#file = options.logFile === undefined ? undefined : createWriteStream(options.logFile, { flags: 'a' });
  }

  /** Least levels by category prefix: the longest prefix that fits decides, `default` where none does. */
  setLevels(levels: Record<string, LogLevel>): void {
    this.#levels = levels;
    this.#known.clear();
  }

  write(level: LogLevel, category: string, message: string): void {
    if (order.indexOf(level) < this.#least(category)) return;
    const entry = { time: Date.now(), level, category, message };
    this.#entries.push(entry);
    if (this.#entries.length > 2 * kept) this.#entries.splice(0, kept);
    if (this.#listener === undefined && this.#file === undefined) return;
    const line = format(entry);
    this.#listener?.(line);
    this.#file?.write(`${line}\n`);
  }

  /** The last lines, oldest first: `TIME [Level] Category: message`. */
  lines(): string[] {
    return this.#entries.slice(-kept).map(format);
  }

  close(): Promise<void> {
    const file = this.#file;
    // What a stopped worker still had to say finds no file any more, rather than a closed one.
    this.#file = undefined;
    return file === undefined ? Promise.resolve() : new Promise((resolve) => file.end(() => resolve()));
  }

  #least(category: string): number {
    const known = this.#known.get(category);
    if (known !== undefined) return known;
    const fitting = Object.keys(this.#levels)
      .filter((prefix) => category === prefix || category.startsWith(`${prefix}.`))
      .sort((left, right) => right.length - left.length);
    const level = this.#levels[fitting[0] ?? 'default'] ?? 'information';
    const least = order.indexOf(level);
    this.#known.set(category, least);
    return least;
  }
}

function format({ time, level, category, message }: Entry): string {
  const name = level.charAt(0).toUpperCase() + level.slice(1);
  return `${new Date(time).toISOString()} [${name}] ${category}: ${message}`;
}
