import { createRemoteJWKSet, customFetch, errors, type JWTPayload, jwtVerify, type RemoteJWKSet } from 'jose';
import { z } from 'zod';
import { GatepostError } from '../errors.ts';
import type { GetJson } from './get-json.ts';
import type { AuthenticationRequest, Caller, Role } from './route.ts';

export interface OperatorTokenOptions {
  /** Of the tenant, such as `https://login.microsoftonline.com/TENANT/v2.0`. */
  issuer: string;
  /** What the API is called in tokens: its application id URI, and its client id where tokens name that. */
  audiences: readonly string[];
  getJson: GetJson;
  clock: () => Date;
}

/** Proves an operator who holds at least one of `anyOf`. */
export type OperatorTokens = (anyOf: readonly Role[], request: AuthenticationRequest) => Promise<Caller>;

const skewSeconds = 60;
const longestToken = 16_384;
const minute = 60_000;
/** Entra ID announces a new key well before it signs with it: an hourly look suffices. */
const refreshAfterMs = 60 * minute;
/** How long known keys are still good where Entra ID cannot be reached. */
const keysLiveMs = 24 * 60 * minute;
/** How long a failed look is not repeated, so that callers wait for no timeout one after the other. */
const failureCooldownMs = 2_000;

const metadataSchema = z.object({ issuer: z.string(), jwks_uri: z.url({ protocol: /^https$/ }) });

const roleNames: ReadonlySet<string> = new Set<Role>([
  'Trust.Read',
  'Trust.Manage',
  'Fleet.Read',
  'Fleet.Provision',
  'Credential.Issue',
  'Audit.Read',
]);

/**
 * Verifies Entra ID access tokens: issuer, audience, RS256 by a key of the tenant, `exp` and `nbf` with a minute of skew,
 * app roles. Throws `token_missing`, `token_invalid`, `token_expired`, `role_missing`, or `upstream_unavailable` where the
 * keys cannot be read. Nothing but the token counts: `x-ms-client-principal` can be sent by anybody where Easy Auth is off.
 */
export function operatorTokens(options: OperatorTokenOptions): OperatorTokens {
  const keys = signingKeys(options);
  return async (anyOf, request) => {
    const token = bearerOf(request.headers.get('authorization'));
    const claims = await verify(token, await keys(), options);
    const roles = rolesOf(claims);
    if (!anyOf.some((role) => roles.includes(role))) {
      throw new GatepostError('role_missing', `This call needs the app role ${anyOf.join(' or ')}.`);
    }
    return { plane: 'operator', objectId: text(claims.oid) ?? text(claims.sub) ?? '', name: nameOf(claims), roles };
  };
}

function bearerOf(header: string | null): string {
  const token = /^Bearer +([\w.~+/=-]+)$/i.exec(header?.trim() ?? '')?.[1];
  if (token === undefined) {
    throw new GatepostError('token_missing', 'Send an Entra ID access token for this API as Authorization: Bearer.');
  }
  if (token.length > longestToken) throw new GatepostError('token_invalid', 'The token is too long to be one.');
  return token;
}

async function verify(token: string, keys: RemoteJWKSet, options: OperatorTokenOptions): Promise<JWTPayload> {
  try {
    const { payload } = await jwtVerify(token, keys, {
      issuer: options.issuer,
      audience: [...options.audiences],
      algorithms: ['RS256'],
      requiredClaims: ['exp'],
      clockTolerance: skewSeconds,
      currentDate: options.clock(),
    });
    return payload;
  } catch (error) {
    throw tokenProblem(error);
  }
}

/** An error of the token is the caller's; any other is that the keys could not be had. */
function tokenProblem(error: unknown): GatepostError {
  if (error instanceof GatepostError) return error;
  if (error instanceof errors.JWTExpired) {
    return new GatepostError('token_expired', 'Get a new access token and repeat the call.', { cause: error });
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    return new GatepostError(
      'token_invalid',
      `Get a token for this API: the claim ${error.claim} is not as expected.`,
      {
        cause: error,
      },
    );
  }
  const ofTheKeys = error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid;
  // jose answers a JWKS that could not be fetched with its base class; of the token it always throws a subclass.
  if (error instanceof errors.JOSEError && error.constructor !== errors.JOSEError && !ofTheKeys) {
    return new GatepostError('token_invalid', 'Get an access token of this tenant for this API, signed with RS256.', {
      cause: error,
    });
  }
  return keysUnavailable(error);
}

function keysUnavailable(cause: unknown): GatepostError {
  return new GatepostError('upstream_unavailable', 'Entra ID does not answer: the token cannot be checked now.', {
    cause,
    retryAfterSeconds: 5,
  });
}

/** The keys of the tenant: found by its OpenID metadata, kept, refreshed behind the callers' backs. */
function signingKeys(options: OperatorTokenOptions): () => Promise<RemoteJWKSet> {
  const getJson = withCooldown(options);
  let keys: RemoteJWKSet | undefined;
  let looking: Promise<RemoteJWKSet> | undefined;
  let readAt = 0;

  const discover = async (): Promise<RemoteJWKSet> => {
    const metadata = metadataSchema.parse(await getJson(`${options.issuer}/.well-known/openid-configuration`));
    // OpenID Connect Discovery 1.0 section 4.3: metadata that speaks for another issuer is not to be used.
    if (metadata.issuer !== options.issuer) throw new Error('The OpenID metadata speaks for another issuer');
    return createRemoteJWKSet(new URL(metadata.jwks_uri), {
      cacheMaxAge: keysLiveMs,
      cooldownDuration: minute / 2,
      [customFetch]: async (url) => Response.json(await getJson(url)),
    });
  };

  return async () => {
    if (keys === undefined) {
      looking ??= discover().finally(() => {
        looking = undefined;
      });
      try {
        keys = await looking;
      } catch (error) {
        throw keysUnavailable(error);
      }
      readAt = options.clock().getTime();
    } else if (options.clock().getTime() - readAt > refreshAfterMs) {
      readAt = options.clock().getTime();
      keys.reload().catch(() => {});
    }
    return keys;
  };
}

function withCooldown({ getJson, clock }: OperatorTokenOptions): GetJson {
  const failures = new Map<string, { at: number; error: unknown }>();
  return async (url) => {
    const failed = failures.get(url);
    if (failed !== undefined && clock().getTime() - failed.at < failureCooldownMs) throw failed.error;
    try {
      const document = await getJson(url);
      failures.delete(url);
      return document;
    } catch (error) {
      failures.set(url, { at: clock().getTime(), error });
      throw error;
    }
  };
}

function rolesOf(claims: JWTPayload): Role[] {
  const { roles } = claims;
  return Array.isArray(roles) ? roles.filter((role): role is Role => roleNames.has(role)) : [];
}

/** A name to show: a person's sign-in name, or the client id of an app. */
function nameOf(claims: JWTPayload): string {
  return text(claims.preferred_username) ?? text(claims.azp) ?? text(claims.appid) ?? text(claims.sub) ?? '';
}

function text(claim: unknown): string | undefined {
  return typeof claim === 'string' && claim !== '' ? claim : undefined;
}
