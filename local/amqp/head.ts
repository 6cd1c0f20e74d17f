import type { X509Certificate } from 'node:crypto';
import type { Duplex } from 'node:stream';
import type { FaultSwitch, FaultTarget } from '../kit/faults.ts';
import { peerCertificates } from '../kit/peer-certificates.ts';
import { type ServerTls, serveTls } from '../kit/tls-server.ts';
import type { ConnectedClients } from '../mqtt/clients.ts';
import type { Credentials, DeviceBackend } from '../mqtt/identity.ts';
import { AmqpConnection } from './connection.ts';

export interface AmqpHeadOptions {
  tls: ServerTls;
  /** 0 takes a free port. A port that is taken is replaced by a free one. */
  port?: number;
  /** The hub's name: SASL PLAIN names the first part of it. */
  hubHostname: string;
  /** Why a client is not let in; undefined where it is. Asked when a link opens. */
  refuse(credentials: Credentials): Promise<string | undefined>;
  /** The audience of a token; undefined where it does not read as one or has ended. */
  audienceOf(token: string): string | undefined;
  /** A connected client has brought a newer token. */
  renewed(credentials: Credentials): void;
  devices: DeviceBackend;
  /** Who is connected over any protocol. */
  clients: ConnectedClients;
  faults: FaultSwitch;
  /** Whose faults strike here. */
  faultTarget: FaultTarget;
}

export interface AmqpHead {
  port: number;
  /** Serves a connection that did not come to `port`, such as a WebSocket. */
  accept(stream: Duplex, certificates: X509Certificate[]): void;
  /** New connections are served with this certificate; those that stand stay. */
  setCertificate(tls: { cert: string; key: string }): void;
  close(): Promise<void>;
}

/** Serves the AMQP 1.0 device protocol of IoT Hub, by edgeHub's rules, over TLS on loopback. */
export async function startAmqpHead(options: AmqpHeadOptions): Promise<AmqpHead> {
  const connections = new Set<AmqpConnection>();
  const accept = (stream: Duplex, certificates: X509Certificate[]) => {
    const connection = new AmqpConnection(options, stream, certificates);
    connections.add(connection);
    stream.on('close', () => connections.delete(connection));
  };
  const server = await serveTls({ ...options, accept: (socket) => accept(socket, peerCertificates(socket)) });
  return {
    port: server.port,
    accept,
    setCertificate: (tls) => server.setCertificate(tls),
    close: async () => {
      await Promise.all([...connections].map((connection) => connection.shutDown()));
      await server.close();
    },
  };
}
