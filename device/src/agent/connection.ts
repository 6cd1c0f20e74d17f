import { X509Certificate } from 'node:crypto';
import type { BackoffOptions } from '../backoff.ts';
import { GatepostDeviceError } from '../errors.ts';
import { acquire } from './acquire.ts';
import { HostServices, type HostServicesOptions } from './host-services.ts';
import type { HostIdentity } from './identity.ts';
import { type SignedToken, signToken } from './token.ts';

export interface AgentOptions extends HostServicesOptions {
  /** Seconds that a token is good for. Default 3600. */
  lifetimeSeconds?: number | undefined;
  /** Milliseconds to keep trying for the services of the host. Default 0. */
  waitMs?: number | undefined;
  backoff?: BackoffOptions | undefined;
  log?: ((line: string) => void) | undefined;
  now?: (() => Date) | undefined;
}

export interface AgentConnection {
  identity: HostIdentity;
  /** Holds a token, which is a secret until it ends. */
  connectionString: string;
  /** Absent with X.509. */
  token?: SignedToken;
  /** The certificate with its chain, PEM; only with X.509. */
  certificate?: string;
}

export const defaultLifetimeSeconds = 3600;

/** Who this process is, from the Identity Service. */
export function agentIdentity(options: AgentOptions = {}): Promise<HostIdentity> {
  return acquire(stepsOf(options), async (identity) => identity);
}

/**
 * All steps of the walkthrough: the identity, then what the Keys Service signs or the Certificates Service holds, then the
 * connection string. `GatewayHostName` is there only where the gateway is another host than the hub; the walkthrough
 * writes `GatewayHost`, which no SDK reads.
 */
export function agentConnection(options: AgentOptions = {}): Promise<AgentConnection> {
  const steps = stepsOf(options);
  const now = options.now?.() ?? new Date();
  return acquire(steps, async (identity) => {
    if (identity.credential.kind === 'x509') {
      const certificate = await steps.services.certificate(identity.credential.certificateId);
      checkDates(identity, certificate, now);
      return { identity, certificate, connectionString: connectionStringOf(identity, 'x509=true') };
    }
    const expiry = Math.floor(now.getTime() / 1000) + (options.lifetimeSeconds ?? defaultLifetimeSeconds);
    const token = await signToken(steps.services, identity, expiry);
    const connectionString = connectionStringOf(identity, `SharedAccessSignature=${token.token}`);
    return { identity, token, connectionString };
  });
}

function stepsOf({ waitMs = 0, backoff, signal, log, ...options }: AgentOptions) {
  return { services: new HostServices({ ...options, signal }), waitMs, backoff, signal, log };
}

function connectionStringOf({ hub, deviceId, moduleId, gateway }: HostIdentity, credential: string): string {
  return [
    `HostName=${hub}`,
    `DeviceId=${deviceId}`,
    ...(moduleId === undefined ? [] : [`ModuleId=${moduleId}`]),
    credential,
    ...(gateway === undefined ? [] : [`GatewayHostName=${gateway}`]),
  ].join(';');
}

function checkDates({ deviceId }: HostIdentity, pem: string, now: Date): void {
  const validTo = new Date(new X509Certificate(pem).validTo);
  if (validTo > now) return;
  throw new GatepostDeviceError(
    'credential_expired',
    `The certificate of ${deviceId} in the Certificates Service expired at ${validTo.toISOString()}; the clock of this device says ${now.toISOString()}.`,
  );
}
