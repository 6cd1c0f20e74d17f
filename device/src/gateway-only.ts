import { EventEmitter } from 'node:events';
import type { TLSSocket } from 'node:tls';
import type { GatewayDoor } from './gateway-door.ts';
import type { ClientCertificate } from './session.ts';

/** What azure-iot-mqtt-base uses of the mqtt package: its constructor takes any object of this shape as its provider. */
export interface MqttProvider {
  connect(uri: string, options: object): EventEmitter & { stream?: TLSSocket };
}

/** The mqtt package with one door: see {@link GatewayDoor}. */
export class GatewayOnlyMqtt implements MqttProvider {
  readonly #mqtt: MqttProvider;
  readonly #door: GatewayDoor;
  readonly #own: ClientCertificate | undefined;

  constructor(mqtt: MqttProvider, door: GatewayDoor, own?: ClientCertificate) {
    this.#mqtt = mqtt;
    this.#door = door;
    this.#own = own;
  }

  connect(uri: string, options: object): EventEmitter & { stream?: TLSSocket } {
    try {
      this.#door.check(uri);
      return this.#door.protocol === 'mqtt-ws' ? this.#webSocket(uri, options) : this.#tls(uri, options);
    } catch (error) {
      // The SDK calls from a callback of its own: what is thrown there ends the process.
      const refusal = this.#door.failed(error);
      const refused = new RefusedClient();
      process.nextTick(() => refused.emit('error', refusal));
      return refused;
    }
  }

  #tls(uri: string, options: object): EventEmitter & { stream?: TLSSocket } {
    const client = this.#mqtt.connect(uri, { ...options, ...this.#door.tls });
    this.#door.watch(client.stream);
    return client;
  }

  /** The SDK's own option for an agent (`mqtt.webSocketAgent`) ends up here too, and is replaced. */
  #webSocket(uri: string, options: object): EventEmitter {
    return this.#mqtt.connect(uri, { ...options, wsOptions: { agent: this.#door.agent(this.#own) } });
  }
}

/** Stands in for an MQTT client that was never made. */
class RefusedClient extends EventEmitter {
  end(_force: boolean, done: () => void): void {
    process.nextTick(done);
  }
}

/** What is used of azure-iot-amqp-base. */
export interface AmqpBase {
  connect(config: AmqpConfig, done: (error?: Error) => void): void;
  attachSenderLink(endpoint: string, options: null, done: (error?: Error, link?: object) => void): void;
}

interface AmqpConfig {
  uri: string;
  sslOptions?: object;
  policyOverride?: object;
}

export interface GatewayOnlyAmqpOptions {
  own: ClientCertificate | undefined;
  /** The connection is given up where nothing came for this long; the peer is told, and keeps it alive. */
  idleMs: number;
}

/**
 * Puts the one door into azure-iot-amqp-base: `policyOverride` is laid over what it hands to rhea (amqp.ts, connect), and
 * rhea takes the function that makes its socket from `connection_details`.
 */
export function holdToGateway(base: AmqpBase, door: GatewayDoor, { own, idleMs }: GatewayOnlyAmqpOptions): void {
  const connect = base.connect.bind(base);
  const dialled = () => ({
    connect: (_port: number, _host: string, _options: object, connected: () => void) => {
      const socket = door.dial(own);
      socket.once('secureConnect', () => {
        if (!socket.destroyed) connected();
      });
      return socket;
    },
  });
  base.connect = (config, done) => {
    try {
      door.check(config.uri);
      const isWebSocket = door.protocol === 'amqp-ws';
      const sslOptions = isWebSocket ? { agent: door.agent(own) } : {};
      const details = isWebSocket ? {} : { connection_details: dialled };
      const policyOverride = { ...config.policyOverride, idle_time_out: idleMs, ...details };
      connect({ ...config, sslOptions, policyOverride }, done);
    } catch (error) {
      const refusal = door.failed(error);
      process.nextTick(() => done(refusal));
    }
  };
}
