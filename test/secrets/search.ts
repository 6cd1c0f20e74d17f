import { createPrivateKey } from 'node:crypto';

/** A secret that a double or the backend gave out or took in during the tests. */
export interface Secret {
  kind: string;
  value: string;
}

/** Something that was written and must not hold a secret. `name` says what it is: a child's output, a table row. */
export interface Written {
  name: string;
  text: string;
}

export interface Leak {
  kind: string;
  /** How the secret was spelled where it was found. */
  form: string;
  where: string;
  /** The text around it, with the secret taken out: a report of a leak must not be the next one. */
  context: string;
}

interface Needle {
  kind: string;
  form: string;
  text: string;
}

const probe = 12;
const around = 60;

/**
 * Finds every secret that stands in what was written: as it is, URL-encoded, JSON-escaped, or in base64, base64url or hex at any
 * alignment, also inside a larger encoded text. A key in PEM is found by any line of its body, a token by its signature.
 */
export function findLeaks(written: Iterable<Written>, secrets: Iterable<Secret>): Leak[] {
  const needles = index(secrets);
  const starts = new StartFilter(needles.keys());
  const leaks: Leak[] = [];
  for (const { name, text } of written) {
    // A secret is found once, although its later characters may begin another spelling of it.
    let done = 0;
    for (const at of starts.candidates(text)) {
      if (at < done) continue;
      const needle = needles.get(text.substring(at, at + probe))?.find((each) => text.startsWith(each.text, at));
      if (needle === undefined) continue;
      const end = at + needle.text.length;
      const context = `${text.slice(Math.max(0, at - around), at)}[${needle.kind}]${text.slice(end, end + around)}`;
      leaks.push({ kind: needle.kind, form: needle.form, where: name, context });
      done = end;
    }
  }
  return leaks;
}

/**
 * Says where in a text one of many starts may stand, by the hash of four characters: of the places that it leaves out, which are
 * nearly all, none has to be looked at.
 */
class StartFilter {
  readonly #bits = new Uint32Array(1 << 19);

  constructor(starts: Iterable<string>) {
    for (const start of starts) {
      let window = 0;
      for (let n = 0; n < 4; n++) window = (window << 8) | (start.charCodeAt(n) & 0xff);
      const hash = StartFilter.#hash(window);
      this.#bits[hash >>> 5] = (this.#bits[hash >>> 5] ?? 0) | (1 << (hash & 31));
    }
  }

  *candidates(text: string): Generator<number> {
    let window = 0;
    for (let end = 0; end < text.length; end++) {
      window = (window << 8) | (text.charCodeAt(end) & 0xff);
      const hash = StartFilter.#hash(window);
      if (end >= 3 && ((this.#bits[hash >>> 5] ?? 0) & (1 << (hash & 31))) !== 0) yield end - 3;
    }
  }

  static #hash(window: number): number {
    return Math.imul(window, 0x9e3779b1) >>> 8;
  }
}

/** Every needle under its first characters, so that the text is read once however many secrets there are. */
function index(secrets: Iterable<Secret>): Map<string, Needle[]> {
  const needles = new Map<string, Needle[]>();
  const seen = new Set<string>();
  for (const { kind, value } of secrets) {
    for (const part of partsOf(value)) {
      for (const [form, text] of formsOf(part)) {
        if (text.length < probe || seen.has(text)) continue;
        seen.add(text);
        const start = text.slice(0, probe);
        const sharing = needles.get(start);
        if (sharing === undefined) needles.set(start, [{ kind, form, text }]);
        else sharing.push({ kind, form, text });
      }
    }
  }
  return needles;
}

/** What of a secret is secret by itself: a PEM's lines, a JWT's signature, the `sig` of a SAS token. */
function partsOf(value: string): string[] {
  if (value.includes('-----BEGIN')) return partsOfPem(value);
  const [, , signature] = /^eyJ[\w-]+\.([\w-]+)\.([\w-]{20,})$/.exec(value) ?? [];
  if (signature !== undefined) return [signature];
  const sig = /(?:^|[ &?])sig=([^&\s]+)/.exec(value)?.[1];
  if (sig !== undefined) return [decodeURIComponent(sig)];
  return [value];
}

/**
 * The private number in pieces, so that at least one stands whole in a line however the lines are broken; and those
 * lines of the PEM that hold a good part of it. The other lines hold the public half, which is no secret.
 */
function partsOfPem(pem: string): string[] {
  const lines = pem.split(/\r?\n/).filter((line) => line.length > 0 && !line.startsWith('-----'));
  const number = privateNumber(pem);
  if (number === undefined) return lines.filter((line) => line.length >= 32);
  const starts = Array.from({ length: Math.floor((number.length - 16) / 8) + 1 }, (_, n) => n * 8);
  const from = Buffer.from(lines.join(''), 'base64').indexOf(number);
  const holding = lines.filter((_line, n) => {
    const overlap = Math.min(from + number.length, (n + 1) * 48) - Math.max(from, n * 48);
    return from >= 0 && overlap >= 16;
  });
  return [...holding, ...starts.map((start) => number.subarray(start, start + 16).toString('base64'))];
}

function privateNumber(pem: string): Buffer | undefined {
  try {
    const { d } = createPrivateKey(pem).export({ format: 'jwk' });
    return d === undefined ? undefined : Buffer.from(d, 'base64url');
  } catch {
    return undefined;
  }
}

function formsOf(value: string): [form: string, text: string][] {
  const forms: [string, string][] = [
    ['as it is', value],
    ['URL-encoded', encodeURIComponent(value)],
    ['URL-encoded in lower case', encodeURIComponent(value).replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase())],
    ['JSON-escaped', JSON.stringify(value).slice(1, -1)],
    ['JSON-escaped slashes', value.replaceAll('/', '\\/')],
    ...encodings(Buffer.from(value, 'utf8'), 'of the text'),
  ];
  const bytes = /^[\w+/-]{16,}={0,2}$/.test(value) ? Buffer.from(value, 'base64') : undefined;
  // What is base64 already stands for bytes, and those may be written in another way.
  if (bytes !== undefined && bytes.length >= 16) forms.push(...encodings(bytes, 'of the bytes'));
  return forms;
}

function encodings(bytes: Buffer, of: string): [string, string][] {
  const hex = bytes.toString('hex');
  const forms: [string, string][] = [
    [`hex ${of}`, hex],
    [`upper-case hex ${of}`, hex.toUpperCase()],
  ];
  for (const shift of [0, 1, 2]) {
    // Only the characters that depend on no neighbour: the same at whatever place the bytes stand in a larger text.
    const text = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .replace(/=+$/, '');
    const inner = text.slice(shift === 0 ? 0 : shift + 1, (bytes.length + shift) % 3 === 0 ? undefined : -1);
    forms.push([`base64 ${of}`, inner], [`base64url ${of}`, inner.replaceAll('+', '-').replaceAll('/', '_')]);
  }
  return forms;
}
