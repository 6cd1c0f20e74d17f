import type { AuthenticationProvider, Message, RetryPolicy } from 'azure-iot-common';
import type { Client, ModuleClient } from 'azure-iot-device';
import { GatewayCertificateProvider, GatewayTokenProvider } from './authentication.ts';
import type { ConnectionString } from './connection-string.ts';
import { GatepostDeviceError } from './errors.ts';
import { GatewayOnlyMqtt, type GatewayOnlyOptions, type MqttProvider } from './gateway-only.ts';
import type { ClientCertificate } from './session.ts';

/** The SDK, loaded when it is needed: see sdk.ts. */
export type Sdk = typeof import('./sdk.ts');

export interface NewClient {
  client: Client | ModuleClient;
  guard: GatewayOnlyMqtt;
}

/** Builds a client that can reach nothing but the gateway. It is not open yet. */
export function newClient(
  sdk: Sdk,
  string: ConnectionString,
  gateway: GatewayOnlyOptions,
  certificate: ClientCertificate | undefined,
): NewClient {
  const guard = new GatewayOnlyMqtt(mqttPackage(sdk), gateway);
  const provider = authenticationProvider(sdk, string, `${gateway.host}:${gateway.port}`, certificate);
  const transport = new sdk.mqtt.Mqtt(provider, new sdk.mqttBase.MqttBase(guard));
  // The SDK's own helpers for uploads and module methods speak HTTPS straight to the hub: behind a gateway there is none.
  const client =
    string.moduleId === undefined
      ? new sdk.device.Client(transport, undefined, directOnly as never, directOnly as never)
      : new sdk.device.ModuleClient(transport, directOnly as never);
  return { client, guard };
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

/** The copy of the mqtt package that azure-iot-mqtt-base brought along: the SDK is tested with that one only. */
function mqttPackage(sdk: Sdk): MqttProvider {
  const { mqttProvider } = new sdk.mqttBase.MqttBase() as unknown as { mqttProvider?: MqttProvider };
  if (typeof mqttProvider?.connect !== 'function') {
    throw new GatepostDeviceError(
      'internal',
      'This version of azure-iot-mqtt-base hides its MQTT client: the gateway cannot be enforced.',
    );
  }
  return mqttProvider;
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
