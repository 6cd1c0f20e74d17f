import { EventEmitter } from 'node:events';
import { Agent } from 'node:https';
import iotCommon from 'azure-iot-common';
import iotDevice, { type Client } from 'azure-iot-device';
import amqpTransport from 'azure-iot-device-amqp';
import mqttTransport from 'azure-iot-device-mqtt';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import type { Site } from '../gateway/site.ts';

/** The transports of the device SDK that this double is new to. */
export const transports = {
  AMQP: amqpTransport.Amqp,
  'AMQP over WebSockets': amqpTransport.AmqpWs,
  'MQTT over WebSockets': mqttTransport.MqttWs,
};
export type Transport = keyof typeof transports;

/** What the SDK's own providers are not: led through a gateway whatever they show, and told by the test when to renew. */
export class TestProvider extends EventEmitter {
  readonly type: number;
  readonly #credentials: Record<string, unknown>;

  constructor(credentials: { host: string; gatewayHostName: string; deviceId: string; moduleId?: string } & Shown) {
    super();
    this.type = credentials.x509 === undefined ? iotCommon.AuthenticationType.Token : iotCommon.AuthenticationType.X509;
    this.#credentials = { ...credentials };
  }

  getDeviceCredentials(done: (error: null, credentials: object) => void): void {
    done(null, { ...this.#credentials });
  }

  updateSharedAccessSignature(token: string): void {
    this.#credentials.sharedAccessSignature = token;
  }

  renew(token: string): void {
    this.updateSharedAccessSignature(token);
    this.emit('newTokenAvailable', { ...this.#credentials });
  }

  setX509Options(): void {}

  stop(): void {}
}

interface Shown {
  sharedAccessSignature?: string;
  x509?: { cert: string; key: string };
}

export interface Sdk {
  client: Client;
  provider: TestProvider;
  /** Errors that the client has told of while nobody was waiting. */
  troubles: Error[];
}

/** The real SDK over any transport. Over WebSockets it knows no port but 443, and the agent leads to the gateway's. */
export async function sdkOver(
  site: Site,
  gateway: Gateway,
  transport: Transport,
  device: { deviceId: string } & Shown,
): Promise<Sdk> {
  const isWebSocket = transport.endsWith('WebSockets');
  const gatewayHostName = isWebSocket ? gateway.hostname : `${gateway.hostname}:${gateway.ports.amqp}`;
  const provider = new TestProvider({ host: site.hub.hostname, gatewayHostName, ...device });
  const client = iotDevice.Client.fromAuthenticationProvider(provider as never, transports[transport] as never);
  const troubles: Error[] = [];
  client.on('error', (error: Error) => troubles.push(error));
  const agent = leadTo(gateway.ports.websocket);
  const web = transport.startsWith('AMQP') ? { amqp: { webSocketAgent: agent } } : { mqtt: { webSocketAgent: agent } };
  await client.setOptions({ ca: gateway.root, ...(isWebSocket ? web : {}) });
  site.closeLater({ close: () => client.close().catch(() => {}) });
  return { client, provider, troubles };
}

/** An agent that connects to `port` of this machine, whatever the URL says. */
export function leadTo(port: number): Agent {
  const agent = new Agent();
  const connect = agent.createConnection.bind(agent);
  agent.createConnection = (options, done) => connect({ ...options, host: '127.0.0.1', port }, done);
  return agent;
}

/** A token for a device as its SDK makes it. */
export function tokenOf(site: Site, deviceId: string, key: string, seconds = 3600): string {
  return makeSasToken(`${site.hub.hostname}/devices/${deviceId}`, key, Math.floor(Date.now() / 1000) + seconds);
}

/** What the SDK says when it opens and sends: the name of its error, or `sent`. */
export async function outcomeOf({ client }: Sdk): Promise<string> {
  try {
    await client.open();
    await client.sendEvent(new iotDevice.Message('knock'));
    return 'sent';
  } catch (error) {
    return (error as Error).name;
  }
}
