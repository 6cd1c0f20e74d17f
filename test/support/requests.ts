import type { HttpRequestLike, InvocationLike } from '../../lib/http/route.ts';

export interface RequestParts {
  headers?: Record<string, string>;
  params?: Record<string, string>;
  /** Sent as JSON with its type and length, unless `headers` say otherwise. */
  json?: unknown;
  body?: string | Uint8Array;
}

/** A request as the Functions host hands it to a handler. */
export function requestOf(method: string, path: string, parts: RequestParts = {}): HttpRequestLike {
  const text = parts.json === undefined ? parts.body : JSON.stringify(parts.json);
  const bytes = Buffer.from(text ?? '');
  const headers = new Headers({
    ...(parts.json === undefined ? {} : { 'content-type': 'application/json' }),
    ...(text === undefined ? {} : { 'content-length': String(bytes.byteLength) }),
    ...parts.headers,
  });
  return {
    method,
    url: new URL(path, 'http://gatepost.test').href,
    headers,
    params: parts.params ?? {},
    arrayBuffer: async () => new Uint8Array(bytes).buffer,
  };
}

/** An invocation that keeps what was logged. */
export function invocation(): InvocationLike & { lines: { level: string; line: string }[] } {
  const lines: { level: string; line: string }[] = [];
  const keep =
    (level: string) =>
    (...parts: unknown[]) =>
      void lines.push({ level, line: parts.map(String).join(' ') });
  return {
    invocationId: '0d9a4f6e-1111-4222-8333-444455556666',
    debug: keep('debug'),
    info: keep('info'),
    warn: keep('warn'),
    error: keep('error'),
    lines,
  };
}

/** The problem details of an answer. */
export function problemOf(answer: { body?: unknown }): {
  type: string;
  title: string;
  status: number;
  detail: string;
  instance: string;
  code: string;
  errors?: { pointer: string; detail: string; code?: string }[];
} {
  return JSON.parse(String(answer.body));
}
