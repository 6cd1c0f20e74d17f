import type { X509Certificate } from 'node:crypto';
import { X509Certificate as Certificate } from 'node:crypto';
import type { ConnectDecision, ConnectRequest } from '../mqtt/identity.ts';
import { parseUserName } from '../mqtt/user-name.ts';
import { type AccessContext, keysOf } from './access.ts';
import type { Device, Principal } from './model.ts';
import { covers, isGenuine, parseSas } from './sas.ts';

export interface DeviceAuthenticationContext extends AccessContext {
  /** PEM. The authorities that devices with `certificateAuthority` may have their certificates from. */
  certificateAuthorities: readonly string[];
}

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

function hasCertificate(
  context: DeviceAuthenticationContext,
  certificates: readonly X509Certificate[],
  principal: Principal,
  device: Device,
): boolean {
  const [own] = certificates;
  if (own === undefined || !isInDates(own, context.now())) return false;
  const { type, x509Thumbprint } = principal.authentication;
  if (type === 'selfSigned') {
    const known = [x509Thumbprint.primaryThumbprint, x509Thumbprint.secondaryThumbprint];
    const shown = [own.fingerprint, own.fingerprint256].map((print) => print.replaceAll(':', ''));
    return known.some((print) => print !== null && shown.includes(print.toUpperCase()));
  }
  if (type !== 'certificateAuthority' || commonName(own) !== device.deviceId) return false;
  const roots = context.certificateAuthorities.map((pem) => new Certificate(pem));
  return chainsTo(own, certificates.slice(1), roots, context.now());
}

/** True where a chain of the certificates that were sent leads from `own` to one of `roots`. */
function chainsTo(
  own: X509Certificate,
  sent: readonly X509Certificate[],
  roots: readonly X509Certificate[],
  now: Date,
): boolean {
  let current = own;
  // No chain is longer than what was sent.
  for (let step = 0; step <= sent.length; step += 1) {
    if (roots.some((root) => isInDates(root, now) && isIssuedBy(current, root))) return true;
    const issuer = sent.find((one) => one.ca && isInDates(one, now) && isIssuedBy(current, one));
    if (issuer === undefined || issuer.fingerprint256 === current.fingerprint256) return false;
    current = issuer;
  }
  return false;
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function isInDates(certificate: X509Certificate, now: Date): boolean {
  return new Date(certificate.validFrom) <= now && now < new Date(certificate.validTo);
}

function commonName(certificate: X509Certificate): string | undefined {
  const line = certificate.subject.split('\n').find((part) => part.startsWith('CN='));
  return line?.slice(3);
}
