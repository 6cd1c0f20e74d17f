import type { AuthenticationProvider, Message, RetryPolicy } from 'azure-iot-common';
import type { Client, ModuleClient } from 'azure-iot-device';
import { direct, GatewayCertificateProvider, GatewayTokenProvider } from './authentication.ts';
import type { ConnectionString } from './connection-string.ts';
import { GatepostDeviceError } from './errors.ts';
import { GatewayDoor, type GatewayOnlyOptions } from './gateway-door.ts';
import type { MakeProvider } from './make-provider.ts';
import type { Pace } from './pace.ts';
import { gatewayHostName, type Protocol } from './protocol.ts';
import type { ClientCertificate } from './session.ts';
import { loadTransport, type MakeTransport } from './transport.ts';

/** The SDK, loaded when it is needed: see sdk.ts. */
export type Sdk = typeof import('./sdk.ts');

/** The SDK with one transport. */
export interface LoadedSdk extends Sdk {
  makeTransport: MakeTransport;
}

export async function loadFor(protocol: Protocol): Promise<LoadedSdk> {
  const [sdk, makeTransport] = await Promise.all([import('./sdk.ts'), loadTransport(protocol)]);
  return { common: sdk.common, device: sdk.device, makeTransport };
}

export interface NewClientOptions {
  string: ConnectionString;
  gateway: Required<GatewayOnlyOptions>;
  certificate: ClientCertificate | undefined;
  keepaliveSeconds: number;
  /** Makes the provider in place of the credential of the connection string. */
  makeProvider?: MakeProvider | undefined;
  /** Asked before each connection, and waited for. */
  pace?: Pace | undefined;
}

export interface NewClient {
  client: Client | ModuleClient;
  door: GatewayDoor;
  /** Hands a fresh SAS token to a client that was made with one: an open one renews its connection with it. */
  renewToken(token: string): void;
  /** Calls back with the name of each method that is called and not registered. */
  onAnyMethod(register: (name: string) => void): Promise<void>;
  /** Subscribes to changes of the twin before it is read, so that none falls in between. */
  followDesired(): Promise<void>;
  /** Has the gateway say whether it accepts the credential, where an open connection does not say so yet. */
  prove(): Promise<void>;
}

/** Builds a client that can reach nothing but the gateway. It is not open yet. */
export function newClient(sdk: LoadedSdk, options: NewClientOptions): NewClient {
  const { string, gateway, certificate, keepaliveSeconds } = options;
  const door = new GatewayDoor(gateway);
  const name = gatewayHostName(gateway, gateway.protocol);
  const provider = options.makeProvider?.(sdk, name) ?? authenticationProvider(sdk, string, name, certificate);
  direct(provider, {
    pace: options.pace,
    isConnected: () => door.isConnected,
    gatewayHostName: () => gatewayHostName(door.address, door.protocol),
  });
  // edgeHub has no $cbs for an AMQP client that shows a certificate (AmqpRuntimeProvider.cs): only who needs it does.
  const own = string.credential.kind === 'x509' ? certificate : undefined;
  const { transport, prove, onAnyMethod } = sdk.makeTransport({ provider, door, certificate: own, keepaliveSeconds });
  // The SDK's own helpers for uploads and module methods speak HTTPS straight to the hub: behind a gateway there is none.
  const client =
    string.moduleId === undefined
      ? new sdk.device.Client(transport, undefined, directOnly as never, directOnly as never)
      : new sdk.device.ModuleClient(transport as never, directOnly as never);
  const renewToken = (token: string) => {
    if (provider instanceof GatewayTokenProvider) provider.renew(token);
  };
  client.on('connect', () => options.pace?.accepted());
  const desired = transport as unknown as { enableTwinDesiredPropertiesUpdates(done: (error?: Error) => void): void };
  const followDesired = () =>
    new Promise<void>((resolve, reject) =>
      desired.enableTwinDesiredPropertiesUpdates((error) => (error ? reject(error) : resolve())),
    );
  return { client, door, renewToken, onAnyMethod, followDesired, prove: () => prove(string) };
}

/** Makes one JSON telemetry message as the hub's routing wants it: UTF-8 JSON, said so in its properties. */
export function telemetryMessage(sdk: Sdk, body: Buffer, messageId: string): Message {
  const message = new sdk.common.Message(body);
  message.messageId = messageId;
  message.contentType = 'application/json';
  message.contentEncoding = 'utf-8';
  return message;
}

/** The SDK's policy of not retrying: the caller does it, with a ceiling. */
export function noRetry(sdk: Sdk): RetryPolicy {
  return new sdk.common.NoRetry();
}

/** The policy that a client of the SDK is born with. */
export function defaultRetry(sdk: Sdk): RetryPolicy {
  return new sdk.common.ExponentialBackOffWithJitter();
}

function authenticationProvider(
  sdk: Sdk,
  string: ConnectionString,
  gatewayHostName: string,
  x509: ClientCertificate | undefined,
): AuthenticationProvider {
  const { hub: host, deviceId, moduleId, credential } = string;
  const identity = { host, deviceId, gatewayHostName, ...(moduleId === undefined ? {} : { moduleId }) };
  if (credential.kind === 'sas') {
    return new GatewayTokenProvider({ ...identity, sharedAccessSignature: credential.sharedAccessSignature });
  }
  if (credential.kind === 'x509') {
    if (x509 === undefined)
      throw new GatepostDeviceError('credential_incomplete', 'An x509 device needs its certificate and key.');
    const { certificate: cert, key, passphrase } = x509;
    return new GatewayCertificateProvider({
      ...identity,
      x509: { cert, key, ...(passphrase === undefined ? {} : { passphrase }) },
    });
  }
  const fields = [
    `HostName=${host}`,
    `DeviceId=${deviceId}`,
    ...(moduleId === undefined ? [] : [`ModuleId=${moduleId}`]),
    ...(credential.sharedAccessKeyName === undefined ? [] : [`SharedAccessKeyName=${credential.sharedAccessKeyName}`]),
    `SharedAccessKey=${credential.sharedAccessKey}`,
    `GatewayHostName=${gatewayHostName}`,
  ];
  return sdk.device.SharedAccessKeyAuthenticationProvider.fromConnectionString(fields.join(';'));
}

function refuseDirect(...parameters: unknown[]): Promise<never> | undefined {
  const error = new GatepostDeviceError(
    'not_supported',
    'File upload and methods on other modules go straight to the IoT Hub; a client behind a gateway has neither.',
  );
  const callback = parameters.at(-1);
  if (typeof callback !== 'function') return Promise.reject(error);
  callback(error);
  return undefined;
}

const directOnly = {
  setOptions(): void {},
  uploadToBlob: refuseDirect,
  getBlobSharedAccessSignature: refuseDirect,
  notifyUploadComplete: refuseDirect,
  invokeMethod: refuseDirect,
};
