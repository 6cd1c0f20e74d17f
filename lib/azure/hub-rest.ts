import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import https from 'node:https';
import { setTimeout as sleepFor } from 'node:timers/promises';
import { GatepostError } from '../errors.ts';
import { currentTraceparent } from '../telemetry/activity.ts';
import { type Observed, observeCall } from '../telemetry/upstream-span.ts';
import { HubError, readRefusal } from './hub-error.ts';

/** The part of `TokenCredential` of @azure/identity that is used here. */
export interface HubCredential {
  getToken(scope: string): Promise<{ token: string; expiresOnTimestamp: number } | null>;
}

export interface HubRestOptions {
  hostname: string;
  agent: https.Agent;
  credential: HubCredential;
  /** Milliseconds for one operation, its retries and waits included. */
  timeoutMs: number;
  userAgent?: string;
  sleep?: (ms: number) => Promise<unknown>;
  now?: () => number;
  /** 0..1, spreads the waits of many instances. */
  random?: () => number;
}

export interface HubResponse {
  statusCode: number;
  headers: IncomingHttpHeaders;
}

export type ApiCallback = (error: Error | null, body?: unknown, response?: HubResponse) => void;

interface Attempt {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}

const tokenScope = 'https://iothubs.azure.net/.default';
const tokenMarginMs = 5 * 60_000;
const retriesAfterFault = 2;

/**
 * The REST client that azure-iothub's `Registry` is built with in place of its own, which has no time-out, no retry, sends
 * `If-Match: "*"` whatever was read, and puts the Authorization header into its errors.
 *
 * Every call here may be repeated: reads, whole-object PUTs, merge PATCHes, DELETEs and queries. The one who calls looks at
 * `uncertain` of the error to tell "someone else did it" from "our own lost attempt did it".
 */
export class HubRestClient {
  readonly #options: Required<HubRestOptions>;
  #token: { value: string; goodUntil: number } | undefined;
  #asking: Promise<string> | undefined;

  constructor(options: HubRestOptions) {
    this.#options = { userAgent: 'gatepost', sleep: sleepFor, now: Date.now, random: Math.random, ...options };
  }

  /** The entry that `Registry` calls. */
  executeApiCall(
    method: string,
    path: string,
    headers: Record<string, string | number> | null,
    body: unknown,
    done: ApiCallback,
  ): void {
    this.call(method, path, headers ?? {}, body ?? undefined).then(
      ({ body: answer, response }) => done(null, answer, response),
      (error: unknown) => done(error instanceof Error ? error : new Error(String(error))),
    );
  }

  /** `Registry` calls it with an agent of its own, which is not wanted: one agent is shared by all Azure clients. */
  setOptions(): void {}

  /** One operation with its retries. Throws {@link HubError}. */
  call(
    method: string,
    path: string,
    headers: Record<string, string | number> = {},
    body?: unknown,
  ): Promise<{ body: unknown; response: HubResponse }> {
    return observeCall('IoT Hub', operationOf(method, path), (observed) =>
      this.#withRetries(method, path, headers, body, observed),
    );
  }

