import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { listen } from '../kit/https-server.ts';
import { serveAdmin } from './admin-api.ts';
import type { IndexedFunction } from './function-index.ts';
import { parseTarget, readBody, sendHttpData, type Target, toHttpData } from './http-messages.ts';
import { proxyStream } from './http-stream.ts';
import type { Invoker } from './invoker.ts';
import { type AuthLevel, isAtLeast, type KeyRing } from './keys.ts';
import type { HostLog } from './log.ts';
import type { LoadedApp } from './run.ts';

export interface HttpFrontOptions {
  /** Answers the app; waits while a worker is being started. */
  app(): Promise<LoadedApp>;
  keys: KeyRing;
  log: HostLog;
  /** Bytes of a request body (ScriptConstants.DefaultMaxRequestBodySize). */
  bodyLimit: number;
  homePage: boolean;
  /** Milliseconds until a streamed request without an answer becomes a 500. */
  streamTimeoutMs: number;
}

const hangUpMs = 1000;
const httpReason = 'This function was programmatically called via the host APIs.';

/** The HTTP front of the host: home page, admin API, keys and routes. */
export class HttpFront {
  readonly server: Server;
  readonly #options: HttpFrontOptions;
  #outstanding = 0;

  constructor(options: HttpFrontOptions) {
    this.#options = options;
    this.server = createServer((request, response) => {
      this.#outstanding += 1;
      response.once('close', () => {
        this.#outstanding -= 1;
      });
      this.#serve(request, response).catch((error: unknown) => this.#fail(response, error));
    });
    // Kestrel's. A client that reuses a connection for longer than Node's 5 s must not meet a reset here alone.
    this.server.keepAliveTimeout = 130_000;
  }

  /** Answers the port: where `port` is taken, a free one. */
  listen(port: number): Promise<number> {
    return listen(this.server, port);
  }

  /** Takes no more connections. Resolves when the last one has ended: {@link hangUp} ends them. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      this.server.closeIdleConnections();
    });
  }

  /** Ends every connection, after a moment for the answers that are on their way. */
  async hangUp(): Promise<void> {
    const deadline = Date.now() + hangUpMs;
    while (this.#outstanding > 0 && Date.now() < deadline) await sleep(5);
    this.server.closeAllConnections();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const target = parseTarget(request.url ?? '/');
    if (target === undefined) return empty(response, 400);
    if (target.path === '/') return this.#home(response);
    if (/^\/admin(\/|$)/i.test(target.path)) return this.#admin(request, response, target);
    const app = await this.#options.app();
    app.traffic.active += 1;
    response.once('close', () => {
      app.traffic.active -= 1;
    });
    return this.#function(app, request, response, target);
  }

  #home(response: ServerResponse): void {
    if (!this.#options.homePage) {
      empty(response, 204);
      return;
    }
    const page =
      '<!DOCTYPE html><html><head><title>Functions</title></head><body>The function app is up.</body></html>';
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page);
  }

  async #admin(request: IncomingMessage, response: ServerResponse, target: Target): Promise<void> {
    if (/^\/admin\/host\/ping\/?$/i.test(target.path)) {
      const known = request.method === 'GET' || request.method === 'POST';
      return empty(response, known ? 200 : 404);
    }
    const level = this.#options.keys.level(request.headers, target.query);
    if (level !== 'admin') return empty(response, 401);
    await serveAdmin(await this.#options.app(), request, response, target);
  }

  async #function(app: LoadedApp, request: IncomingMessage, response: ServerResponse, target: Target): Promise<void> {
    const found = findFunction(app.functions, request.method ?? 'GET', target.path);
    if (found === undefined) return empty(response, 404);
    const { called, params } = found;
    const level = this.#options.keys.level(request.headers, target.query, called.name);
    if (called.disabled && level !== 'admin') return empty(response, 404);
    if (!isAtLeast(level, authLevelOf(called))) return empty(response, 401);
    const { maxOutstandingRequests, customHeaders } = app.hostJson.http;
    if (maxOutstandingRequests !== undefined && this.#outstanding > maxOutstandingRequests) {
      response.setHeader('X-FUNCTION-SCALEOUT', '1');
      return empty(response, 429);
    }
    const length = Number(request.headers['content-length'] ?? 0);
    if (length > this.#options.bodyLimit) return refuseBody(response);
    const call = { invoker: app.invoker, called, params, request, response, target, customHeaders };
    if (app.httpUri !== undefined) {
      const { streamTimeoutMs } = this.#options;
      return proxyStream({ ...call, httpUri: app.httpUri, timeoutMs: streamTimeoutMs, reason: httpReason });
    }
    await this.#buffered(call);
  }

  async #buffered(call: {
    invoker: Invoker;
    called: IndexedFunction;
    params: Record<string, string>;
    request: IncomingMessage;
    response: ServerResponse;
    target: Target;
    customHeaders: Record<string, string>;
  }): Promise<void> {
    const { invoker, called, params, request, response, target, customHeaders } = call;
    // Without a length there is no body: the real host looks at Content-Length alone (ToRpcHttp).
    let body: Buffer | undefined;
    if (Number(request.headers['content-length'] ?? 0) > 0) {
      body = await readBody(request, this.#options.bodyLimit);
      if (body === undefined) return refuseBody(response);
    }
    const data = { http: toHttpData(request, target, params, body) };
    const answer = await invoker.run(called, { data, reason: httpReason });
    const http = answer.returnValue?.http;
    if (http === undefined) {
      for (const [name, value] of Object.entries(customHeaders)) response.setHeader(name, value);
      return empty(response, 204);
    }
    sendHttpData(response, http, customHeaders);
  }

  /** What went wrong is in the log already; the caller learns nothing but the status (ExceptionMiddleware). */
  #fail(response: ServerResponse, error: unknown): void {
    this.#options.log.write('debug', 'Host.Results', error instanceof Error ? error.message : String(error));
    if (response.headersSent) response.destroy();
    else empty(response, 500);
  }
}

function findFunction(
  functions: IndexedFunction[],
  method: string,
  path: string,
): { called: IndexedFunction; params: Record<string, string> } | undefined {
  const relative = path.slice(1);
  for (const called of functions) {
    if (called.http === undefined) continue;
    const { methods, template } = called.http;
    if (methods !== undefined && !methods.has(method)) continue;
    const params = template.match(relative);
    if (params !== undefined) return { called, params };
  }
  return undefined;
}

function authLevelOf(called: IndexedFunction): AuthLevel {
  return called.http?.authLevel ?? 'admin';
}

function refuseBody(response: ServerResponse): void {
  response.setHeader('connection', 'close');
  empty(response, 413);
}

function empty(response: ServerResponse, status: number): void {
  response.writeHead(status, status === 204 ? {} : { 'content-length': 0 }).end();
}
