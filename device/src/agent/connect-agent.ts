import type { Client, ModuleClient } from 'azure-iot-device';
import { closing, emitWarning } from '../connect.ts';
import type { OnboardingDocument } from '../document.ts';
import { GatepostDeviceError, reasonOf } from '../errors.ts';
import { Pace, stormMessage } from '../pace.ts';
import type { Protocol } from '../protocol.ts';
import { openSession, type Session, type SessionOptions } from '../session.ts';
import { type AgentConnection, type AgentOptions, agentConnection, defaultLifetimeSeconds } from './connection.ts';
import { HostServices } from './host-services.ts';
import type { HostIdentity } from './identity.ts';
import { keysServiceProvider } from './provider.ts';
import { agentRoots } from './trust.ts';

export interface AgentSessionOptions
  extends AgentOptions,
    Omit<SessionOptions, 'document' | 'certificate' | 'makeProvider' | 'now'> {
  /** PEM file of the roots to trust. Default: the store of the system, which is what identityd trusts. */
  ca?: string | undefined;
  /** Where the gateway, or the hub, listens for the protocol, if not at its usual port. */
  port?: number | undefined;
  /** Seconds before the end of a token at which it is replaced. Default: a quarter of its life. */
  marginSeconds?: number | undefined;
}

/**
 * Connects as what the Identity Service says that this process is, and answers the opened client of azure-iot-device: a
 * `ModuleClient` for a module, else a `Client`. It goes through the parent gateway where the device has one. Its tokens are
 * signed by the Keys Service, from time to time anew and for each reconnection; the key never leaves it. Close it with
 * `client.close()`. Where the device was provisioned as another one, the client does not come back: connect again.
 *
 * @throws {GatepostDeviceError} with a stable `code`, such as `identity_refused` or `signing_refused`; `not_supported` for
 * a device with X.509, whose private key only an OpenSSL engine can use.
 */
export async function connectAgent<C extends Client | ModuleClient = ModuleClient>(
  options: AgentSessionOptions = {},
): Promise<C> {
  const log = options.log ?? emitWarning;
  const pace = new Pace({ onStorm: (connections) => log(stormMessage('this agent', connections)) });
  try {
    const { client } = await openAgentSession({ ...options, log, pace });
    // What a link of AMQP reports, and nobody else listens to, would end the process.
    client.on('error', (error: unknown) => log(`the client reports: ${reasonOf(error)}`));
    return closing(client, () => pace.cancel()) as C;
  } catch (error) {
    pace.cancel();
    throw error;
  }
}

/** Takes all steps: identity, signature, connection. */
export async function openAgentSession(options: AgentSessionOptions): Promise<Session> {
  const lifetimeSeconds = options.lifetimeSeconds ?? defaultLifetimeSeconds;
  const marginSeconds = options.marginSeconds ?? Math.max(1, Math.floor(lifetimeSeconds / 4));
  const connection = await agentConnection({ ...options, lifetimeSeconds });
  const { identity, token } = connection;
  if (token === undefined) throw cannotUseKey(identity);
  const services = new HostServices({ ...options, signal: undefined });
  const { backoff, log } = options;
  return openSession({
    ...options,
    document: documentOf(connection, await agentRoots(options), options),
    makeProvider: (sdk, gatewayHostName) =>
      keysServiceProvider(sdk, {
        services,
        identity,
        gatewayHostName,
        first: token,
        lifetimeSeconds,
        marginSeconds,
        backoff,
        log,
      }),
  });
}

/** What a session is opened from, made of what this host says of itself. Without a gateway the hub stands in its place. */
export function documentOf(
  { identity, connectionString }: Pick<AgentConnection, 'identity' | 'connectionString'>,
  roots: string,
  options: { port?: number | undefined; protocol?: Protocol | undefined },
): OnboardingDocument {
  const { hub, deviceId, moduleId, gateway } = identity;
  const listener = { mqtt: 'mqtt', amqp: 'amqp', 'mqtt-ws': 'websocket', 'amqp-ws': 'websocket' } as const;
  const ports = options.port === undefined ? {} : { [listener[options.protocol ?? 'mqtt']]: options.port };
  return {
    device: { id: deviceId, moduleId: moduleId ?? null },
    hub: { hostname: hub },
    gateway: { id: gateway ?? hub, hostname: gateway ?? hub, ports },
    connectionString: gateway === undefined ? `${connectionString};GatewayHostName=${hub}` : connectionString,
    expiresAt: null,
    trust: { sequence: 0, refreshHintSeconds: 0, roots: [{ sha256: '', subject: '', notAfter: '', pem: roots }] },
  };
}

function cannotUseKey({ deviceId }: HostIdentity): GatepostDeviceError {
  return new GatepostDeviceError(
    'not_supported',
    `${deviceId} proves itself with X.509, and its private key stays in the Keys Service: TLS can use it only through the OpenSSL engine aziot_keys, which the C SDK loads and the Node SDK cannot. Register a module identity in its place (gatepost-device agent install without --device).`,
  );
}