  async #withRetries(
    method: string,
    path: string,
    headers: Record<string, string | number>,
    body: unknown,
    observed: Observed,
  ): Promise<{ body: unknown; response: HubResponse }> {
    const deadline = this.#options.now() + this.#options.timeoutMs;
    const bare = path.split('?')[0] ?? path;
    const state = { faults: 0, throttles: 0, tokenRefreshed: false, uncertain: false };
    for (;;) {
      const outcome = await this.#attempt(method, path, withRealEtag(method, headers, body), body, deadline);
      observed.answered(outcome instanceof HubError ? (outcome.failure ?? 'failed') : outcome.status);
      if (!(outcome instanceof HubError) && outcome.status < 400) return readAnswer(outcome, method, bare);
      const refusal = outcome instanceof HubError ? undefined : readRefusal(outcome.text);
      const error =
        outcome instanceof HubError
          ? outcome
          : new HubError({
              method,
              path: bare,
              status: outcome.status,
              ...refusal,
              // The same name in every body shape, and the only word of an answer without a body.
              code: headerText(outcome.headers['iothub-errorcode']) ?? refusal?.code,
              retryAfterSeconds: retryAfter(outcome.headers, this.#options.now()),
              uncertain: state.uncertain,
            });
      const wait = this.#waitBeforeRetry(error, state);
      if (wait === undefined || this.#options.now() + wait >= deadline) throw error;
      observed.retrying(wait);
      if (wait > 0) await this.#options.sleep(wait);
    }
  }

  /** Milliseconds until the next attempt, or undefined when there is none. */
  #waitBeforeRetry(
    error: HubError,
    state: { faults: number; throttles: number; tokenRefreshed: boolean; uncertain: boolean },
  ): number | undefined {
    if (error.status === 401 && !state.tokenRefreshed) {
      state.tokenRefreshed = true;
      this.#token = undefined;
      return 0;
    }
    const spread = 0.5 + this.#options.random() / 2;
    if (error.status === 429) {
      state.throttles += 1;
      const backoff = spread * 2 ** (state.throttles - 1);
      // `Retry-After: 0` is no leave to hammer.
      return 1000 * Math.max(error.retryAfterSeconds ?? backoff, backoff / 4);
    }
    const isFault = error.status === undefined ? error.failure !== 'timeout' : error.status >= 500;
    if (!isFault || state.faults >= retriesAfterFault) return undefined;
    state.faults += 1;
    state.uncertain = true;
    return error.retryAfterSeconds === undefined
      ? spread * 200 * 2 ** (state.faults - 1)
      : error.retryAfterSeconds * 1000;
  }

  async #attempt(
    method: string,
    path: string,
    headers: Record<string, string | number>,
    body: unknown,
    deadline: number,
  ): Promise<Attempt | HubError> {
    const bare = path.split('?')[0] ?? path;
    const authorization = `Bearer ${await this.#bearer(deadline)}`;
    const left = Math.max(1, deadline - this.#options.now());
    try {
      return await this.#send(method, path, { ...headers, Authorization: authorization }, body, left);
    } catch (error) {
      const failure = failureOf(error);
      return new HubError({ method, path: bare, failure, uncertain: failure !== 'ECONNREFUSED' });
    }
  }

  #send(
    method: string,
    path: string,
    headers: Record<string, string | number>,
    body: unknown,
    timeoutMs: number,
  ): Promise<Attempt> {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const traceparent = currentTraceparent();
    return new Promise((resolve, reject) => {
      const request = https.request(
        {
          agent: this.#options.agent,
          host: this.#options.hostname,
          method,
          path,
          headers: {
            ...headers,
            'User-Agent': this.#options.userAgent,
            'Request-Id': randomUUID(),
            ...(traceparent === undefined ? {} : { traceparent }),
            ...(payload === undefined ? {} : { 'Content-Length': payload.byteLength }),
          },
          signal: AbortSignal.timeout(timeoutMs),
        },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString('utf8');
            resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
          });
        },
      );
      request.on('error', reject);
      request.end(payload);
    });
  }

  async #bearer(deadline: number): Promise<string> {
    const now = this.#options.now();
    if (this.#token !== undefined && this.#token.goodUntil > now) return this.#token.value;
    this.#asking ??= this.#ask();
    const asking = this.#asking;
    const late = AbortSignal.timeout(Math.max(1, deadline - now));
    try {
      return await Promise.race([asking, rejection(late)]);
    } catch (cause) {
      if (this.#asking === asking) this.#asking = undefined;
      const detail = 'Microsoft Entra ID gave no token for IoT Hub. Repeat the call: it is safe to.';
      throw new GatepostError('upstream_unavailable', detail, { cause, retryAfterSeconds: 5 });
    }
  }

  /** One request for all calls that wait for a token. */
  async #ask(): Promise<string> {
    const got = await this.#options.credential.getToken(tokenScope);
    if (got === null) throw new Error('The credential gave no token.');
    this.#token = { value: got.token, goodUntil: got.expiresOnTimestamp - tokenMarginMs };
    this.#asking = undefined;
    return got.token;
  }
}

/** The method and the path without its ids, which are of unlimited number. */
function operationOf(method: string, path: string): string {
  const bare = path.split('?')[0] ?? path;
  return `${method} ${bare.replace(/^\/(devices|twins)\/(?!query$)[^/]+/, '/$1/{id}').replace(/(\/modules)\/[^/]+/, '$1/{id}')}`;
}

function rejection(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

/** `Registry.update` sends `If-Match: "*"` and ignores the etag of the object: the etag that was read is what guards it. */
function withRealEtag(
  method: string,
  headers: Record<string, string | number>,
  body: unknown,
): Record<string, string | number> {
  if (method !== 'PUT' || headers['If-Match'] === undefined) return headers;
  const etag = typeof body === 'object' && body !== null ? (body as { etag?: unknown }).etag : undefined;
  return typeof etag === 'string' && etag !== '' ? { ...headers, 'If-Match': `"${etag}"` } : headers;
}

function readAnswer(attempt: Attempt, method: string, path: string): { body: unknown; response: HubResponse } {
  const response = { statusCode: attempt.status, headers: attempt.headers };
  if (attempt.text === '') return { body: undefined, response };
  try {
    return { body: JSON.parse(attempt.text), response };
  } catch {
    throw new HubError({ method, path, failure: 'the body of a success is not JSON' });
  }
}

/** Seconds of a Retry-After header, which is a number of seconds or an HTTP date (RFC 9110 section 10.2.3). */
function retryAfter(headers: IncomingHttpHeaders, now: number): number | undefined {
  const value = headers['retry-after'];
  if (value === undefined) return undefined;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, Math.ceil(seconds)) : undefined;
}

function headerText(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' && /^\w+$/.test(value) ? value : undefined;
}

function failureOf(error: unknown): string {
  const { name, code, cause } = error as { name?: string; code?: unknown; cause?: { name?: string } };
  if (name === 'TimeoutError' || cause?.name === 'TimeoutError') return 'timeout';
  return typeof code === 'string' ? code : (name ?? 'failed');
}
