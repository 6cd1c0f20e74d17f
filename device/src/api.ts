import type { IncomingMessage, RequestOptions } from 'node:http';
import { GatepostDeviceError, reasonOf, systemCode } from './errors.ts';

export interface ApiRequest {
  method: 'GET' | 'POST';
  path: string;
  accept: string;
  json?: unknown;
  headers?: Record<string, string>;
}

export interface ApiAnswer {
  status: number;
  body: Buffer;
  retryAfterSeconds: number | undefined;
  etag: string | undefined;
}

export interface ApiOptions {
  /** Milliseconds for one request, connecting included. */
  timeoutMs?: number;
  /** Tries of a request that a retry cannot harm. */
  attempts?: number;
  sleep?(ms: number): Promise<unknown>;
}

/** Larger than any bundle: a hundred roots are 200 kB. */
const maxBodyBytes = 1024 * 1024;
const tlsFaults = [/^CERT_/, /^ERR_TLS_/, /SELF_SIGNED_CERT/, /^UNABLE_TO_/, /^ERR_SSL_/, /^EPROTO$/];
const neverArrived = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'];

/**
 * Checks the API's address: https anywhere, plain http only on this machine, because the join token and the credential
 * travel in it. Throws `usage`.
 */
export function parseApiUrl(text: string): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new GatepostDeviceError(
      'usage',
      `--api is a URL such as https://gatepost.example.net, not ${JSON.stringify(text)}.`,
    );
  }
  const local = ['127.0.0.1', 'localhost', '[::1]'].includes(url.hostname);
  if (url.protocol === 'https:' || (url.protocol === 'http:' && local)) return url;
  throw new GatepostDeviceError(
    'usage',
    '--api must be https: the join token and the credential travel in it (plain http is for this machine only).',
  );
}

/**
 * Sends one request to the Gatepost API. Redirects are not followed, since a token must not travel to another host.
 * Retries a GET after a lost connection, 429 and 5xx; a POST only where it cannot have arrived.
 * Throws `api_unreachable` and `api_untrusted`; any HTTP status is an answer.
 */
export async function callApi(api: URL, request: ApiRequest, options: ApiOptions = {}): Promise<ApiAnswer> {
  const sleep = options.sleep ?? ((ms) => new Promise((resolve) => setTimeout(resolve, ms)));
  const attempts = options.attempts ?? 3;
  for (let attempt = 1; ; attempt += 1) {
    const last = attempt === attempts;
    try {
      const answer = await send(api, request, options.timeoutMs ?? 15_000);
      const busy = answer.status === 429 || answer.status >= 500;
      if (!busy || last || request.method === 'POST') return answer;
      await sleep(Math.min((answer.retryAfterSeconds ?? attempt) * 1000, 10_000));
    } catch (error) {
      const harmless = request.method === 'GET' || neverArrived.includes(systemCode(error) ?? '');
      if (isTlsFault(error) || !harmless || last) throw explain(api, error);
      await sleep(attempt * 500);
    }
  }
}

/** The `code` and `detail` of a problem+json answer, each on one line; undefined where the answer is something else. */
export function problemOf(answer: ApiAnswer): { code: string; detail: string } | undefined {
  try {
    const { code, detail, title } = JSON.parse(answer.body.toString('utf8')) as Record<string, unknown>;
    if (typeof code !== 'string') return undefined;
    return { code, detail: reasonOf(typeof detail === 'string' ? detail : title) };
  } catch {
    return undefined;
  }
}

async function send(api: URL, request: ApiRequest, timeoutMs: number): Promise<ApiAnswer> {
  const url = new URL(`${api.pathname.replace(/\/$/, '')}${request.path}`, api);
  const body = request.json === undefined ? undefined : Buffer.from(JSON.stringify(request.json));
  const options: RequestOptions = {
    method: request.method,
    // A fresh connection: a kept one may be dead, and a lost POST could not be told from a refused one.
    agent: false,
    headers: {
      accept: request.accept,
      'user-agent': 'gatepost-device',
      ...request.headers,
      ...(body === undefined ? {} : { 'content-type': 'application/json', 'content-length': body.length }),
    },
  };
  const { request: open } = url.protocol === 'https:' ? await import('node:https') : await import('node:http');
  return new Promise((resolve, reject) => {
    const sent = open(url, options, (response) => {
      collect(response).then(
        (received) => resolve(answerOf(response, received)),
        (error: unknown) => reject(error),
      );
    });
    const timer = setTimeout(() => sent.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    sent.on('close', () => clearTimeout(timer));
    sent.on('error', reject);
    sent.end(body);
  });
}

function answerOf(response: IncomingMessage, body: Buffer): ApiAnswer {
  const seconds = Number(response.headers['retry-after']);
  return {
    status: response.statusCode ?? 0,
    body,
    retryAfterSeconds: Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined,
    etag: response.headers.etag,
  };
}

async function collect(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBodyBytes) {
      response.destroy();
      throw new Error(`the answer is larger than ${maxBodyBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function isTlsFault(error: unknown): boolean {
  const code = systemCode(error) ?? '';
  return tlsFaults.some((pattern) => pattern.test(code));
}

function explain(api: URL, error: unknown): GatepostDeviceError {
  const reason = `${systemCode(error) ?? ''} ${reasonOf(error)}`.trim();
  if (!isTlsFault(error)) {
    return new GatepostDeviceError(
      'api_unreachable',
      `The Gatepost API at ${api.origin} cannot be reached: ${reason}.`,
      { cause: error },
    );
  }
  const clock = /CERT_HAS_EXPIRED|CERT_NOT_YET_VALID/.test(reason)
    ? `Check the clock of this device first: it says ${new Date().toISOString()}.`
    : 'Node has its own list of public roots and ignores the system store; name a private root with NODE_EXTRA_CA_CERTS=FILE.';
  return new GatepostDeviceError(
    'api_untrusted',
    `The TLS certificate of the Gatepost API at ${api.origin} is not trusted (${reason}). This is the API's own certificate, not a gateway's. ${clock}`,
    { cause: error },
  );
}

/** The JSON of an answer. Throws `api_failed`; what was answered may hold a secret and is not quoted. */
export function jsonOf(api: URL, answer: ApiAnswer): unknown {
  try {
    return JSON.parse(answer.body.toString('utf8'));
  } catch {
    throw new GatepostDeviceError(
      'api_failed',
      `${api.origin} answered something that is not JSON: is it a Gatepost API?`,
    );
  }
}

/** An answer that is none of those that were expected, in words. */
export function unexpected(api: URL, path: string, answer: ApiAnswer): GatepostDeviceError {
  const problem = problemOf(answer);
  const said = problem === undefined ? '' : ` ${problem.code}: ${problem.detail}`;
  const again = answer.retryAfterSeconds === undefined ? '' : ` Try again in ${answer.retryAfterSeconds} s.`;
  return new GatepostDeviceError(
    'api_failed',
    reasonOf(`${api.origin}${path} answered ${answer.status}.${said}${again}`),
  );
}
