import { randomBytes, type X509Certificate } from 'node:crypto';
import { hasCertificate } from './device-certificates.ts';
import { HubError } from './errors.ts';
import type { Device } from './model.ts';
import type { HubRegistry } from './registry.ts';
import { covers, isGenuine, parseSas, type SasToken } from './sas.ts';

/** The rights of shared access policies. */
export type Right = 'RegistryRead' | 'RegistryWrite' | 'ServiceConnect' | 'DeviceConnect';

export interface Policy {
  name: string;
  rights: Right[];
  primaryKey: string;
  secondaryKey: string;
}

/** A data action of Entra roles, below `Microsoft.Devices/IotHubs/`. */
export type Action =
  | `${'devices' | 'configurations' | 'jobs'}/${'read' | 'write' | 'delete'}`
  | `twins/${'read' | 'write'}`
  | 'statistics/read'
  | 'configurations/applyToEdgeDevice/action'
  | 'directMethods/invoke/action';

export type RoleName =
  | 'IoT Hub Data Contributor'
  | 'IoT Hub Data Reader'
  | 'IoT Hub Registry Contributor'
  | 'IoT Hub Twin Contributor';

/** An Entra role that a principal holds on the hub. */
export interface RoleAssignment {
  objectId: string;
  role: RoleName;
}

/** Answers who a bearer token is; undefined where it is not good for this audience. */
export type TokenVerifier = (token: string, audience: string) => Promise<{ oid: string } | undefined>;

/** What a call needs. */
export interface Access {
  /** For a shared access policy; absent where none will do. */
  right?: Right;
  /** For an Entra principal; all of them. Absent where none will do. */
  actions?: readonly Action[];
  /** `device`: a device's own key does for its own modules. `edgeHub`: so does the key of its $edgeHub. */
  own?: 'device' | 'edgeHub';
}

/** Who calls. */
export type Caller = { kind: 'policy' } | { kind: 'principal' } | { kind: 'device'; deviceId: string };

export interface AccessContext {
  hostname: string;
  registry: HubRegistry;
  policies: readonly Policy[];
  tokens: TokenVerifier | undefined;
  roleAssignments: readonly RoleAssignment[];
  /** PEM. The authorities that devices with `certificateAuthority` may have their certificates from. */
  certificateAuthorities: readonly string[];
  now(): Date;
}

// learn.microsoft.com, *Azure built-in roles for Internet of Things*.
const roleActions: Record<RoleName, RegExp> = {
  'IoT Hub Data Contributor': /^/,
  'IoT Hub Data Reader': /\/read$/,
  'IoT Hub Registry Contributor': /^devices\//,
  'IoT Hub Twin Contributor': /^twins\//,
};

/** The policies that a new hub has, with keys of their own. */
export function newPolicies(): Policy[] {
  const key = () => randomBytes(32).toString('base64');
  const policy = (name: string, ...rights: Right[]) => ({ name, rights, primaryKey: key(), secondaryKey: key() });
  return [
    policy('iothubowner', 'RegistryRead', 'RegistryWrite', 'ServiceConnect', 'DeviceConnect'),
    policy('service', 'ServiceConnect'),
    policy('device', 'DeviceConnect'),
    policy('registryRead', 'RegistryRead'),
    policy('registryReadWrite', 'RegistryRead', 'RegistryWrite'),
  ];
}

