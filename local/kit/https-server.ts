import type { X509Certificate } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createPlainServer } from 'node:http';
import { createServer, Server as HttpsServer } from 'node:https';
import type { AddressInfo, Server as NetServer, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { TLSSocket } from 'node:tls';
import type { Fault, FaultSwitch, FaultTarget } from './faults.ts';
import { peerCertificates } from './peer-certificates.ts';

/** One request as a double sees it. */
export interface Exchange {
  method: string;
  /** Path and query as a URL; its host is the Host header's. */
  url: URL;
  /** Template variables, percent-decoded. */
  params: Record<string, string>;
  headers: IncomingMessage['headers'];
  body: Buffer;
  /** What the client has proved its key of, leaf first. Empty unless `requestCert`. */
  certificates: X509Certificate[];
}

export interface Reply {
  status: number;
  headers?: Record<string, string>;
  /** An object is sent as JSON; absent is an empty body. */
  body?: string | Buffer | object;
}

export interface Route {
  method: string;
  /** A template such as `/devices/{id}/modules/{moduleId}`: one variable is one segment. */
  path: string;
  handle(exchange: Exchange): Reply | Promise<Reply>;
}

export interface HttpsDoubleOptions {
  target: FaultTarget;
  faults: FaultSwitch;
  /** Absent: plain HTTP, which only App Service's identity endpoint speaks. */
  tls?: { cert: string; key: string };
  /** Asks clients for a certificate; those that have none, or one of any issuer, get in all the same. */
  requestCert?: boolean;
  routes: Route[];
  /** Answers what no route matches. Default: 404 with an empty body. */
  fallback?(exchange: Exchange): Reply | Promise<Reply>;
  /** Runs before the route: a reply ends the request, such as a 401 or a 429. */
  guard?(exchange: Exchange, route: Route): Reply | undefined | Promise<Reply | undefined>;
  /** The body of a reply that a `status` fault makes. Default: empty, as a front end's error is. */
  faultBody?(status: number): string | object;
  /** Takes over a connection that asks for another protocol. Absent: such a request is answered like any other. */
  upgrade?(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** 0 takes a free port. A port that is taken is replaced by a free one. */
  port?: number;
}

export interface RunningServer {
  port: number;
  /** New connections are served with this certificate; those that stand stay. */
  setCertificate(tls: { cert: string; key: string }): void;
  close(): Promise<void>;
}

interface CompiledRoute extends Route {
  pattern: RegExp;
}

/** Starts a double's HTTPS server on loopback, behind the fault switch, its calls counted by path template. */
export async function serveHttps(options: HttpsDoubleOptions): Promise<RunningServer> {
  const routes = options.routes.map((route) => ({ ...route, pattern: compile(route.path) }));
  const serve = (request: IncomingMessage, response: ServerResponse) => {
    respond(options, routes, request, response).catch((error: unknown) => {
      process.stderr.write(`${options.target} double: ${error instanceof Error ? error.stack : String(error)}\n`);
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end();
    });
  };
  const server =
    options.tls === undefined
      ? createPlainServer(serve)
      : createServer(
          {
            ...options.tls,
            minVersion: 'TLSv1.2',
            requestCert: options.requestCert ?? false,
            rejectUnauthorized: false,
          },
          serve,
        );
  const sockets = new Set<Socket>();
  server.on(options.tls === undefined ? 'connection' : 'secureConnection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('tlsClientError', () => {});
  if (options.upgrade !== undefined) server.on('upgrade', options.upgrade);
  const port = await listen(server, options.port ?? 0);
  return {
    port,
    setCertificate: (tls) => {
      if (server instanceof HttpsServer) server.setSecureContext({ ...tls, minVersion: 'TLSv1.2' });
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** Listens on loopback; where `port` is taken, on a free one. Answers the port. */
export async function listen(server: NetServer, port: number): Promise<number> {
  try {
    return await tryListen(server, port);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (port === 0 || (code !== 'EADDRINUSE' && code !== 'EACCES')) throw error;
    return tryListen(server, 0);
  }
}

function tryListen(server: NetServer, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      server.off('error', reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

async function respond(
  options: HttpsDoubleOptions,
  routes: CompiledRoute[],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const method = request.method ?? 'GET';
  const target = request.url ?? '/';
  const fault = options.faults.strike(options.target, method, target);
  const body = await readBody(request);
  const url = new URL(target, `https://${request.headers.host ?? 'localhost'}`);
  if (!isDecodable(url.pathname)) {
    options.faults.count(options.target, method, '(unknown)');
    return send(response, { status: 400 });
  }
  const found = match(routes, method, url.pathname);
  options.faults.count(options.target, method, found?.route.path ?? '(unknown)');
  const refuse = ({ status, retryAfter }: { status: number; retryAfter?: number }) => {
    const headers = retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) };
    const body = options.faultBody?.(status);
    send(response, { status, headers, ...(body === undefined ? {} : { body }) });
  };
  if (fault !== undefined && (await misbehave(fault, request, refuse))) return;
  const exchange: Exchange = {
    method,
    url,
    params: found?.params ?? {},
    headers: request.headers,
    body,
    certificates: certificatesOf(request),
  };
  const reply = await answer(options, found?.route, exchange);
  if (fault !== undefined && 'cut' in fault) {
    request.socket.destroy();
    return;
  }
  send(response, reply);
}

async function answer(options: HttpsDoubleOptions, route: Route | undefined, exchange: Exchange): Promise<Reply> {
  if (route === undefined) return options.fallback?.(exchange) ?? { status: 404 };
  return (await options.guard?.(exchange, route)) ?? route.handle(exchange);
}

/**
 * Does what the fault asks for before the work is done; `refuse` sends the answer of a `status` fault. Answers true where
 * the request ends here.
 */
export async function misbehave(
  fault: Fault,
  request: IncomingMessage,
  refuse: (fault: { status: number; retryAfter?: number }) => void,
): Promise<boolean> {
  if ('hang' in fault) return true;
  if ('delayMs' in fault) {
    await new Promise((resolve) => setTimeout(resolve, fault.delayMs));
    return false;
  }
  if ('cut' in fault) {
    if (fault.cut === 'before') request.socket.destroy();
    return fault.cut === 'before';
  }
  refuse(fault);
  return true;
}

function send(response: ServerResponse, reply: Reply): void {
  const headers: Record<string, string> = { ...reply.headers };
  let body: string | Buffer | undefined;
  if (typeof reply.body === 'object' && !Buffer.isBuffer(reply.body)) {
    headers['content-type'] ??= 'application/json; charset=utf-8';
    body = JSON.stringify(reply.body);
  } else {
    body = reply.body;
  }
  if (reply.status !== 204 && reply.status !== 304) headers['content-length'] = String(Buffer.byteLength(body ?? ''));
  response.writeHead(reply.status, headers).end(body);
}

function certificatesOf({ socket }: IncomingMessage): X509Certificate[] {
  return socket instanceof TLSSocket ? peerCertificates(socket) : [];
}

function readBody(request: IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => resolve(Buffer.concat(chunks)));
    request.on('error', reject);
  });
}

/** Front ends refuse a path with a broken escape before any service sees it. */
function isDecodable(path: string): boolean {
  try {
    decodeURIComponent(path);
    return true;
  } catch {
    return false;
  }
}

function match(
  routes: CompiledRoute[],
  method: string,
  path: string,
): { route: CompiledRoute; params: Record<string, string> } | undefined {
  for (const route of routes) {
    if (route.method !== method) continue;
    const groups = route.pattern.exec(path);
    if (groups === null) continue;
    const entries = Object.entries(groups.groups ?? {});
    return { route, params: Object.fromEntries(entries.map(([name, value]) => [name, decodeURIComponent(value)])) };
  }
  return undefined;
}

function compile(template: string): RegExp {
  const pattern = template
    .split(/(\{\w+\})/)
    .map((part) =>
      part.startsWith('{') ? `(?<${part.slice(1, -1)}>[^/]+)` : part.replace(/[.*+?^$()|[\]\\]/g, '\\$&'),
    )
    .join('');
  return new RegExp(`^${pattern}/?$`, 'i');
}
