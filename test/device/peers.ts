import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { createServer, type TLSSocket } from 'node:tls';
import { Aedes } from 'aedes';
import rhea, { type Connection, type EventContext } from 'rhea';
import { onTestFinished } from 'vitest';
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws';
import type { KeyedCertificate } from '../../local/kit/certificates.ts';
import { decide } from './support.ts';

/** A peer that speaks one protocol, as far as a test of the client's side needs it. */
export interface Peer {
  port: number;
  /** TLS connections so far, whatever came of them. */
  connections: number;
  messages: { deviceId: string; body: string }[];
  /** Credentials that were shown. */
  credentials: string[];
  /** Whether certificates, names and tokens are looked at; the device's own rules stand in support.ts. */
  setCertificate(certificate: KeyedCertificate): void;
  /** Rejects each message with this AMQP condition. */
  reject: string | undefined;
  cut(): void;
}

export type PeerProtocol = 'mqtt-ws' | 'amqp' | 'amqp-ws';

/** Plain rhea, ws and aedes behind TLS: no line is shared with the doubles of the product. */
export async function startPeer(
  protocol: PeerProtocol,
  { server: certificate }: { server: KeyedCertificate },
  options: { thumbprint?: string | undefined } = {},
): Promise<Peer> {
  const tls = { cert: certificate.chain, key: certificate.privateKey, requestCert: true, rejectUnauthorized: false };
  const peer: Peer = {
    port: 0,
    connections: 0,
    messages: [],
    credentials: [],
    reject: undefined,
    setCertificate: ({ chain, privateKey }) => server.setSecureContext({ cert: chain, key: privateKey }),
    cut: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
  const sockets = new Set<TLSSocket>();
  const amqp = amqpContainer(peer, options.thumbprint);
  const server = protocol === 'amqp' ? createServer(tls) : createHttpsServer(tls);
  server.on('secureConnection', (socket: TLSSocket) => {
    peer.connections += 1;
    sockets.add(socket);
    socket.on('error', () => {});
    if (protocol === 'amqp') amqp.accept(socket);
  });
  if (protocol !== 'amqp') await serveWebSockets(server as never, protocol, peer, amqp, options.thumbprint);
  await new Promise<void>((resolve) => (server as Server).listen(0, '127.0.0.1', resolve));
  peer.port = (server.address() as AddressInfo).port;
  onTestFinished(() => {
    peer.cut();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  return peer;
}

async function serveWebSockets(
  server: Server,
  protocol: PeerProtocol,
  peer: Peer,
  amqp: ReturnType<typeof amqpContainer>,
  thumbprint: string | undefined,
): Promise<void> {
  const broker = await mqttBroker(peer, thumbprint);
  const wanted = protocol === 'mqtt-ws' ? 'mqtt' : 'AMQPWSB10';
  const sockets = new WebSocketServer({
    server: server as never,
    path: '/$iothub/websocket',
    verifyClient: ({ req }, done) => done(req.headers['sec-websocket-protocol'] === wanted, 400),
    handleProtocols: () => wanted,
  });
  sockets.on('connection', (socket: WebSocket, request) => {
    if (protocol === 'amqp-ws') amqp.acceptWebSocket(socket, request.socket as TLSSocket);
    else {
      const stream = Object.assign(createWebSocketStream(socket), { tls: request.socket });
      stream.on('error', () => {});
      broker.handle(stream);
    }
  });
}

async function mqttBroker(peer: Peer, thumbprint: string | undefined): Promise<Aedes> {
  const broker = await Aedes.createBroker({
    authenticate: (client, userName, password, done) => {
      peer.credentials.push(password?.toString() ?? 'certificate');
      const { tls } = client.conn as unknown as { tls: TLSSocket };
      const decision = judge(client.id, userName, password?.toString(), tls, thumbprint);
      if (decision) done(null, true);
      else done(Object.assign(new Error('refused'), { returnCode: 5 }), null);
    },
    authorizePublish: (client, { payload }, done) => {
      peer.messages.push({ deviceId: client?.id ?? '', body: payload.toString() });
      done(null);
    },
  });
  onTestFinished(() => new Promise<void>((resolve) => broker.close(resolve)));
  return broker;
}

function judge(
  clientId: string,
  userName: string | undefined,
  password: string | undefined,
  socket: TLSSocket,
  thumbprint: string | undefined,
): boolean {
  const certificate = socket.getPeerX509Certificate();
  const certificates = certificate === undefined ? [] : [certificate];
  const connect = { clientId, userName, password, clean: false, certificates, again: false };
  return 'ok' in decide(connect, thumbprint);
}

/** edgeHub's order: every put-token is answered with 200, and the credential is judged when a link is opened. */
function amqpContainer(peer: Peer, thumbprint: string | undefined) {
  const container = rhea.create_container();
  const tokens = new WeakMap<Connection, string>();
  const sockets = new WeakMap<Connection, TLSSocket>();
  container.on('message', ({ connection, receiver, message, delivery }: EventContext) => {
    if (connection === undefined || message === undefined) return;
    const address = receiver?.target?.address ?? '';
    if (address === '$cbs') {
      tokens.set(connection, String(message.body));
      peer.credentials.push(String(message.body));
      const answer = { 'status-code': 200, 'status-description': 'OK' };
      const sender = [...cbs].find((each) => each.connection === connection);
      sender?.send({ correlation_id: message.message_id, application_properties: answer, body: '' } as never);
      return;
    }
    const body = message.body as { content?: Buffer } | Buffer;
    const content = Buffer.isBuffer(body) ? body : (body.content ?? Buffer.alloc(0));
    peer.messages.push({ deviceId: address.split('/')[2] ?? '', body: content.toString() });
    if (peer.reject === undefined) delivery?.accept();
    else delivery?.reject({ condition: peer.reject, description: 'the test says so' });
  });
  const cbs = new Set<NonNullable<EventContext['sender']>>();
  container.on('sender_open', ({ sender }: EventContext) => {
    if (sender?.source?.address === '$cbs') cbs.add(sender);
    sender?.set_source(sender.source as never);
  });
  container.on('receiver_open', ({ connection, receiver }: EventContext) => {
    if (connection === undefined || receiver === undefined) return;
    receiver.set_target(receiver.target as never);
    const address = receiver.target?.address ?? '';
    if (address === '$cbs') return;
    const socket = sockets.get(connection);
    const ok =
      socket !== undefined && judge(address.split('/')[2] ?? '', undefined, tokens.get(connection), socket, thumbprint);
    if (!ok) receiver.close({ condition: 'amqp:unauthorized-access', description: 'Unauthorized' });
  });
  container.on('disconnected', () => {});
  const options = { container, reconnect: false } as never;
  return {
    accept(socket: TLSSocket): void {
      const connection = container.create_connection(options);
      sockets.set(connection, socket);
      connection.accept(socket);
    },
    acceptWebSocket(socket: WebSocket, tls: TLSSocket): void {
      const connection = container.create_connection(options);
      sockets.set(connection, tls);
      const stream = createWebSocketStream(socket);
      stream.on('error', () => {});
      connection.accept(stream as never);
    },
  };
}
