import type { IncomingMessage } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { GatepostDeviceError, reasonOf, systemCode } from '../errors.ts';

/** A service of the host, by the name that people know it by. */
export interface HostService {
  /** `Identity Service`, `Keys Service`, `Certificates Service`. */
  name: string;
  socket: string;
}

export interface SocketRequest {
  method: 'GET' | 'POST';
  /** With its query. */
  path: string;
  json?: object;
  timeoutMs: number;
  signal?: AbortSignal | undefined;
}

export interface SocketAnswer {
  status: number;
  contentType: string;
  text: string;
}

const maxAnswerBytes = 256 * 1024;
/** Waits between tries on a socket that hung up. The daemons do so, without a word, above ten connections of one user. */
const hangUpWaitsMs = [50, 100, 200, 400, 800];

/**
 * One HTTP request over a Unix socket, on a connection of its own: the daemons close the eleventh connection of a user
 * without an answer, so that a pool of kept ones would lock its owner out
 * (Azure/iot-identity-service, docs/socket-throttling.md). A connection that is hung up on is tried again, but only for
 * requests that may be repeated. Throws `identity_service_missing` and `identity_service_unreachable`.
 */
export async function callSocket(
  service: HostService,
  request: SocketRequest,
  options: { isRepeatable: boolean },
): Promise<SocketAnswer> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await once(service, request);
    } catch (error) {
      const waitMs = hangUpWaitsMs[attempt];
      if (!options.isRepeatable || waitMs === undefined || !isHangUp(error)) throw explain(service, error);
      await delay(waitMs * (0.5 + Math.random()), undefined, { signal: request.signal }).catch(() => {});
      if (request.signal?.aborted) throw explain(service, error);
    }
  }
}

async function once(service: HostService, request: SocketRequest): Promise<SocketAnswer> {
  const { request: open } = await import('node:http');
  const { method, path, json, timeoutMs, signal } = request;
  const body = json === undefined ? undefined : JSON.stringify(json);
  return new Promise((resolve, reject) => {
    const sent = open(
      {
        socketPath: service.socket,
        method,
        path,
        agent: false,
        ...(signal === undefined ? {} : { signal }),
        headers: {
          host: 'localhost',
          connection: 'close',
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        },
      },
      (answer) => {
        collect(answer).then(
          (text) =>
            resolve({ status: answer.statusCode ?? 0, contentType: answer.headers['content-type'] ?? '', text }),
          reject,
        );
      },
    );
    const timer = setTimeout(() => sent.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    sent.on('close', () => clearTimeout(timer));
    sent.on('error', reject);
    sent.end(body);
  });
}

async function collect(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxAnswerBytes) {
      answer.destroy();
      throw new Error(`the answer is larger than ${maxAnswerBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function isHangUp(error: unknown): boolean {
  return ['ECONNRESET', 'EPIPE', 'EAGAIN'].includes(systemCode(error) ?? '');
}

function explain({ name, socket }: HostService, error: unknown): GatepostDeviceError {
  const code = systemCode(error);
  const fault = (as: 'identity_service_missing' | 'identity_service_unreachable', what: string) =>
    new GatepostDeviceError(as, `The ${name} at ${socket} ${what}`, { cause: error });
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return fault(
      'identity_service_missing',
      'is not there: install aziot-identity-service (it comes with IoT Edge), and start it.',
    );
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return fault(
      'identity_service_missing',
      `may not be used by user ${process.getuid?.() ?? '?'}: it must be in the groups aziotid, aziotcs and aziotks (gatepost-device agent install), and logged in anew.`,
    );
  }
  if (code === 'ECONNREFUSED')
    return fault('identity_service_unreachable', 'refuses connections: it is not running, or starting.');
  if (isHangUp(error)) {
    return fault(
      'identity_service_unreachable',
      'hung up without an answer: it is restarting, or this user has ten connections to it already.',
    );
  }
  return fault('identity_service_unreachable', `does not answer: ${reasonOf(error)}.`);
}
