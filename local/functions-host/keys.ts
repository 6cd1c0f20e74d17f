import { randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

/** The keys of a host. Absent ones are made up. */
export interface HostKeys {
  /** Opens everything, `/admin` included. */
  master?: string;
  /** Named keys that open every function of level `function`. */
  host?: Record<string, string>;
  /** Named keys of single functions, by function name. */
  functions?: Record<string, Record<string, string>>;
}

export type AuthLevel = 'anonymous' | 'function' | 'admin';

const order: readonly AuthLevel[] = ['anonymous', 'function', 'admin'];

/** Answers what a key opens (azure-functions-host AuthenticationLevelHandler and SecretManager). */
export class KeyRing {
  readonly master: string;
  readonly #host: string[];
  readonly #functions: Map<string, string[]>;

  constructor(keys: HostKeys) {
    this.master = keys.master ?? randomBytes(40).toString('base64url');
    this.#host = Object.values(keys.host ?? {});
    const entries = Object.entries(keys.functions ?? {});
    this.#functions = new Map(entries.map(([name, named]) => [name.toLowerCase(), Object.values(named)]));
  }

  /** The level that a request's key gives it for one function, or for no function in particular. */
  level(headers: IncomingHttpHeaders, query: string, functionName?: string): AuthLevel {
    const key = requestKey(headers, query);
    if (key === undefined) return 'anonymous';
    if (same(key, this.master)) return 'admin';
    const own = functionName === undefined ? [] : (this.#functions.get(functionName.toLowerCase()) ?? []);
    return [...this.#host, ...own].some((known) => same(key, known)) ? 'function' : 'anonymous';
  }
}

export function isAtLeast(level: AuthLevel, required: AuthLevel): boolean {
  return order.indexOf(level) >= order.indexOf(required);
}

/** `x-functions-key` wins over `?code=`, even when it is wrong. */
function requestKey(headers: IncomingHttpHeaders, query: string): string | undefined {
  const header = headers['x-functions-key'];
  if (header !== undefined) return String(header);
  if (!/(^|[?&])code=/i.test(query)) return undefined;
  for (const [name, value] of new URLSearchParams(query)) if (name.toLowerCase() === 'code') return value;
  return undefined;
}

function same(left: string, right: string): boolean {
  const [a, b] = [Buffer.from(left), Buffer.from(right)];
  return a.length === b.length && timingSafeEqual(a, b);
}
