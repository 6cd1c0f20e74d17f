import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { Client, ModuleClient } from 'azure-iot-device';
import { defaultRetry, loadFor, newClient, noRetry } from './client.ts';
import { parseConnectionString } from './connection-string.ts';
import { type OnboardingDocument, rootsPem } from './document.ts';
import { GatepostDeviceError, reasonOf } from './errors.ts';
import type { GatewayDoor } from './gateway-door.ts';
import type { MakeProvider } from './make-provider.ts';
import type { Pace } from './pace.ts';
import { explainConnection, type ProvenPeer, probeGateway } from './probe.ts';
import { gatewayAddress, type Protocol } from './protocol.ts';
import { TimeoutError, withTimeout } from './timeout.ts';

/** A client certificate and its key, PEM. */
export interface ClientCertificate {
  certificate: string;
  key: string;
  passphrase?: string;
}

export interface SessionOptions {
  document: OnboardingDocument;
  /** Needed where the connection string says x509=true. */
  certificate?: ClientCertificate | undefined;
  /** Proves the device in another way than its connection string says. */
  makeProvider?: MakeProvider | undefined;
  /** Milliseconds for the probe, and again for opening. Default 30 000. */
  timeoutMs?: number | undefined;
  /** Default: mqtt. */
  protocol?: Protocol | undefined;
  /** Asked before each connection of the SDK, and waited for. */
  pace?: Pace | undefined;
  /** Seconds between signs of life. Default 60: a dead connection is noticed within two of them. */
  keepaliveSeconds?: number | undefined;
  /** IoT Plug and Play model id. */
  modelId?: string | undefined;
  /** True leaves the SDK's own retry policy on; false makes every operation fail at once. Default true. */
  sdkRetries?: boolean | undefined;
  now?: (() => Date) | undefined;
}

/** An open client and the proof of whom it speaks to. */
export interface Session {
  client: Client | ModuleClient;
  door: GatewayDoor;
  /** Hands it a fresh SAS token; nothing for the other kinds of credential. */
  renewToken(token: string): void;
  /** Has methods sent here, and calls back with the name of each that is called and not registered yet. */
  onAnyMethod(register: (name: string) => void): Promise<void>;
  /** Has changes of the twin sent here, from before it is first read. */
  followDesired(): Promise<void>;
  peer: ProvenPeer;
  /** Says goodbye and waits for what is under way, but not for long. Never throws. */
  close(): Promise<void>;
  /** Ends a connection that is not worth a goodbye: mqtt.js would wait for acknowledgements that do not come. */
  drop(): Promise<void>;
}

const closeTimeoutMs = 5_000;

/** What a gateway answers first. */
const greetings: Record<Protocol, string> = {
  mqtt: 'MQTT CONNECT',
  'mqtt-ws': 'MQTT CONNECT over a WebSocket',
  amqp: 'AMQP open',
  'amqp-ws': 'AMQP open over a WebSocket',
};

/**
 * Probes the gateway, opens an SDK client through it, and proves that the client's own socket ends at the gateway.
 * Throws a {@link GatepostDeviceError} that names the fault.
 */
export async function openSession(options: SessionOptions): Promise<Session> {
  const string = parseConnectionString(options.document.connectionString);
  const protocol = options.protocol ?? 'mqtt';
  const address = gatewayAddress(options.document, protocol);
  const gateway = { ...address, roots: rootsPem(options.document.trust), protocol };
  const timeoutMs = options.timeoutMs ?? 30_000;
  const keepaliveSeconds = options.keepaliveSeconds ?? 60;
  checkCredential(string, options);
  // Loading the SDK takes longer than the handshake: do both at once.
  const loading = loadFor(protocol);
  loading.catch(() => {});
  await probeGateway({ ...gateway, timeoutMs, ...(options.now === undefined ? {} : { now: options.now }) });
  const sdk = await loading;
  const { certificate, makeProvider, pace } = options;
  const { client, door, renewToken, onAnyMethod, followDesired, prove } = newClient(sdk, {
    string,
    gateway,
    certificate,
    keepaliveSeconds,
    makeProvider,
    pace,
  });
  const drop = async () => {
    await door.destroy();
    await closeClient(client, door);
  };
  // The SDK would try for four minutes, and hide why.
  client.setRetryPolicy(noRetry(sdk));
  try {
    await client.setOptions({
      ca: gateway.roots,
      keepalive: keepaliveSeconds,
      ...(options.modelId === undefined ? {} : { modelId: options.modelId }),
    });
    await withTimeout(client.open().then(prove), timeoutMs, `the ${greetings[protocol]}`);
    if (door.peer === undefined) {
      throw new GatepostDeviceError(
        'peer_not_gateway',
        'The SDK says it is connected, but no proven connection to the gateway exists.',
      );
    }
    if (options.sdkRetries !== false) client.setRetryPolicy(defaultRetry(sdk));
    return {
      client,
      door,
      renewToken,
      onAnyMethod,
      followDesired,
      peer: door.peer,
      close: () => closeClient(client, door),
      drop,
    };
  } catch (error) {
    await drop();
    throw explainOpen(error, { door, protocol, address, document: options.document });
  }
}

