import type { ChildProcess } from 'node:child_process';
import diagnostics from 'node:diagnostics_channel';
import { appendFileSync, mkdirSync } from 'node:fs';
import { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { HostLog } from '../../local/functions-host/log.ts';
import { secretsIn } from './harvest.ts';

/*
 * Runs in every process of the tests that holds a part of the local cloud (vitest's setup file, or `node --import`) and
 * keeps two things in the folder that GATEPOST_EVIDENCE names: each secret that passed between the parts, and whatever
 * was written to where no secret may stand. It stands outside of the parts, so none can forget to take part.
 */

const folder = process.env.GATEPOST_EVIDENCE;
const known = new Set<string>();

function remember(text: string): void {
  for (const secret of secretsIn(text)) {
    if (known.has(secret.value)) continue;
    known.add(secret.value);
    appendFileSync(join(folder ?? '', `secrets.${process.pid}.ndjson`), `${JSON.stringify(secret)}\n`, { mode: 0o600 });
  }
}

function written(name: string, text: string | Buffer): void {
  if (text.length > 0) appendFileSync(join(folder ?? '', `written.${name}.${process.pid}.log`), text);
}

/** Bodies above this size are tests of sizes: they hold nothing that was issued. */
const largest = 4 * 1024 * 1024;

/** What was gathered of a message so far; nothing any more once it is too large. */
class Gathered {
  #chunks: Buffer[] = [];
  #bytes = 0;

  add(chunk: unknown): void {
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) return;
    this.#bytes += chunk.length;
    if (this.#bytes <= largest) this.#chunks.push(Buffer.from(chunk as string));
    else this.#chunks = [];
  }

  take(): Buffer {
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [];
    return all;
  }
}

const calledFrom = (message: IncomingMessage) => `${message.method} ${message.url}`;
const isStorage = (request: IncomingMessage) => request.url?.startsWith('/devstoreaccount1') === true;
/** What the API sends to a collector: OTLP over HTTP. */
const isTelemetry = (request: IncomingMessage) => /^\/v1\/(traces|metrics|logs)$/.test(request.url ?? '');
/** The API is the one server without TLS, and everything of it is under this path. */
const isApi = (request: IncomingMessage) =>
  request.url?.startsWith('/api/v1/') === true && (request.socket as Partial<TLSSocket>).encrypted !== true;
/** What the hub itself writes where somebody asks it for an export with keys, by a container's SAS. The backend has none. */
const isExport = (request: IncomingMessage) => /[?&]sig=/.test(request.url ?? '');
/** Its examples look like secrets. */
const isDescription = (request: IncomingMessage) => request.url?.startsWith('/api/v1/openapi.json') === true;
/** The calls whose answer is a credential. */
const handsOut = /\/(onboard|onboarding|connection-string|join-token|join|sas-token)(\?|$)/;

/** What is sent to a server of this process: credentials to be remembered, and rows, messages and blobs as written. */
function watchRequests(): void {
  const push = IncomingMessage.prototype.push;
  const gathered = new WeakMap<IncomingMessage, Gathered>();
  IncomingMessage.prototype.push = function (this: IncomingMessage, chunk: unknown, encoding?: BufferEncoding) {
    // A request that came in has a path; an answer to a request of ours has none.
    if (this.url) {
      const sofar = gathered.get(this) ?? new Gathered();
      gathered.set(this, sofar);
      if (chunk === null) receive(this, sofar.take());
      else sofar.add(chunk);
    }
    return push.call(this, chunk, encoding);
  };
}

function receive(request: IncomingMessage, body: Buffer): void {
  if (isStorage(request)) {
    if (isExport(request)) return;
    written('storage', `\n--- ${calledFrom(request)}\n${body.toString('latin1')}\n`);
    return;
  }
  if (isTelemetry(request)) {
    written('traces', `\n--- ${calledFrom(request)}\n${body.toString('latin1')}\n`);
    return;
  }
  const { authorization } = request.headers;
  if (authorization !== undefined) remember(authorization);
  remember(body.toString('utf8'));
}

/** What a server of this process answers: the secrets given out, and the answers that may hold none. */
function watchAnswers(): void {
  const { writeHead, write, end } = ServerResponse.prototype;
  const gathered = new WeakMap<ServerResponse, Gathered>();
  const collect = (response: ServerResponse, chunk: unknown) => {
    const sofar = gathered.get(response) ?? new Gathered();
    gathered.set(response, sofar);
    sofar.add(chunk);
    return sofar;
  };
  ServerResponse.prototype.writeHead = function (this: ServerResponse, ...parameters: unknown[]) {
    // Headers that are given here are not among those that the response answers when asked.
    heads.set(this, JSON.stringify(parameters));
    return Reflect.apply(writeHead, this, parameters);
  } as typeof writeHead;
  ServerResponse.prototype.write = function (this: ServerResponse, ...parameters: unknown[]) {
    collect(this, parameters[0]);
    return Reflect.apply(write, this, parameters);
  } as typeof write;
  ServerResponse.prototype.end = function (this: ServerResponse, ...parameters: unknown[]) {
    answered(this, collect(this, parameters[0]).take().toString('utf8'));
    return Reflect.apply(end, this, parameters);
  } as typeof end;
}

const heads = new WeakMap<ServerResponse, string>();

function answered(response: ServerResponse, body: string): void {
  const request = response.req;
  if (isStorage(request) || isDescription(request)) return;
  const refused = response.statusCode >= 400;
  if (!refused) remember(body);
  if (!isApi(request) || (!refused && handsOut.test(request.url ?? ''))) return;
  const headers = `${heads.get(response)} ${JSON.stringify(response.getHeaders())}`;
  // The path of a call is the caller's; what the API makes of it is ours.
  written('answers', `\n--- ${request.method} ${response.statusCode}\n${headers}\n${body}\n`);
}

/** Standard output and error of every child: the command line of the device, the worker of the Functions host. */
function watchChildren(): void {
  let count = 0;
  diagnostics.subscribe('child_process', (message) => {
    const child = (message as { process: ChildProcess }).process;
    // The channel speaks before the streams are there; they carry nothing before this turn has ended.
    queueMicrotask(() => {
      // In a shell a person's `curl` prints what the API hands out: that is no log of ours.
      if (child.spawnfile === 'bash') return;
      count += 1;
      for (const stream of [child.stdout, child.stderr]) if (stream) watchStream(stream, count);
    });
  });
}

function watchStream(stream: Readable, child: number): void {
  const push = stream.push;
  stream.push = function (this: Readable, chunk: unknown, encoding?: BufferEncoding) {
    if (chunk instanceof Uint8Array || typeof chunk === 'string')
      written(`child-${child}`, Buffer.from(chunk as string));
    return push.call(this, chunk, encoding);
  };
}

/** The log of the Functions host and of the app in it: every level, also those that host.json leaves out. */
function watchLogs(): void {
  const write = HostLog.prototype.write;
  HostLog.prototype.write = function (this: HostLog, level, category, message) {
    written('host', `[${level}] ${category}: ${message}\n`);
    write.call(this, level, category, message);
  };
}

/** What a double says on its own standard output and error. */
function watchProcess(): void {
  for (const stream of [process.stdout, process.stderr]) {
    const write = stream.write;
    stream.write = function (this: typeof stream, ...parameters: unknown[]) {
      written('process', Buffer.from(parameters[0] as string));
      return Reflect.apply(write, this, parameters);
    } as typeof write;
  }
}

if (folder !== undefined) {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  watchRequests();
  watchAnswers();
  watchChildren();
  watchLogs();
  watchProcess();
}
