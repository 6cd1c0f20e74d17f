import type { X509Certificate } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import { createWebSocketStream, WebSocketServer } from 'ws';
import type { Fault, FaultSwitch, FaultTarget } from '../kit/faults.ts';
import { type Route, type RunningServer, serveHttps } from '../kit/https-server.ts';
import { peerCertificates } from '../kit/peer-certificates.ts';
import type { ServerTls } from '../kit/tls-server.ts';

export interface WebSocketHeadOptions {
  tls: ServerTls;
  /** 0 takes a free port. A port that is taken is replaced by a free one. */
  port?: number;
  /** What speaks each subprotocol. */
  protocols: Record<string, (stream: Duplex, certificates: X509Certificate[]) => void>;
  /** What is answered to requests that are no WebSockets. */
  routes: Route[];
  faults: FaultSwitch;
  /** Whose faults strike here. */
  faultTarget: FaultTarget;
}

/** Where the device SDKs knock. edgeHub looks at the subprotocol only, so the path is nothing but a name for counting. */
const usualPath = '/$iothub/websocket';

/** Serves the device protocols over WebSockets, next to what else is on HTTPS, on one port as edgeHub does on 443. */
export function startWebSocketHead(options: WebSocketHeadOptions): Promise<RunningServer> {
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  return serveHttps({
    ...options,
    target: options.faultTarget,
    requestCert: true,
    fallback: () => ({ status: 404, body: explanation }),
    upgrade: (request, socket, head) => {
      socket.on('error', () => {});
      upgrade(options, sockets, { request, socket, head }).catch(() => socket.destroy());
    },
  });
}

const explanation = {
  Message:
    'A gateway takes no telemetry over HTTP: connect by MQTT or AMQP, over TLS or over WebSockets with the subprotocol mqtt or AMQPWSB10.',
};

interface Upgrade {
  request: IncomingMessage;
  socket: Duplex;
  head: Buffer;
}

async function upgrade(
  options: WebSocketHeadOptions,
  sockets: WebSocketServer,
  { request, socket, head }: Upgrade,
): Promise<void> {
  const fault = strike(options, request);
  if (fault !== undefined && (await misbehave(fault, socket)) === 'ended') return;
  const protocol = choose(options, request);
  if (protocol === undefined) {
    refuse(socket, 400);
    return;
  }
  const certificates = peerCertificates(request.socket as TLSSocket);
  // The name that the client wrote comes back: to the `ws` of a client "MQTT" and "mqtt" are not the same.
  sockets.options.handleProtocols = () => protocol.asked;
  sockets.handleUpgrade(request, socket, head, (webSocket) => {
    const stream = createWebSocketStream(webSocket);
    stream.on('error', () => {});
    if (fault !== undefined && 'cut' in fault) socket.destroy();
    else protocol.accept(stream, certificates);
  });
}

/** The first subprotocol that is served, no matter the case (Azure/iotedge, edge-hub Http WebSocketListenerRegistry.cs). */
function choose(
  { protocols }: WebSocketHeadOptions,
  request: IncomingMessage,
): { asked: string; accept(stream: Duplex, certificates: X509Certificate[]): void } | undefined {
  const served = new Map(Object.entries(protocols).map(([name, accept]) => [name.toLowerCase(), accept]));
  for (const asked of (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())) {
    const accept = served.get(asked.toLowerCase());
    if (accept !== undefined) return { asked, accept };
  }
  return undefined;
}

function strike({ faults, faultTarget }: WebSocketHeadOptions, request: IncomingMessage): Fault | undefined {
  const { method = 'GET', url = '/' } = request;
  faults.count(faultTarget, method, url.split('?', 1)[0] === usualPath ? usualPath : '(unknown)');
  return faults.strike(faultTarget, method, url);
}

/** Does what can be done before the work, on the bare connection. Answers `ended` where there is no more to it. */
async function misbehave(fault: Fault, socket: Duplex): Promise<'ended' | 'go on'> {
  if ('hang' in fault) return 'ended';
  if ('delayMs' in fault) await sleep(fault.delayMs);
  else if ('status' in fault) refuse(socket, fault.status, fault.retryAfter);
  else if (fault.cut === 'before') socket.destroy();
  return 'status' in fault || ('cut' in fault && fault.cut === 'before') ? 'ended' : 'go on';
}

function refuse(socket: Duplex, status: number, retryAfter?: number): void {
  const wait = retryAfter === undefined ? '' : `Retry-After: ${retryAfter}\r\n`;
  socket.end(`HTTP/1.1 ${status} \r\n${wait}Connection: close\r\nContent-Length: 0\r\n\r\n`);
}
