import { decodeJwt, type JWTPayload } from 'jose';
import type { Exchange } from '../kit/https-server.ts';
import { VaultError } from './errors.ts';
import { grants, type RoleAssignment } from './roles.ts';

/** Answers who a bearer token speaks for, or undefined where it is not good for `audience`. */
export type TokenVerifier = (token: string, audience: string) => Promise<{ oid: string } | undefined>;

export interface AccessOptions {
  vaultName: string;
  tenantId: string;
  tokens: TokenVerifier;
  roleAssignments: RoleAssignment[];
}

export interface Caller {
  objectId: string;
  clientId: string;
  issuer: string;
}

const audience = 'https://vault.azure.net';

/** What sends a client to Entra ID: the tenant and the resource to ask a token for. */
export function challenge(tenantId: string): Record<string, string> {
  return {
    'www-authenticate': `Bearer authorization="https://login.microsoftonline.com/${tenantId}", resource="${audience}"`,
  };
}

/** Reads the bearer token. Throws a 401 {@link VaultError}, which is answered with the {@link challenge}. */
export async function authenticate(options: AccessOptions, exchange: Exchange): Promise<Caller> {
  const token = /^Bearer (\S+)$/i.exec(exchange.headers.authorization ?? '')?.[1];
  if (token === undefined) throw unauthorized('AKV10000: Request is missing a Bearer or PoP token.');
  const claims = readClaims(token);
  const expected = `https://sts.windows.net/${options.tenantId}/`;
  if (claims.aud !== audience) {
    throw unauthorized(`AKV10022: Invalid audience. Expected ${audience}, found: ${String(claims.aud)}.`);
  }
  if (claims.iss !== expected) {
    throw unauthorized(`AKV10032: Invalid issuer. Expected one of ${expected}, found ${String(claims.iss)}.`);
  }
  const verified = await options.tokens(token, audience);
  if (verified === undefined) throw unauthorized(whyNot(claims));
  const clientId = typeof claims.appid === 'string' ? claims.appid : '';
  return { objectId: verified.oid, clientId, issuer: expected };
}

/** Throws 403 ForbiddenByRbac unless one of the caller's roles grants one of `actions`. */
export function authorize(options: AccessOptions, caller: Caller, actions: string[], resource: string): void {
  const roles = options.roleAssignments.filter(({ objectId }) => objectId === caller.objectId);
  if (roles.some(({ role }) => actions.some((action) => grants(role, action)))) return;
  const scope = `/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/gatepost/providers/microsoft.keyvault/vaults/${options.vaultName}`;
  const message = [
    'Caller is not authorized to perform action on resource.',
    'If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.',
    `Caller: appid=${caller.clientId};oid=${caller.objectId};iss=${caller.issuer}`,
    `Action: 'Microsoft.KeyVault/vaults/${actions[0]}'`,
    `Resource: '${scope}${resource}'`,
    'Assignment: (not found)',
    'DenyAssignmentId: null',
    "DecisionReason: 'DeniedWithNoValidRBAC' ",
    `Vault: ${options.vaultName};location=local`,
    '',
  ].join('\r\n');
  throw new VaultError(403, 'Forbidden', message, 'ForbiddenByRbac');
}

function unauthorized(message: string): VaultError {
  return new VaultError(401, 'Unauthorized', message);
}

function readClaims(token: string): JWTPayload {
  try {
    return decodeJwt(token);
  } catch {
    throw unauthorized('[BearerReadAccessTokenFailed] Error reading bearer token: the token is not a JWT.');
  }
}

function whyNot(claims: JWTPayload): string {
  const now = Date.now() / 1000;
  if (typeof claims.exp === 'number' && claims.exp < now)
    return '[TokenExpired] Error validating token: it has expired.';
  if (typeof claims.nbf === 'number' && claims.nbf > now) {
    return '[TokenNotYetValid] Error validating token: it is not valid yet.';
  }
  return 'AKV10046: Unable to resolve the key used for signature validation.';
}
