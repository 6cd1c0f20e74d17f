import type { ConnectDecision, ConnectRequest } from '../mqtt/identity.ts';
import { parseUserName } from '../mqtt/user-name.ts';
import { type AccessContext, keysOf } from './access.ts';
import { hasCertificate } from './device-certificates.ts';
import type { Principal } from './model.ts';
import { covers, isGenuine, parseSas } from './sas.ts';

export type DeviceAuthenticationContext = AccessContext;

const refused = (reason: string): ConnectDecision => ({ refused: 5, reason });

/**
 * Whether the hub lets a device connect: by a SAS token of its own key or of a policy with DeviceConnect, for the hub as
 * audience, or by its certificate. A token wins over a certificate.
 */
export function authenticateDevice(context: DeviceAuthenticationContext, connect: ConnectRequest): ConnectDecision {
  const user = parseUserName(connect.userName);
  if (user === undefined) return { refused: 4, reason: 'the user name does not read as one' };
  if (user.host.toLowerCase() !== context.hostname.toLowerCase()) return refused(`${user.host} is another hub`);
  const device = context.registry.devices.get(user.deviceId);
  const principal = user.moduleId === null ? device : device?.modules[user.moduleId];
  if (device === undefined || principal === undefined) return refused('not registered');
  if (device.status !== 'enabled') return refused('disabled');
  const isProved = connect.password
    ? hasToken(context, connect.password, principal, user.moduleId)
    : hasCertificate(context, connect.certificates, principal, device);
  return isProved ? { ok: { deviceId: user.deviceId, moduleId: user.moduleId } } : refused('not authorized');
}

function hasToken(
  context: DeviceAuthenticationContext,
  password: string,
  principal: Principal,
  moduleId: string | null,
): boolean {
  const token = parseSas(password);
  if (token === undefined) return false;
  const path = `/devices/${principal.deviceId}${moduleId === null ? '' : `/modules/${moduleId}`}`;
  if (token.policy !== undefined) {
    const policy = context.policies.find((one) => one.name === token.policy);
    if (!policy?.rights.includes('DeviceConnect') || !covers(token.resource, context.hostname, path)) return false;
    return isGenuine(token, [policy.primaryKey, policy.secondaryKey], context.now());
  }
  const [host = '', ...rest] = token.resource.split('/');
  if (host.toLowerCase() !== context.hostname.toLowerCase() || `/${rest.join('/')}` !== path) return false;
  const keys = keysOf(principal);
  return keys !== undefined && isGenuine(token, keys, context.now());
}
