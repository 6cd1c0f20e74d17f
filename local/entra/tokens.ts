import {
  createHash,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  randomBytes,
  X509Certificate,
} from 'node:crypto';
import { errors, exportJWK, type JWK, jwtVerify, SignJWT } from 'jose';
import { selfSigned } from '../kit/certificates.ts';

/** The key that signs every token of the tenant; its certificate is published with it, as Entra ID does. */
export interface StoredSigningKey {
  privateKey: string;
  certificate: string;
}

export interface SigningKey {
  kid: string;
  privateKey: KeyObject;
  publicKey: KeyObject;
  jwk: JWK;
  stored: StoredSigningKey;
}

/** Whom a token is for, as the applications and identities of the tenant are described. */
export interface TokenSubject {
  clientId: string;
  objectId: string;
  roles: string[];
  /** A managed identity proves itself with a certificate (`appidacr` 2), an application here with a secret (1). */
  managedIdentity?: boolean;
}

/** Entra ID dates tokens five minutes back, so that verifiers with a slow clock take them. */
const backdatedSeconds = 300;
export const lifetimeSeconds = 3600;

export async function newSigningKey(): Promise<StoredSigningKey> {
  const made = await selfSigned({
    commonName: 'accounts.accesscontrol.windows.net',
    keyType: 'rsa-2048',
    ca: false,
    notAfter: new Date(Date.now() + 5 * 365 * 86_400_000),
  });
  return { privateKey: made.privateKey, certificate: made.certificate };
}

export async function loadSigningKey(stored: StoredSigningKey): Promise<SigningKey> {
  const privateKey = createPrivateKey(stored.privateKey);
  const publicKey = createPublicKey(privateKey);
  const certificate = new X509Certificate(stored.certificate).raw;
  // Entra ID's kid is the SHA-1 thumbprint of the certificate, which is RFC 7517's x5t.
  const kid = createHash('sha1').update(certificate).digest('base64url');
  const jwk = { ...(await exportJWK(publicKey)), use: 'sig', kid, x5t: kid, x5c: [certificate.toString('base64')] };
  return { kid, privateKey, publicKey, jwk, stored };
}

/** Signs `claims` as they are, RS256, with the tenant's key. */
export function signToken(key: SigningKey, claims: Record<string, unknown>): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ typ: 'JWT', alg: 'RS256', kid: key.kid }).sign(key.privateKey);
}

export interface ClaimsOptions {
  tenantId: string;
  issuer: string;
  audience: string;
  now: number;
  expiresInSeconds?: number | undefined;
}

/** The claims of a v2.0 access token that an application got for itself (Microsoft's access-token claims reference). */
export function v2Claims(subject: TokenSubject, options: ClaimsOptions): Record<string, unknown> {
  return {
    ...commonClaims(subject, options),
    azp: subject.clientId,
    azpacr: subject.managedIdentity ? '2' : '1',
    ver: '2.0',
  };
}

/** The claims of a v1.0 access token: what Microsoft's own resources (IoT Hub, Key Vault, Storage) accept. */
export function v1Claims(subject: TokenSubject, options: ClaimsOptions): Record<string, unknown> {
  return {
    ...commonClaims(subject, options),
    appid: subject.clientId,
    appidacr: subject.managedIdentity ? '2' : '1',
    idp: options.issuer,
    idtyp: 'app',
    ver: '1.0',
  };
}

function commonClaims(subject: TokenSubject, options: ClaimsOptions): Record<string, unknown> {
  const issuedAt = options.now - backdatedSeconds;
  return {
    aud: options.audience,
    iss: options.issuer,
    iat: issuedAt,
    nbf: issuedAt,
    exp: options.now + (options.expiresInSeconds ?? lifetimeSeconds),
    oid: subject.objectId,
    // An application's subject is its service principal.
    sub: subject.objectId,
    tid: options.tenantId,
    uti: randomBytes(16).toString('base64url'),
    // Without a role Entra ID leaves the claim out.
    ...(subject.roles.length > 0 ? { roles: subject.roles } : {}),
  };
}

/** Answers who the token is for; undefined where it was not signed here, is not for `audience`, or not valid now. */
export async function verifyToken(
  key: SigningKey,
  token: string,
  audience: string,
  issuers: string[],
): Promise<{ oid: string; aud: string } | undefined> {
  try {
    const { payload } = await jwtVerify(token, key.publicKey, {
      algorithms: ['RS256'],
      audience,
      issuer: issuers,
      clockTolerance: backdatedSeconds,
      requiredClaims: ['exp', 'oid'],
    });
    return typeof payload.oid === 'string' ? { oid: payload.oid, aud: audience } : undefined;
  } catch (error) {
    if (error instanceof errors.JOSEError) return undefined;
    throw error;
  }
}
