import type { IncomingMessage, ServerResponse } from 'node:http';
import type { HttpCookie, HttpData } from './protocol.ts';

/** A request target as Kestrel sees it. */
export interface Target {
  /** As sent, its dot segments removed. */
  rawPath: string;
  /** Percent-decoded but for `%2F`. */
  path: string;
  /** With its `?`; empty where there is none. */
  query: string;
}

/** Splits and decodes a request target; undefined where it is none that a server accepts. */
export function parseTarget(url: string): Target | undefined {
  const origin = url.startsWith('/') ? url : url.replace(/^https?:\/\/[^/?]*/i, '');
  const mark = origin.indexOf('?');
  const rawPath = removeDotSegments(mark < 0 ? origin : origin.slice(0, mark)) || '/';
  if (!rawPath.startsWith('/') || /%00/.test(rawPath)) return undefined;
  return { rawPath, path: decodePath(rawPath), query: mark < 0 ? '' : origin.slice(mark) };
}

function decodePath(path: string): string {
  if (!path.includes('%')) return path;
  // An encoded slash stays as it is, and so does what is not valid UTF-8 (Kestrel's UrlDecoder).
  return path.replace(/(?:%(?!2f)[0-9a-f]{2})+/gi, (encoded) => {
    try {
      return decodeURIComponent(encoded);
    } catch {
      return encoded;
    }
  });
}

function removeDotSegments(path: string): string {
  if (!/\/(\.|%2e)/i.test(path)) return path;
  const kept: string[] = [];
  const segments = path.split('/').slice(1);
  for (const [index, segment] of segments.entries()) {
    const plain = segment.replace(/%2e/gi, '.');
    if (plain !== '.' && plain !== '..') {
      kept.push(segment);
      continue;
    }
    if (plain === '..') kept.pop();
    if (index === segments.length - 1) kept.push('');
  }
  return `/${kept.join('/')}`;
}

/** Names in lower case, repeated headers joined by a comma without a space. */
export function joinHeaders(rawHeaders: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]?.toLowerCase() ?? '';
    const value = rawHeaders[index + 1] ?? '';
    const before = headers[name];
    headers[name] = before === undefined ? value : `${before},${value}`;
  }
  return headers;
}

/** One entry per key, whatever its case, repeated values joined by a comma. */
export function joinQuery(query: string): Record<string, string> {
  const joined: Record<string, string> = {};
  if (query.length < 2) return joined;
  const names = new Map<string, string>();
  for (const [key, value] of new URLSearchParams(query)) {
    const name = names.get(key.toLowerCase());
    if (name === undefined) {
      names.set(key.toLowerCase(), key);
      joined[key] = value;
    } else {
      joined[name] = `${joined[name]},${value}`;
    }
  }
  return joined;
}

/** What the function gets (azure-functions-host GrpcMessageConversionExtensions.ToRpcHttp). */
export function toHttpData(
  request: IncomingMessage,
  target: Target,
  params: Record<string, string>,
  body: Buffer | undefined,
): HttpData {
  return {
    method: request.method ?? 'GET',
    url: `http://${request.headers.host ?? 'localhost'}${target.rawPath}${target.query}`,
    nullableHeaders: wrap(joinHeaders(request.rawHeaders)),
    nullableQuery: wrap(joinQuery(target.query)),
    nullableParams: wrap(params),
    ...(body !== undefined && { body: { bytes: body } }),
  };
}

function wrap(values: Record<string, string>): Record<string, { value: string }> {
  const wrapped: Record<string, { value: string }> = {};
  for (const name of Object.keys(values)) wrapped[name] = { value: values[name] ?? '' };
  return wrapped;
}

/** Sends what the function answered: buffered by then, but without a length, as the real host does. */
export function sendHttpData(response: ServerResponse, data: HttpData, customHeaders: Record<string, string>): void {
  const headers: Record<string, string | string[]> = { ...customHeaders };
  for (const [name, value] of Object.entries(data.headers ?? {})) {
    if (name !== 'transfer-encoding' && name !== 'connection') headers[name] = value;
  }
  if (data.cookies !== undefined && data.cookies.length > 0) {
    const own = headers['set-cookie'];
    headers['set-cookie'] = [...(own === undefined ? [] : [own].flat()), ...data.cookies.map(serializeCookie)];
  }
  const body = data.body?.bytes ?? (data.body?.string === undefined ? undefined : Buffer.from(data.body.string));
  const status = Number(data.statusCode ?? '200');
  const isHead = response.req.method === 'HEAD';
  if (body === undefined || body.length === 0 || isHead) {
    if (!isHead && status !== 204 && status !== 304) headers['content-length'] = '0';
    response.writeHead(status, headers).end();
    return;
  }
  if (headers['content-length'] === undefined) headers['transfer-encoding'] = 'chunked';
  response.writeHead(status, headers).end(body);
}

/** ASP.NET's spelling and order; a cookie without a path gets `/`. */
function serializeCookie(cookie: HttpCookie): string {
  let text = `${escapeData(cookie.name)}=${escapeData(cookie.value)}`;
  const expires = cookie.expires?.value?.seconds;
  if (expires !== undefined) text += `; expires=${new Date(expires * 1000).toUTCString()}`;
  if (cookie.maxAge?.value != null) text += `; max-age=${Math.trunc(cookie.maxAge.value)}`;
  if (cookie.domain?.value) text += `; domain=${cookie.domain.value}`;
  text += `; path=${cookie.path?.value ?? '/'}`;
  if (cookie.secure?.value === true) text += '; secure';
  const sameSite = { lax: 'lax', strict: 'strict', explicitNone: 'none', none: undefined }[cookie.sameSite ?? 'none'];
  if (sameSite !== undefined) text += `; samesite=${sameSite}`;
  if (cookie.httpOnly?.value === true) text += '; httponly';
  return text;
}

function escapeData(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** Reads a body of at most `limit` bytes; undefined where it is longer. */
export function readBody(request: IncomingMessage, limit: number): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= limit) chunks.push(chunk);
      else resolve(undefined);
    });
    request.on('end', () => resolve(Buffer.concat(chunks)));
    request.on('error', reject);
    request.on('close', () => reject(new Error('The client closed the connection.')));
  });
}
