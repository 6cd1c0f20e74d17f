import { EventEmitter } from 'node:events';
import { checkServerIdentity, type PeerCertificate, type TLSSocket } from 'node:tls';
import { GatepostDeviceError, reasonOf } from './errors.ts';
import { type ProvenPeer, provePeer } from './probe.ts';

/** What azure-iot-mqtt-base uses of the mqtt package: its constructor takes any object of this shape as its provider. */
export interface MqttProvider {
  connect(uri: string, options: object): EventEmitter & { stream?: TLSSocket };
}

export interface GatewayOnlyOptions {
  host: string;
  port: number;
  /** The trusted roots, one PEM text. */
  roots: string;
}

/**
 * The mqtt package with one door. Every connection that the SDK makes, the first and each reconnection, passes here:
 * an address that is not the gateway's is refused before a socket exists, so neither a credential nor a name lookup can
 * reach the hub; the roots and the host name are set on each connection, whatever options were set on the client; and
 * the finished handshake is proved again from the socket.
 */
export class GatewayOnlyMqtt implements MqttProvider {
  readonly #mqtt: MqttProvider;
  readonly #gateway: GatewayOnlyOptions;
  #socket: TLSSocket | undefined;
  /** The peer of the latest connection, as its certificate proved it. */
  peer: ProvenPeer | undefined;
  /** The last connection attempt that was refused here. */
  refusal: GatepostDeviceError | undefined;

  constructor(mqtt: MqttProvider, gateway: GatewayOnlyOptions) {
    this.#mqtt = mqtt;
    this.#gateway = gateway;
  }

  connect(uri: string, options: object): EventEmitter & { stream?: TLSSocket } {
    const { host, port } = this.#gateway;
    if (!this.#isGateway(uri)) {
      const message = `The SDK was about to connect to ${uri} and not to the gateway ${host}:${port}: stopped before anything was sent.`;
      return this.#refuse(new GatepostDeviceError('peer_not_gateway', message));
    }
    this.peer = undefined;
    try {
      return this.#connect(uri, options);
    } catch (error) {
      // The SDK calls from a callback of its own: what is thrown there ends the process.
      return this.#refuse(
        new GatepostDeviceError('internal', `The MQTT client cannot connect: ${reasonOf(error)}`, { cause: error }),
      );
    }
  }

  /** Drops the connection without a goodbye, for a peer that does not answer. Resolves when the SDK has seen it go. */
  async destroy(): Promise<void> {
    const socket = this.#socket;
    if (socket === undefined || socket.closed) return;
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.destroy();
    await closed;
  }

  #connect(uri: string, options: object): EventEmitter & { stream?: TLSSocket } {
    const { host, roots } = this.#gateway;
    const client = this.#mqtt.connect(uri, {
      ...options,
      ca: roots,
      rejectUnauthorized: true,
      // The name is the gateway's by our own word, not by what the SDK put into the URI. Node calls this before any
      // application data leaves the socket.
      checkServerIdentity: (_name: string, certificate: PeerCertificate) => checkServerIdentity(host, certificate),
    });
    this.#watch(client.stream);
    return client;
  }

  #isGateway(uri: string): boolean {
    const { host, port } = this.#gateway;
    const { protocol, hostname, port: given } = new URL(uri);
    return protocol === 'mqtts:' && hostname.toLowerCase() === host && Number(given || 8883) === port;
  }

  #watch(socket: TLSSocket | undefined): void {
    if (socket === undefined || typeof socket.getPeerX509Certificate !== 'function') {
      throw new GatepostDeviceError(
        'internal',
        'The MQTT client no longer shows its TLS socket: the peer cannot be proved.',
      );
    }
    this.#socket = socket;
    socket.once('secureConnect', () => {
      try {
        this.peer = provePeer(socket, this.#gateway);
      } catch (error) {
        this.refusal = error as GatepostDeviceError;
        socket.destroy(this.refusal);
      }
    });
  }

  #refuse(refusal: GatepostDeviceError): EventEmitter {
    this.refusal = refusal;
    const refused = new RefusedClient();
    process.nextTick(() => refused.emit('error', refusal));
    return refused;
  }
}

/** Stands in for an MQTT client that was never made. */
class RefusedClient extends EventEmitter {
  end(_force: boolean, done: () => void): void {
    process.nextTick(done);
  }
}
