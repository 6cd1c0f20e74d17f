import { isHostName } from '../connection-string.ts';
import { GatepostDeviceError } from '../errors.ts';

/** How the identity proves itself. A key handle is a capability: whoever has it may sign. It is never shown. */
export type HostCredential =
  | { kind: 'sas'; keyHandle: string }
  | { kind: 'x509'; keyHandle: string; certificateId: string };

/** What the Identity Service says that this process is. */
export interface HostIdentity {
  hub: string;
  /** The parent gateway; undefined where the device speaks straight to the hub. */
  gateway: string | undefined;
  deviceId: string;
  moduleId: string | undefined;
  generationId: string | undefined;
  credential: HostCredential;
}

/** Reads the answer of `GET /identities/identity`. Throws `identity_invalid`, and `not_supported` for a TPM. */
export function parseIdentity(value: unknown): HostIdentity {
  const answer = object(value, 'is no object');
  if (answer.type !== 'aziot') {
    throw invalid(`is of type ${JSON.stringify(answer.type)}: a local identity cannot reach an IoT Hub`);
  }
  const spec = object(answer.spec, 'has no spec');
  const hub = hostName(spec.hubName, 'hubName');
  // What the service calls the gateway is the hub itself where there is none, and people write names as they like.
  const gatewayHost = hostName(spec.gatewayHost ?? hub, 'gatewayHost');
  const moduleId = optional(spec.moduleId, 'moduleId');
  const credential = readCredential(object(spec.auth, 'has no auth'));
  if (credential.kind === 'x509' && moduleId !== undefined)
    throw invalid('is a module with X.509, which no gateway accepts');
  return {
    hub,
    gateway: gatewayHost === hub ? undefined : gatewayHost,
    deviceId: text(spec.deviceId, 'deviceId'),
    moduleId,
    generationId: optional(spec.genId, 'genId'),
    credential,
  };
}

/** `{hub}/devices/{id}[/modules/{id}]`: what a token is for. */
export function resourceOf({ hub, deviceId, moduleId }: Pick<HostIdentity, 'hub' | 'deviceId' | 'moduleId'>): string {
  return `${hub}/devices/${deviceId}${moduleId === undefined ? '' : `/modules/${moduleId}`}`;
}

/** Whether both are the same identity on the same way: a client that is open can go on with a token of the other. */
export function isSameIdentity(one: HostIdentity, other: HostIdentity): boolean {
  return (
    resourceOf(one) === resourceOf(other) &&
    one.gateway === other.gateway &&
    one.credential.kind === other.credential.kind
  );
}

function readCredential(auth: Record<string, unknown>): HostCredential {
  if (auth.type === 'sas') return { kind: 'sas', keyHandle: text(auth.keyHandle, 'auth.keyHandle') };
  if (auth.type === 'x509') {
    const keyHandle = text(auth.keyHandle, 'auth.keyHandle');
    return { kind: 'x509', keyHandle, certificateId: text(auth.certId, 'auth.certId') };
  }
  if (auth.type === 'tpm') {
    throw new GatepostDeviceError(
      'not_supported',
      'This device proves itself with a TPM, whose key only identityd can use: register a module identity, which signs with a key of the Keys Service.',
    );
  }
  throw invalid('has an auth of unknown type');
}

/** Without its port: that one is for HTTPS, and not where a client connects to. */
function hostName(value: unknown, name: string): string {
  const host = text(value, name)
    .toLowerCase()
    .replace(/:\d{1,5}$/, '');
  if (!isHostName(host)) throw invalid(`has a ${name} that is no host name`);
  return host;
}

function text(value: unknown, name: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw invalid(`has no ${name}`);
}

function optional(value: unknown, name: string): string | undefined {
  return value === undefined || value === null ? undefined : text(value, name);
}

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw invalid(what);
}

function invalid(what: string): GatepostDeviceError {
  return new GatepostDeviceError('identity_invalid', `The identity from the Identity Service ${what}.`);
}