function checkCredential(string: ReturnType<typeof parseConnectionString>, options: SessionOptions): void {
  const now = options.now?.() ?? new Date();
  const { credential } = string;
  if (credential.kind === 'sas' && credential.expiresAt <= now) {
    throw new GatepostDeviceError(
      'credential_expired',
      `The SAS token of ${string.deviceId} expired at ${credential.expiresAt.toISOString()}; the clock of this device says ${now.toISOString()}. Join again for a fresh one.`,
    );
  }
  if (credential.kind === 'x509') checkCertificate(string.deviceId, options.certificate, now);
}

/** Here, because in the SDK a PEM that does not read is thrown where nobody can catch it. */
function checkCertificate(deviceId: string, given: ClientCertificate | undefined, now: Date): void {
  if (given === undefined) {
    throw new GatepostDeviceError(
      'credential_incomplete',
      `${deviceId} authenticates with X.509: its certificate and private key are needed (--cert FILE --key FILE).`,
    );
  }
  const { certificate, key, passphrase } = given;
  let validTo: Date;
  try {
    createSecureContext({ cert: certificate, key, ...(passphrase === undefined ? {} : { passphrase }) });
    validTo = new Date(new X509Certificate(certificate).validTo);
  } catch (error) {
    const reason = `The certificate and the key of ${deviceId} cannot be used together: ${reasonOf(error)}.`;
    throw new GatepostDeviceError('credential_incomplete', reason, { cause: error });
  }
  if (validTo <= now) {
    const times = `expired at ${validTo.toISOString()}; the clock of this device says ${now.toISOString()}`;
    throw new GatepostDeviceError('credential_expired', `The certificate of ${deviceId} ${times}.`);
  }
}

async function closeClient(client: Client | ModuleClient, door: GatewayDoor): Promise<void> {
  try {
    await withTimeout(client.close(), closeTimeoutMs, 'closing');
  } catch {
    // Whatever it was, the connection goes.
  }
  await door.destroy();
}

interface OpenAttempt {
  door: GatewayDoor;
  protocol: Protocol;
  address: { host: string; port: number };
  document: OnboardingDocument;
}

/**
 * The SDK calls every failure of a first connection "Not authorized" and keeps the real reason in the text after it
 * (azure-iot-sdk-node, device/transport/mqtt/src/mqtt.ts).
 */
function explainOpen(error: unknown, attempt: OpenAttempt): GatepostDeviceError {
  if (error instanceof GatepostDeviceError) return error;
  const { door, protocol, address, document } = attempt;
  if (door.refusal !== undefined) return door.refusal;
  const where = `${address.host}:${address.port}`;
  const id = document.device.moduleId ? `${document.device.id}/${document.device.moduleId}` : document.device.id;
  if (error instanceof TimeoutError) {
    return new GatepostDeviceError(
      'gateway_unreachable',
      `${where} completed the TLS handshake but did not answer the ${greetings[protocol]}: ${error.message}.`,
      { cause: error },
    );
  }
  const reason = reasonOf(innermost(error)).replace(/^.*Failure on first connection \(Not authorized\): /, '');
  const [, status] = /Unexpected server response: (\d+)/.exec(reason) ?? [];
  if (status !== undefined && status !== '401' && status !== '503') {
    return new GatepostDeviceError(
      'gateway_unreachable',
      `${where} answers HTTP ${status} and opens no WebSocket: something else listens there, or a proxy stands in between.`,
      { cause: error },
    );
  }
  if (status === '503' || /Server unavailable/.test(reason)) {
    return new GatepostDeviceError(
      'gateway_busy',
      `The gateway ${where} is not available right now (${status === undefined ? 'CONNACK 3' : 'HTTP 503'}): edgeHub is starting, lost its own way to the IoT Hub, or has as many clients as it may have.`,
      { cause: error },
    );
  }
  if (
    isUnauthorized(error, protocol) ||
    status === '401' ||
    /Not authorized|Bad username or password|Identifier rejected/i.test(reason)
  ) {
    return refused(where, id, reason.replace(/^.*Connection refused: /, 'CONNACK: '), error);
  }
  if (/alert (unknown ca|bad certificate|certificate|access denied)|ALERT/i.test(reason)) {
    return refused(where, id, `TLS alert: ${reason}`, error);
  }
  if (door.peer !== undefined) {
    return refused(where, id, `it closed the connection in answer to the ${greetings[protocol]}: ${reason}`, error);
  }
  return explainConnection(error, address.host, address.port);
}

/** The AMQP transport wraps what it met (azure-iot-amqp-base, translateError); an AMQP error itself is no Error. */
function innermost(error: unknown): unknown {
  const { amqpError, condition, description } = (error ?? {}) as Record<string, unknown>;
  if (amqpError !== undefined && amqpError !== null) return innermost(amqpError);
  return condition === undefined ? error : [condition, description].filter(Boolean).join(': ');
}

/** The MQTT transport calls every fault of a first connection by this name; there the text decides. */
function isUnauthorized(error: unknown, protocol: Protocol): boolean {
  if (protocol.startsWith('mqtt')) return false;
  const name = error instanceof Error ? error.name : '';
  return name === 'UnauthorizedError' || /unauthorized-access/.test(reasonOf(innermost(error)));
}

function refused(where: string, id: string, how: string, cause: unknown): GatepostDeviceError {
  return new GatepostDeviceError(
    'credential_refused',
    `The gateway ${where} does not accept ${id} (${how}). Likely: it is not linked to this gateway, it is disabled, its key was rolled, ` +
      'this clock is off by more than 5 minutes, or the gateway has as many clients as it may have; a gateway can take up to 120 s to learn of a change.',
    { cause },
  );
}
