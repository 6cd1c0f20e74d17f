import { Agent, createServer, type IncomingMessage, type ServerResponse, request as send } from 'node:http';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type { FaultSwitch } from '../kit/faults.ts';
import { listen, misbehave } from '../kit/https-server.ts';
import { storageError } from './storage-error.ts';

export const storageServices = ['blob', 'queue', 'table'] as const;
export type StorageService = (typeof storageServices)[number];

export interface FaultProxyOptions {
  service: StorageService;
  /** The account's name, which is the first segment of every path. */
  account: string;
  faults: FaultSwitch;
  upstreamPort: number;
  port: number;
}

export interface FaultProxy {
  service: StorageService;
  port: number;
  close(): Promise<void>;
}

/**
 * An HTTP proxy in front of one Azurite service. Method, path, query and headers (Host too) pass unchanged, because
 * the shared-key signature covers them; bodies are streamed.
 */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const agent = new Agent({ keepAlive: true });
  const server = createServer((request, response) => {
    serve(options, agent, request, response).catch(() => response.destroy());
  });
  // As Azure's front ends: clients may keep a connection for a minute.
  server.keepAliveTimeout = 60_000;
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const port = await listen(server, options.port);
  return {
    service: options.service,
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          agent.destroy();
          resolve();
        });
        for (const socket of sockets) socket.destroy();
      }),
  };
}

async function serve(
  options: FaultProxyOptions,
  agent: Agent,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const method = request.method ?? 'GET';
  const path = request.url ?? '/';
  const fault = options.faults.strike('storage', method, path);
  options.faults.count('storage', method, pathTemplate(options.service, options.account, path));
  const refuse = ({ status, retryAfter }: { status: number; retryAfter?: number }) => {
    request.resume();
    const { headers, body } = storageError(options.service, status);
    if (retryAfter !== undefined) headers['retry-after'] = String(retryAfter);
    response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) }).end(body);
  };
  if (fault !== undefined && (await misbehave(fault, request, refuse))) return;
  const answer = await forward(options.upstreamPort, agent, request);
  if (fault !== undefined && 'cut' in fault) {
    // The work is done once the whole answer is here; nobody gets to see it.
    for await (const _ of answer);
    request.socket.destroy();
    return;
  }
  response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
  await pipeline(answer, response);
}

function forward(port: number, agent: Agent, request: IncomingMessage): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const onward = send(
      { host: '127.0.0.1', port, agent, method: request.method, path: request.url, headers: request.rawHeaders },
      resolve,
    );
    onward.once('error', reject);
    // A client that hangs up in the middle must not leave half a request standing.
    request.once('close', () => {
      if (!request.complete) onward.destroy(new Error('the client hung up'));
    });
    request.pipe(onward);
  });
}

/**
 * What a call is counted under: the service and what is addressed in it, with keys, blob names and message ids taken
 * out, such as `/table/JoinTokens(PartitionKey,RowKey)`.
 */
export function pathTemplate(service: StorageService, account: string, path: string): string {
  const [pathname = '/'] = path.split('?', 1);
  const [first, resource = '', ...rest] = pathname.slice(1).split('/');
  if (first !== account) return '(unknown)';
  const table = /^([^(]*)\((.*)/.exec(resource);
  if (service === 'table' && table !== null)
    return `/table/${table[1]}${table[2] === ')' ? '()' : '(PartitionKey,RowKey)'}`;
  if (rest.length === 0 || rest[0] === '') return `/${service}/${resource}`;
  if (service === 'queue') return `/queue/${resource}/messages${rest.length > 1 ? '/{id}' : ''}`;
  return `/${service}/${resource}/{name}`;
}
