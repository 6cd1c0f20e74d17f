import { chmodSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { type Caller, type ServiceName, type ServiceRoute, serve } from './routing.ts';

/** What can go wrong with a request on purpose. */
export type Mischief =
  /** `internal`: 500. `cut`: the connection closes without an answer. `hang`: it stays open without one. */
  'internal' | 'cut' | 'hang' | { delayMs: number };

export interface UnixServiceOptions {
  name: ServiceName;
  routes: ServiceRoute[];
  /** Accepted values of `api-version`. */
  versions: readonly string[];
  /** Connections that one user may have at once. */
  maxConnections: number;
  /** What the next request meets, if anything. */
  mischief(caller: Caller, method: string, target: string): Mischief | undefined;
}

/** A body that has not arrived by then is given up (Azure/iot-identity-service, http-common/src/server.rs). */
const bodyTimeoutMs = 5_000;

/**
 * One daemon: an HTTP/1.1 server on one Unix socket for each user. Node cannot read SO_PEERCRED, so the path tells who
 * calls: whoever connects in the folder of a user counts as that user.
 */
export class UnixService {
  readonly #options: UnixServiceOptions;
  readonly #listening = new Map<string, Server>();
  readonly #sockets = new Set<Socket>();
  readonly #closed = new Set<Socket>();

  constructor(options: UnixServiceOptions) {
    this.#options = options;
  }

  /** Connections that are open now. */
  get connections(): number {
    return this.#sockets.size;
  }

  async listen(folder: string, uid: number): Promise<void> {
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    const path = join(folder, `${this.#options.name}.sock`);
    rmSync(path, { force: true });
    const server = this.#newServer(uid);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o660);
    this.#listening.set(path, server);
  }

  /** Stops as a daemon that has died: its sockets are still in the folder and refuse connections. */
  async refuse(): Promise<void> {
    // Node removes the file of a socket that it closes; one that has another name by then stays.
    for (const path of this.#listening.keys()) renameSync(path, `${path}.kept`);
    const paths = [...this.#listening.keys()];
    await this.close();
    for (const path of paths) renameSync(`${path}.kept`, path);
  }

  /** Drops every connection, as when the daemon restarts. */
  hangUp(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    const servers = [...this.#listening.values()];
    this.#listening.clear();
    await Promise.all(
      servers.map((server) => {
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        this.hangUp();
        return closed;
      }),
    );
  }

  #newServer(uid: number): Server {
    const server = createServer((request, response) => {
      this.#answer(uid, request, response).catch((error: unknown) => {
        process.stderr.write(`${this.#options.name} double: ${error instanceof Error ? error.stack : error}\n`);
        response.destroy();
      });
    });
    // hyper keeps idle connections for ever.
    server.keepAliveTimeout = 0;
    let open = 0;
    server.on('connection', (socket: Socket) => {
      socket.on('error', () => {});
      if (open >= this.#options.maxConnections) {
        // Closed without a word (http-common/src/connector.rs, "Max simultaneous connections reached").
        this.#closed.add(socket);
        socket.destroy();
        return;
      }
      open += 1;
      this.#sockets.add(socket);
      socket.once('close', () => {
        open -= 1;
        this.#sockets.delete(socket);
      });
    });
    return server;
  }

  async #answer(uid: number, request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#closed.has(request.socket)) return;
    const method = request.method ?? 'GET';
    const target = request.url ?? '/';
    const met = this.#options.mischief({ uid }, method, target);
    if (met === 'cut') {
      request.socket.destroy();
      return;
    }
    if (met === 'hang') return;
    if (typeof met === 'object') await new Promise((resolve) => setTimeout(resolve, met.delayMs));
    const answer =
      met === 'internal'
        ? { status: 500, body: { message: 'internal error' } }
        : await serve(this.#options, {
            uid,
            method,
            target,
            contentType: request.headers['content-type'],
            readBody: () => readBody(request),
          });
    if (answer.body === undefined) {
      response.writeHead(answer.status).end();
      return;
    }
    const text = JSON.stringify(answer.body);
    // Exactly this, without a charset: clients compare it (Azure/iot-hub-device-update, eis_coms.c).
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    response.writeHead(answer.status, headers).end(text);
  }
}

/** The body; undefined where it did not arrive in time. */
function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    const timer = setTimeout(() => resolve(undefined), bodyTimeoutMs);
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      clearTimeout(timer);
      resolve(Buffer.concat(chunks));
    });
    request.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
  });
}
