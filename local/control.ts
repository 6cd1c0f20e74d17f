import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type FaultSwitch, InvalidFaultError } from './kit/faults.ts';
import { listen } from './kit/https-server.ts';

export interface ControlOptions {
  faults: FaultSwitch;
  /** Every message that the hub has received. */
  telemetry(): Iterable<object>;
  port?: number;
}

export interface Control {
  faultsUrl: string;
  telemetryUrl: string;
  close(): Promise<void>;
}

interface Answer {
  status: number;
  contentType?: string;
  body?: string;
}

const largestBody = 65_536;

/**
 * The local cloud's own control panel, plain HTTP on loopback: faults are armed, listed and cleared, calls counted and
 * the counts reset, and the hub's telemetry read. It is no part of any double, so nothing that it does is counted.
 */
export async function startControl(options: ControlOptions): Promise<Control> {
  const server = createServer((request, response) => {
    answer(options, request).then(
      (given) => send(response, given),
      (error: unknown) => send(response, explain(error)),
    );
  });
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  const base = `http://127.0.0.1:${await listen(server, options.port ?? 0)}`;
  return {
    faultsUrl: `${base}/faults`,
    telemetryUrl: `${base}/telemetry`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

async function answer({ faults, telemetry }: ControlOptions, request: IncomingMessage): Promise<Answer> {
  const path = (request.url ?? '/').split('?', 1)[0]?.replace(/(?<=.)\/$/, '');
  switch (`${request.method} ${path}`) {
    case 'POST /faults':
      faults.add(parse(await readBody(request)));
      return json(201, faults.list().at(-1));
    case 'GET /faults':
      return json(200, faults.list());
    case 'DELETE /faults':
      faults.clear();
      return { status: 204 };
    case 'GET /faults/calls':
      return json(200, faults.calls());
    case 'DELETE /faults/calls':
      faults.resetCalls();
      return { status: 204 };
    case 'GET /telemetry': {
      const lines = [...telemetry()].map((message) => `${JSON.stringify(message)}\n`);
      return { status: 200, contentType: 'application/x-ndjson', body: lines.join('') };
    }
  }
  return json(404, { error: 'Known: POST, GET, DELETE /faults; GET, DELETE /faults/calls; GET /telemetry.' });
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new InvalidFaultError(`The body is not JSON: ${(error as Error).message}`);
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > largestBody) throw new InvalidFaultError(`A fault is at most ${largestBody} bytes of JSON.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function explain(error: unknown): Answer {
  if (error instanceof InvalidFaultError) return json(400, { error: error.message });
  return json(500, { error: error instanceof Error ? error.message : String(error) });
}

function json(status: number, body: unknown): Answer {
  return { status, contentType: 'application/json; charset=utf-8', body: `${JSON.stringify(body)}\n` };
}

function send(response: ServerResponse, { status, contentType, body }: Answer): void {
  if (contentType === undefined || body === undefined) {
    response.writeHead(status).end();
    return;
  }
  response.writeHead(status, { 'content-type': contentType, 'content-length': Buffer.byteLength(body) }).end(body);
}
