import type { X509Certificate } from 'node:crypto';
import type { ConnectDecision, ConnectRequest, Identity } from '../mqtt/identity.ts';
import { clientIdOf } from '../mqtt/identity.ts';
import { parseUserName } from '../mqtt/user-name.ts';
import { refuseCertificate } from './certificate-rules.ts';
import { parseSasToken } from './sas-token.ts';
import type { ScopeCache } from './scope-cache.ts';
import type { ScopedIdentity } from './scope-client.ts';
import { type HostNames, refuseToken } from './token-rules.ts';

export interface AuthenticatorOptions {
  scope: ScopeCache;
  hosts: HostNames;
  trustBundle: X509Certificate[];
  now?: () => number;
}

/** Why `scoped` does not let the caller in; undefined where it does. */
type Rule = (scoped: ScopedIdentity) => string | undefined;

/** CONNACK 5, not authorized: what edgeHub answers to whatever it does not let in. */
const notAuthorized = (reason: string): ConnectDecision => ({ refused: 5, reason });

/**
 * Whether edgeHub, in its default mode `Scope`, lets a client in: nobody is asked but the scope cache, which reads an
 * identity again from the hub where the caller does not pass (Azure/iotedge, DeviceScopeAuthenticator.cs).
 */
export async function authenticate(options: AuthenticatorOptions, connect: ConnectRequest): Promise<ConnectDecision> {
  const user = parseUserName(connect.userName);
  if (user === undefined) return notAuthorized('the user name is not {host}/{deviceId}[/{moduleId}]/?api-version=...');
  const identity: Identity = { deviceId: user.deviceId, moduleId: user.moduleId };
  if (connect.clientId !== clientIdOf(identity)) return notAuthorized('the client id is not that of the user name');
  const rule = ruleFor(options, connect, identity);
  if (typeof rule === 'string') return notAuthorized(rule);
  let reason = await check(options.scope, rule, identity, connect.again);
  // A module may use a token that its device's key has signed; a certificate never gets this far.
  if (reason !== undefined && identity.moduleId !== null && connect.password) {
    reason = await check(options.scope, rule, { ...identity, moduleId: null }, connect.again);
  }
  return reason === undefined ? { ok: identity } : notAuthorized(reason);
}

/** A password wins over a certificate (Azure/iotedge, DeviceIdentityProvider.cs). */
function ruleFor(options: AuthenticatorOptions, connect: ConnectRequest, identity: Identity): Rule | string {
  const now = (options.now ?? Date.now)();
  if (connect.password) {
    const token = parseSasToken(connect.password);
    if (token === undefined) return 'the password is not a SAS token';
    return (scoped) => refuseToken(token, scoped, identity, options.hosts, now);
  }
  if (connect.certificates.length === 0) return 'neither a SAS token nor a client certificate was given';
  return (scoped) => refuseCertificate(connect.certificates, scoped, identity, options.trustBundle, now);
}

async function check(scope: ScopeCache, rule: Rule, whose: Identity, again: boolean): Promise<string | undefined> {
  const id = clientIdOf(whose);
  const judge = () => {
    const scoped = scope.get(id);
    return scoped === undefined ? 'the identity is not in the scope of this gateway' : rule(scoped);
  };
  const first = judge();
  // A client that is connected already is judged by what is known.
  if (first === undefined || again) return first;
  await scope.refreshIdentity(whose.deviceId, whose.moduleId);
  if (scope.get(id) === undefined) await scope.demandRefresh();
  return judge();
}
