import type { Identity } from '../mqtt/identity.ts';
import { isSignedBy, type SasToken } from './sas-token.ts';
import { isEnabled } from './scope-cache.ts';
import type { ScopedIdentity } from './scope-client.ts';

export interface HostNames {
  hub: string;
  gateway: string;
}

/** edgeHub lets a token live this much longer than it says (SharedAccessSignatureConstants.MaxClockSkew). */
export const expiryGraceSeconds = 300;

/**
 * Why edgeHub refuses this token for `identity`, checked against the keys of `scoped`; undefined where it accepts it
 * (Azure/iotedge, DeviceScopeTokenAuthenticator.cs).
 */
export function refuseToken(
  token: SasToken,
  scoped: ScopedIdentity,
  identity: Identity,
  hosts: HostNames,
  now: number,
): string | undefined {
  const { type, symmetricKey } = scoped.authentication ?? {};
  if (type !== 'sas') return `the identity authenticates by ${type ?? 'nothing'}, not by a symmetric key`;
  if (!isEnabled(scoped)) return 'the identity is disabled';
  const keys = [symmetricKey?.primaryKey, symmetricKey?.secondaryKey];
  if (!keys.some((key) => isSignedBy(token, key ?? undefined))) {
    return 'the token was signed with neither the primary nor the secondary key';
  }
  const reason = refuseAudience(token.audience, identity, hosts);
  if (reason !== undefined) return reason;
  return token.expiry + expiryGraceSeconds < now / 1000 ? 'the token has expired' : undefined;
}

/** `{host}/devices/{id}` also serves a module of the device; `{host}/devices/{id}/modules/{id}` never a device. */
function refuseAudience(audience: string, identity: Identity, hosts: HostNames): string | undefined {
  const [host = '', devices, deviceId, modules, moduleId, ...others] = audience.trim().split('/');
  const isDevice = modules === undefined;
  if (deviceId === undefined || (!isDevice && moduleId === undefined) || others.length > 0) {
    return `the audience ${audience} (${devices}) is neither a device nor a module`;
  }
  if (!isSame(deviceId, identity.deviceId)) return `the audience ${audience} is of another device`;
  if (!isDevice && (identity.moduleId === null || !isSame(moduleId ?? '', identity.moduleId))) {
    return `the audience ${audience} is of another module`;
  }
  if (isSame(host, hosts.hub) || isSame(host, hosts.gateway)) return undefined;
  return `the audience's host ${host} is neither the hub ${hosts.hub} nor this gateway ${hosts.gateway}`;
}

function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}
