import type { EventEmitter } from 'node:events';
import type { AuthenticationProvider } from 'azure-iot-common';
import type { Client } from 'azure-iot-device';
import { GatepostDeviceError } from './errors.ts';
import type { GatewayDoor } from './gateway-door.ts';
import { type AmqpBase, GatewayOnlyMqtt, holdToGateway, type MqttProvider } from './gateway-only.ts';
import type { Protocol } from './protocol.ts';
import type { ClientCertificate } from './session.ts';

type SdkTransport = ConstructorParameters<typeof Client>[0];

export interface Transport {
  transport: SdkTransport;
  /** Makes the gateway say whether it accepts the credential, where connecting alone does not. */
  prove(identity: { deviceId: string; moduleId: string | undefined }): Promise<void>;
  /** Enables methods, and calls back with the name of each that is called and that nobody has registered yet. */
  onAnyMethod(register: (name: string) => void): Promise<void>;
}

export interface TransportOptions {
  provider: AuthenticationProvider;
  door: GatewayDoor;
  certificate: ClientCertificate | undefined;
  keepaliveSeconds: number;
}

export type MakeTransport = (options: TransportOptions) => Transport;

/** Loads what one protocol needs of the SDK, and nothing of the others. */
export async function loadTransport(protocol: Protocol): Promise<MakeTransport> {
  return protocol.startsWith('mqtt') ? loadMqtt(protocol) : loadAmqp(protocol);
}

async function loadMqtt(protocol: Protocol): Promise<MakeTransport> {
  const { mqtt, mqttBase } = await import('./sdk-mqtt.ts');
  const Mqtt = protocol === 'mqtt-ws' ? mqtt.MqttWs : mqtt.Mqtt;
  // The copy of the mqtt package that azure-iot-mqtt-base brought along: the SDK is tested with that one only.
  const { mqttProvider } = new mqttBase.MqttBase() as unknown as { mqttProvider?: MqttProvider };
  if (mqttProvider === undefined || typeof mqttProvider.connect !== 'function') throw hidden('azure-iot-mqtt-base');
  return ({ provider, door, certificate }) => {
    const guard = new GatewayOnlyMqtt(mqttProvider, door, certificate);
    const transport = new Mqtt(provider, new mqttBase.MqttBase(guard));
    return {
      transport: transport as unknown as SdkTransport,
      prove: async () => {},
      onAnyMethod: (register) => anyMethod(transport as never, transport as never, register),
    };
  };
}

async function loadAmqp(protocol: Protocol): Promise<MakeTransport> {
  const { amqp, amqpBase } = await import('./sdk-amqp.ts');
  return ({ provider, door, certificate, keepaliveSeconds }) => {
    const base = new amqpBase.Amqp(false) as unknown as AmqpBase;
    if (typeof base.connect !== 'function') throw hidden('azure-iot-amqp-base');
    quiet(base);
    // Half-open connections are noticed as with MQTT: within two keep-alives.
    holdToGateway(base, door, { own: certificate, idleMs: keepaliveSeconds * 2000 });
    const transport = new amqp.Amqp(provider, base as never);
    if (protocol === 'amqp-ws') {
      // AmqpWs is Amqp with this one method, and takes no base client (azure-iot-device-amqp, amqp_ws.ts).
      const { _getConnectionUri } = amqp.AmqpWs.prototype as unknown as {
        _getConnectionUri(credentials: object): string;
      };
      if (typeof _getConnectionUri !== 'function') throw hidden('azure-iot-device-amqp');
      Object.assign(transport, { _getConnectionUri });
    }
    return {
      transport: transport as unknown as SdkTransport,
      prove: (identity) => proveLink(base, transport as unknown as AmqpTransport, identity),
      onAnyMethod: (register) => {
        const { _deviceMethodClient: methods } = transport as unknown as { _deviceMethodClient?: EventEmitter };
        return methods === undefined
          ? Promise.reject(hidden('azure-iot-device-amqp'))
          : anyMethod(transport as never, methods, register);
      },
    };
  };
}

/** rhea prints what nobody listens to, and the base client stops listening before its connection is gone. */
function quiet(base: AmqpBase): void {
  const { _rheaContainer: container } = base as { _rheaContainer?: EventEmitter };
  for (const event of ['disconnected', 'protocol_error']) container?.on(event, () => {});
}

/** What is used of a sender link of azure-iot-amqp-base, and of the rhea sender below it. */
interface SenderLink extends EventEmitter {
  _rheaSender?: { has_credit(): boolean; once(event: 'sendable', then: () => void): void };
}

/** What is used of the AMQP transport: the link that telemetry goes by. */
interface AmqpTransport extends EventEmitter {
  _d2cLink?: SenderLink;
  _d2cErrorListener?: (error: Error) => void;
}

/**
 * edgeHub answers every put-token with 200 and judges the credential when a link is opened (CbsNode.cs,
 * LinkHandler.cs): a client that was opened over AMQP may have no right to be there. A refused link is attached and then
 * detached, as AMQP asks for; only an accepted one is given credit. The link is the one for telemetry and stays: edgeHub
 * closes the connection of a device whose last link goes (ClientConnectionHandler.cs).
 */
async function proveLink(
  base: AmqpBase,
  transport: AmqpTransport,
  { deviceId, moduleId }: { deviceId: string; moduleId: string | undefined },
): Promise<void> {
  const own = moduleId === undefined ? deviceId : `${deviceId}/modules/${moduleId}`;
  const endpoint = `/devices/${own}/messages/events`;
  const onError = transport._d2cErrorListener;
  if (typeof onError !== 'function') throw hidden('azure-iot-device-amqp');
  let disconnected: (error?: Error) => void = () => {};
  try {
    await new Promise<void>((resolve, reject) => {
      disconnected = (error) => reject(error ?? new Error('the gateway closed the connection'));
      transport.once('disconnect', disconnected);
      base.attachSenderLink(endpoint, null, (error, attached) => {
        const link = attached as SenderLink | undefined;
        const sender = link?._rheaSender;
        if (error) return reject(error);
        if (link === undefined || typeof sender?.has_credit !== 'function')
          return reject(hidden('azure-iot-amqp-base'));
        link.on('error', onError);
        transport._d2cLink = link;
        if (sender.has_credit()) resolve();
        else sender.once('sendable', resolve);
      });
    });
  } finally {
    transport.removeListener('disconnect', disconnected);
  }
}

/**
 * The SDK knows methods by name only, and a method that nobody registered is never answered: its caller waits in vain.
 * Both transports emit `method_<name>` (mqtt.ts, amqp_device_method_client.ts), which is where a name is first seen.
 */
function anyMethod(
  transport: { enableMethods(done: (error?: Error) => void): void },
  emitter: EventEmitter,
  register: (name: string) => void,
): Promise<void> {
  const emit = emitter.emit.bind(emitter);
  emitter.emit = (event: string | symbol, ...parameters: unknown[]) => {
    const name = typeof event === 'string' && event.startsWith('method_') ? event.slice('method_'.length) : '';
    if (name !== '' && emitter.listenerCount(event) === 0) register(name);
    return emit(event, ...parameters);
  };
  return new Promise((resolve, reject) => transport.enableMethods((error) => (error ? reject(error) : resolve())));
}

function hidden(name: string): GatepostDeviceError {
  return new GatepostDeviceError(
    'internal',
    `This version of ${name} hides how it connects: the gateway cannot be enforced.`,
  );
}