/** Answers who calls, or throws what the hub says to those that it does not let in. */
export async function authorize(
  context: AccessContext,
  access: Access,
  request: {
    method: string;
    path: string;
    authorization: string | undefined;
    certificates?: readonly X509Certificate[];
  },
): Promise<Caller> {
  const { authorization, certificates = [] } = request;
  if (authorization === undefined && access.own !== undefined && certificates.length > 0) {
    return authorizeByCertificate(context, request.path, certificates);
  }
  if (authorization === undefined) throw new HubError('IotHubUnauthorizedAccess', 'Authorization header missing');
  if (/^Bearer /i.test(authorization)) return authorizePrincipal(context, access, request, authorization.slice(7));
  const token = parseSas(authorization);
  if (token === undefined) throw unauthorized();
  if (token.policy === undefined) return authorizeDevice(context, access, request.path, token);
  const policy = context.policies.find((one) => one.name === token.policy);
  const isHeld = policy && access.right !== undefined && policy.rights.includes(access.right);
  if (!covers(token.resource, context.hostname, request.path)) throw unauthorized();
  if (!policy || !isGenuine(token, [policy.primaryKey, policy.secondaryKey], context.now())) throw unauthorized();
  if (!isHeld) {
    const message = `Authorization rule '${policy.name}' does not allow access for '${request.method} ${request.path}'`;
    throw new HubError('IotHubUnauthorized', message);
  }
  return { kind: 'policy' };
}

async function authorizePrincipal(
  context: AccessContext,
  access: Access,
  request: { method: string; path: string },
  token: string,
): Promise<Caller> {
  const principal = await context.tokens?.(token, 'https://iothubs.azure.net');
  if (principal === undefined) throw unauthorized();
  const roles = context.roleAssignments.filter((assignment) => assignment.objectId === principal.oid);
  const isAllowed =
    access.actions?.every((action) => roles.some(({ role }) => roleActions[role].test(action))) ?? false;
  if (isAllowed) return { kind: 'principal' };
  // The words of azure-sdk-for-net#21453 and azure-iot-sdk-csharp#3344.
  const what = `${request.method} on ${request.path}`;
  const message = `Principal ${principal.oid} is not authorized for ${what} due to no assigned permissions`;
  throw new HubError('IotHubUnauthorized', message);
}

/** A device that calls with its own key may manage its own modules, as aziot-identityd does. */
function authorizeDevice(context: AccessContext, access: Access, path: string, token: SasToken): Caller {
  const [, , deviceId = '', , moduleId] = path.split('/');
  const device = context.registry.devices.get(deviceId);
  if (access.own === undefined || device === undefined || device.status !== 'enabled') throw unauthorized();
  const resource = `${context.hostname}/devices/${deviceId}`;
  const keys = keysFor(device, token, resource, access.own === 'edgeHub' ? moduleId : undefined);
  if (keys === undefined || !isGenuine(token, keys, context.now())) throw unauthorized();
  return { kind: 'device', deviceId };
}

/** A device with X.509 sends no header: the handshake has proved it. */
function authorizeByCertificate(
  context: AccessContext,
  path: string,
  certificates: readonly X509Certificate[],
): Caller {
  const [, , deviceId = ''] = path.split('/');
  const device = context.registry.devices.get(deviceId);
  if (device?.status !== 'enabled' || !hasCertificate(context, certificates, device, device)) throw unauthorized();
  return { kind: 'device', deviceId };
}

function keysFor(
  device: Device,
  token: SasToken,
  resource: string,
  moduleId: string | undefined,
): (string | null)[] | undefined {
  const audience = token.resource.toLowerCase();
  // aziot-identityd writes the audience in lower case.
  if (audience === resource.toLowerCase()) return keysOf(device);
  const module = moduleId === undefined ? undefined : device.modules[moduleId];
  const isModule = audience === `${resource}/modules/${moduleId}`.toLowerCase();
  return module !== undefined && isModule ? keysOf(module) : undefined;
}

/** The keys that an identity signs with; undefined where it does not prove itself by key. */
export function keysOf(principal: Pick<Device, 'authentication'>): (string | null)[] | undefined {
  const { type, symmetricKey } = principal.authentication;
  return type === 'sas' ? [symmetricKey.primaryKey, symmetricKey.secondaryKey] : undefined;
}

function unauthorized(): HubError {
  return new HubError('IotHubUnauthorizedAccess', 'Unauthorized');
}
