import { Agent } from 'node:https';
import { isIP } from 'node:net';
import { type ConnectionOptions, checkServerIdentity, connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { fingerprint, readCertificates } from './certificates.ts';
import { GatepostDeviceError, reasonOf } from './errors.ts';
import { type ProvenPeer, provePeer } from './probe.ts';
import type { Protocol } from './protocol.ts';
import type { ClientCertificate } from './session.ts';

export interface GatewayOnlyOptions {
  host: string;
  port: number;
  /** The trusted roots, one PEM text. */
  roots: string;
  /** Default: mqtt. */
  protocol?: Protocol;
}

const schemes: Record<Protocol, string> = { mqtt: 'mqtts:', amqp: 'amqps:', 'mqtt-ws': 'wss:', 'amqp-ws': 'wss:' };
const usualPorts: Record<string, number> = { 'mqtts:': 8883, 'amqps:': 5671, 'wss:': 443 };

/**
 * The one way out of a client. Every connection that the SDK makes, the first and each reconnection, over each protocol,
 * passes here: an address that is not the gateway's is refused before a socket exists, so neither a credential nor a
 * name lookup can reach the hub; the roots and the host name are set on each connection, whatever options were set on
 * the client; and the finished handshake is proved again from the socket.
 */
export class GatewayDoor {
  readonly #gateway: Required<GatewayOnlyOptions>;
  #socket: TLSSocket | undefined;
  /** The peer of the latest connection, as its certificate proved it. */
  peer: ProvenPeer | undefined;
  /** The last connection attempt that was refused here. */
  refusal: GatepostDeviceError | undefined;
  /** How many connections were begun. */
  connections = 0;

  constructor(gateway: GatewayOnlyOptions) {
    this.#gateway = { protocol: 'mqtt', ...gateway };
  }

  get isConnected(): boolean {
    return this.peer !== undefined && this.#socket?.destroyed === false;
  }

  get address(): { host: string; port: number } {
    const { host, port } = this.#gateway;
    return { host, port };
  }

  get protocol(): Protocol {
    return this.#gateway.protocol;
  }

  /** Throws `peer_not_gateway` where the SDK is about to connect to something else. */
  check(uri: string): void {
    const { host, port, protocol } = this.#gateway;
    const { protocol: scheme, hostname, port: given } = new URL(uri);
    // The SDK writes 443 into each WebSocket URI (mqtt_ws.ts, amqp_ws.ts); the agent below leads to the real port.
    const asked = Number(given || usualPorts[scheme]);
    const expected = protocol.endsWith('-ws') ? 443 : port;
    this.peer = undefined;
    if (scheme === schemes[protocol] && hostname.toLowerCase() === host && asked === expected) return;
    this.refusal = new GatepostDeviceError(
      'peer_not_gateway',
      `The SDK was about to connect to ${uri} and not to the gateway ${host}:${port}: stopped before anything was sent.`,
    );
    throw this.refusal;
  }

  /** What each TLS connection is held to. The name is the gateway's by our own word, not by what stands in a URI. */
  get tls(): ConnectionOptions {
    const { host, roots } = this.#gateway;
    return {
      ca: roots,
      rejectUnauthorized: true,
      // Node calls this before any application data leaves the socket.
      checkServerIdentity: (_name: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate),
    };
  }

  /** Begins a TLS connection to the gateway. */
  dial(own?: ClientCertificate): TLSSocket {
    const { host, port } = this.#gateway;
    const socket = connect({
      host,
      port,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...this.tls,
      ...(own === undefined ? {} : { cert: own.certificate, key: own.key, passphrase: own.passphrase }),
    });
    this.watch(socket);
    return socket;
  }

  /** An agent for WebSockets, whose every connection is dialled here, whatever host and port it is asked for. */
  agent(own?: ClientCertificate): Agent {
    const agent = new Agent({ keepAlive: false });
    (agent as unknown as { createConnection: () => TLSSocket }).createConnection = () => this.dial(own);
    return agent;
  }

  /** Proves the peer of this socket as soon as its handshake is done. */
  watch(socket: TLSSocket | undefined): void {
    if (socket === undefined || typeof socket.getPeerX509Certificate !== 'function') {
      throw new GatepostDeviceError(
        'internal',
        'The client no longer shows its TLS socket: the peer cannot be proved.',
      );
    }
    this.#socket = socket;
    this.connections += 1;
    socket.prependOnceListener('secureConnect', () => {
      try {
        this.peer = provePeer(socket, this.#gateway);
      } catch (error) {
        this.refusal = error as GatepostDeviceError;
        socket.destroy(this.refusal);
      }
    });
  }

  /** Notes why the SDK could not even begin, in words of ours. */
  failed(error: unknown): GatepostDeviceError {
    if (error instanceof GatepostDeviceError) return error;
    this.refusal = new GatepostDeviceError('internal', `The SDK cannot connect: ${reasonOf(error)}`, { cause: error });
    return this.refusal;
  }

  /** New roots count from the next connection on; one that stands on a root that has left is dropped. */
  trust(roots: string): void {
    this.#gateway.roots = roots;
    const known = readCertificates(roots).map(fingerprint);
    if (this.peer !== undefined && !known.includes(this.peer.rootSha256)) this.#socket?.destroy();
  }

  /** Leads to another gateway from now on. The connection that stands is dropped. */
  move({ host, port }: { host: string; port: number }): void {
    this.#gateway.host = host;
    this.#gateway.port = port;
    this.#socket?.destroy();
  }

  /** Drops the connection without a goodbye, for a peer that does not answer. Resolves when the SDK has seen it go. */
  async destroy(): Promise<void> {
    const socket = this.#socket;
    if (socket === undefined || socket.closed) return;
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.destroy();
    await closed;
  }
}
