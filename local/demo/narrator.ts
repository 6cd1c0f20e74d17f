import { styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

export interface NarratorOptions {
  stream: NodeJS.WriteStream;
  now?: () => number;
}

const columns = 80;
const indent = '     ';

/**
 * Tells a person what happens, within 80 columns. Colour only on a terminal, and none where NO_COLOR is set
 * (https://no-color.org); {@link styleText} looks at both.
 */
export class Narrator {
  readonly #stream: NodeJS.WriteStream;
  readonly #now: () => number;
  readonly #started: number;
  #step = 0;

  constructor({ stream, now = performance.now.bind(performance) }: NarratorOptions) {
    this.#stream = stream;
    this.#now = now;
    this.#started = now();
  }

  title(text: string): void {
    this.#write(`\n${this.#style('bold', text)}\n`);
  }

  /** A paragraph before the first step or after the last one. */
  say(text: string): void {
    this.#write(`${wrap(text, columns).join('\n')}\n`);
  }

  step(text: string): void {
    this.#step += 1;
    const seconds = `${((this.#now() - this.#started) / 1000).toFixed(1)} s`;
    const head = `${String(this.#step).padStart(2)}   ${text}`;
    this.#write(`\n${this.#style('bold', head.padEnd(columns - 8))}${this.#style('dim', seconds.padStart(8))}\n`);
  }

  /** Says why, in a sentence or two. */
  because(text: string): void {
    for (const line of wrap(text, columns - indent.length)) this.#write(`${indent}${this.#style('dim', line)}\n`);
  }

  /** A name and what it stands for. A value too long for the line is cut, because it is for looking at only. */
  fact(name: string, value: string): void {
    const room = columns - indent.length - 15;
    this.#write(`${indent}${name.padEnd(14)} ${this.#style('cyan', cut(value, room))}\n`);
  }

  /** What went over the wire: who spoke, what it said, what came of it. */
  wire(arrow: '->' | '<-' | '~>', text: string, good = true): void {
    const lines = wrap(text, columns - indent.length - 3);
    const style = arrow === '->' ? 'yellow' : good ? 'green' : 'red';
    for (const [n, line] of lines.entries()) {
      this.#write(`${indent}${this.#style(style, n === 0 ? arrow : '  ')} ${line}\n`);
    }
  }

  /** A line that another program printed. */
  quote(text: string): void {
    for (const line of wrap(text, columns - indent.length - 2)) {
      this.#write(`${indent}${this.#style('magenta', '|')} ${line}\n`);
    }
  }

  success(text: string): void {
    this.#write(`\n${this.#style(['green', 'bold'], text)}\n`);
  }

  failure(text: string): void {
    this.#write(`\n${this.#style(['red', 'bold'], wrap(text, columns).join('\n'))}\n`);
  }

  get seconds(): number {
    return (this.#now() - this.#started) / 1000;
  }

  #style(style: Style, text: string): string {
    return styleText(style, text, { stream: this.#stream });
  }

  #write(text: string): void {
    this.#stream.write(text);
  }
}

/** Breaks at spaces; a word longer than the line is broken where it must be. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    let line = '';
    for (let word of paragraph.split(' ')) {
      if (line.length > 0 && line.length + 1 + word.length > width) {
        lines.push(line);
        line = '';
      }
      while (word.length > width) {
        lines.push(word.slice(0, width));
        word = word.slice(width);
      }
      line = line.length === 0 ? word : `${line} ${word}`;
    }
    lines.push(line);
  }
  return lines;
}

function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
}

/**
 * A text with every secret cut to its first characters: enough to see which one it is, too little to use it. Keys and signatures
 * in connection strings, tokens, private keys.
 */
export function withoutSecrets(text: string): string {
  return text
    .replace(/(SharedAccessKey=|[?& ]sig=)([^;&\s"]{4})[^;&\s"]*/g, '$1$2…')
    .replace(/("(?:token|primaryKey|secondaryKey|access_token)":\s*")([^"]{4})[^"]*/g, '$1$2…')
    .replace(/\beyJ[\w-]+\.[\w-]+\.[\w-]+/g, 'eyJ…')
    .replace(/-----BEGIN ([A-Z ]+)-----[\s\S]*?-----END \1-----(\\n|\n)?/g, '-----BEGIN $1-----…');
}
