import { type ClientRequest, type IncomingMessage, type ServerResponse, request as send } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IndexedFunction } from './function-index.ts';
import { joinHeaders, joinQuery, readBody, type Target } from './http-messages.ts';
import type { Invoker } from './invoker.ts';
import type { TypedData } from './protocol.ts';
import { WorkerGoneError } from './worker-process.ts';

export interface StreamedCall {
  called: IndexedFunction;
  params: Record<string, string>;
  request: IncomingMessage;
  response: ServerResponse;
  target: Target;
  customHeaders: Record<string, string>;
  /** The library's own HTTP server in the worker. */
  httpUri: string;
  invoker: Invoker;
  timeoutMs: number;
  reason: string;
}

const hopByHop = [
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'host',
];
const bindingDataLimit = 1024 * 1024;
const deathNoticeMs = 1000;

/**
 * Streams a call: the worker learns of it over the channel, request and response travel through the HTTP server that
 * `@azure/functions` opens in the worker (src/http/httpProxy.ts), told apart by `x-ms-invocation-id`.
 *
 * A handler that throws or returns nothing never answers that server; only the time limit ends the request then. This
 * is how the real host behaves, so it is how apps must expect to be treated.
 */
export async function proxyStream(call: StreamedCall): Promise<void> {
  const { request, response, target, called, invoker } = call;
  const body = await jsonBody(request);
  const triggerMetadata = bindingData(call, body);
  const { invocationId, completed } = invoker.start(called, {
    // The request itself comes through the proxy; the binding only has to be there.
    data: { http: {} },
    triggerMetadata,
    reason: call.reason,
  });
  const url = new URL(call.httpUri);
  const onward = send({
    // The library says `localhost`, and listens on every address: a fixed one spares a look-up per request.
    host: '127.0.0.1',
    port: url.port,
    method: request.method,
    path: target.rawPath.replace(/%2f/gi, '%252F') + target.query,
    headers: onwardHeaders(request, invocationId),
  });
  const died = completed.catch((error: unknown) => {
    if (error instanceof WorkerGoneError) onward.destroy(error);
  });
  response.once('close', () => onward.destroy());
  if (body === undefined) request.pipe(onward);
  else onward.end(body);
  const answer = await answerOf(onward, request, call.timeoutMs).catch(async (error: unknown) => {
    // A broken connection is the first sign of a dying worker: its caller hears of it when its end is known, so that the
    // next call goes to a new one.
    await Promise.race([died, sleep(deathNoticeMs, undefined, { ref: false })]);
    throw error;
  });
  response.writeHead(answer.statusCode ?? 200, answer.statusMessage, {
    ...call.customHeaders,
    ...withoutHopByHop(answer),
  });
  await pipeline(answer, response);
  await died;
}

/** Waits for the answer's head, for as long as the request body moves and `timeoutMs` after. */
function answerOf(onward: ClientRequest, request: IncomingMessage, timeoutMs: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => onward.destroy(new Error('The function did not answer in time.')), timeoutMs);
    request.on('data', () => timer.refresh());
    onward.once('response', (answer) => {
      clearTimeout(timer);
      resolve(answer);
    });
    onward.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
  });
}

function onwardHeaders(request: IncomingMessage, invocationId: string): Record<string, string> {
  const headers = joinHeaders(request.rawHeaders);
  for (const name of hopByHop) delete headers[name];
  return {
    ...headers,
    'x-ms-invocation-id': invocationId,
    'x-forwarded-host': request.headers.host ?? 'localhost',
    'x-forwarded-proto': 'http',
  };
}

function withoutHopByHop(answer: IncomingMessage): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(answer.headers)) {
    if (value !== undefined && !hopByHop.includes(name)) headers[name] = value;
  }
  return headers;
}

/** A JSON body is read beforehand, because its properties are binding data; any other streams through. */
async function jsonBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const length = Number(request.headers['content-length'] ?? 0);
  const isJson = /^application\/json\b/i.test(request.headers['content-type'] ?? '');
  if (!isJson || length === 0 || length > bindingDataLimit) return undefined;
  return readBody(request, bindingDataLimit);
}

/**
 * What ends up in `request.params`: top-level properties of a JSON body, above them the query, above that the route. The
 * library leaves out `Query` and takes the headers of the request from `Headers`.
 */
function bindingData(call: StreamedCall, body: Buffer | undefined): Record<string, TypedData> {
  const query = joinQuery(call.target.query);
  const values: Record<string, TypedData> = {};
  for (const [name, value] of Object.entries({ ...bodyProperties(body), ...query, ...call.params })) {
    values[name] = { string: value };
  }
  values.Query = { json: JSON.stringify(query) };
  values.Headers = { json: JSON.stringify(joinHeaders(call.request.rawHeaders)) };
  return values;
}

function bodyProperties(body: Buffer | undefined): Record<string, string> {
  const properties: Record<string, string> = {};
  if (body === undefined) return properties;
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString());
  } catch {
    return properties;
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return properties;
  for (const [name, value] of Object.entries(parsed)) {
    if (value === null) continue;
    properties[name] = typeof value === 'object' ? JSON.stringify(value) : String(value);
  }
  return properties;
}
