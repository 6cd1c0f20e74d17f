import type { X509Certificate } from 'node:crypto';
import type { ConnectDecision, ConnectRequest, Credentials, Identity } from '../mqtt/identity.ts';
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

/** Whether a client gets in over MQTT. The rules are those of {@link refuse}; the user name says who it is. */
export async function authenticate(options: AuthenticatorOptions, connect: ConnectRequest): Promise<ConnectDecision> {
  const credentials = credentialsOf(connect);
  if (typeof credentials === 'string') return notAuthorized(credentials);
  const reason = await refuse(options, credentials);
  return reason === undefined ? { ok: credentials.identity } : notAuthorized(reason);
}

/** What a CONNECT packet shows, or why it does not read as one. */
export function credentialsOf(connect: ConnectRequest): Credentials | string {
  const user = parseUserName(connect.userName);
  if (user === undefined) return 'the user name is not {host}/{deviceId}[/{moduleId}]/?api-version=...';
  const identity: Identity = { deviceId: user.deviceId, moduleId: user.moduleId };
  if (connect.clientId !== clientIdOf(identity)) return 'the client id is not that of the user name';
  const { password, certificates, again } = connect;
  return { identity, token: password || undefined, certificates, again };
}

/**
 * Why edgeHub, in its default mode `Scope`, does not let a client in; undefined where it does. Nobody is asked but the
 * scope cache, which reads an identity again from the hub where the caller does not pass (Azure/iotedge,
 * DeviceScopeAuthenticator.cs).
 */
export async function refuse(options: AuthenticatorOptions, credentials: Credentials): Promise<string | undefined> {
  const { identity, token, again } = credentials;
  const rule = ruleFor(options, credentials);
  if (typeof rule === 'string') return rule;
  const reason = await check(options.scope, rule, identity, again);
  // A module may use a token that its device's key has signed; a certificate never gets this far.
  if (reason === undefined || identity.moduleId === null || token === undefined) return reason;
  return check(options.scope, rule, { ...identity, moduleId: null }, again);
}

/** A password wins over a certificate (Azure/iotedge, DeviceIdentityProvider.cs). */
function ruleFor(options: AuthenticatorOptions, credentials: Credentials): Rule | string {
  const { identity, certificates } = credentials;
  const now = (options.now ?? Date.now)();
  if (credentials.token !== undefined) {
    const token = parseSasToken(credentials.token);
    if (token === undefined) return 'the password is not a SAS token';
    return (scoped) => refuseToken(token, scoped, identity, options.hosts, now);
  }
  if (certificates.length === 0) return 'neither a SAS token nor a client certificate was given';
  return (scoped) => refuseCertificate(certificates, scoped, identity, options.trustBundle, now);
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
