import { z } from 'zod';
import { GatepostError } from '../errors.ts';
import type { KnownGateway } from '../identity/gateway-cache.ts';
import { defaultMqttPort } from '../identity/gateway-record.ts';
import type { Authentication } from '../identity/registry.ts';
import type { Redacted } from '../redacted.ts';
import { formatConnectionString } from './connection-string.ts';
import { signSasToken } from './sas-token.ts';

export const defaultTtlSeconds = 3600;

/** How long a SAS token lives: nothing in Azure caps it, so this does. */
export const ttlSchema = z
  .int()
  .min(60)
  .max(2_592_000)
  .meta({ description: `Seconds that a SAS token is good for. Default ${defaultTtlSeconds}.` });

export const whichKeySchema = z.enum(['primary', 'secondary']);

export type WhichKey = z.output<typeof whichKeySchema>;

export const credentialKindSchema = z.enum(['key', 'sas', 'x509']);

export type CredentialKind = z.output<typeof credentialKindSchema>;

/** What kind of credential is wanted, and the choices that go with it. */
export const credentialRequestSchema = z.discriminatedUnion('credential', [
  z.strictObject({ credential: z.literal('key'), key: whichKeySchema.optional() }),
  z.strictObject({ credential: z.literal('sas'), key: whichKeySchema.optional(), ttlSeconds: ttlSchema.optional() }),
  z.strictObject({ credential: z.literal('x509') }),
]);

export interface CredentialRequest {
  credential: CredentialKind;
  /** Default primary. */
  key?: WhichKey | undefined;
  ttlSeconds?: number | undefined;
}

export interface CredentialSubject {
  hubHostname: string;
  deviceId: string;
  moduleId: string | null;
  authentication: Authentication;
  gateway: KnownGateway;
}

/** Secret: never log it. */
export interface IssuedCredential {
  connectionString: string;
  /** Of a SAS token; null for what does not expire by itself. */
  expiresAt: string | null;
}

/** Makes a gateway-aware connection string; throws `credential_mismatch`. */
export function issueCredential(subject: CredentialSubject, request: CredentialRequest, now: Date): IssuedCredential {
  const { hubHostname, deviceId, moduleId, authentication, gateway } = subject;
  requireCredential(authentication, request.credential, deviceId);
  const identity = {
    hostName: hubHostname,
    deviceId,
    moduleId: moduleId ?? undefined,
    gatewayHostName: gatewayHostName(gateway),
  };
  switch (request.credential) {
    case 'x509':
      return { connectionString: formatConnectionString({ ...identity, credential: { x509: true } }), expiresAt: null };
    case 'key': {
      const credential = { sharedAccessKey: keyOf(authentication, request.key, deviceId).reveal() };
      return { connectionString: formatConnectionString({ ...identity, credential }), expiresAt: null };
    }
    case 'sas': {
      const { sasToken, expiresAt } = issueSasToken(subject, request, now);
      const credential = { sharedAccessSignature: sasToken };
      return { connectionString: formatConnectionString({ ...identity, credential }), expiresAt };
    }
  }
}

/** Signs a SAS token with the identity's own key; throws `credential_mismatch`. */
export function issueSasToken(
  subject: Omit<CredentialSubject, 'gateway'>,
  request: Pick<CredentialRequest, 'key' | 'ttlSeconds'>,
  now: Date,
): { sasToken: string; expiresAt: string } {
  const { hubHostname, deviceId, moduleId, authentication } = subject;
  const key = keyOf(authentication, request.key, deviceId);
  const expiry = Math.floor(now.getTime() / 1000) + (request.ttlSeconds ?? defaultTtlSeconds);
  const sasToken = signSasToken({ hubHostname, deviceId, moduleId, key, expiry });
  return { sasToken, expiresAt: new Date(expiry * 1000).toISOString() };
}

/** Throws `credential_mismatch` where an identity that authenticates so has no such credential. */
export function requireCredential(
  authentication: Pick<Authentication, 'type'>,
  kind: CredentialKind,
  deviceId: string,
): void {
  const isCertificate = authentication.type === 'selfSigned' || authentication.type === 'certificateAuthority';
  const fits = kind === 'x509' ? isCertificate : authentication.type === 'sas';
  if (fits) return;
  const can = isCertificate ? '"x509"' : '"key" or "sas"';
  const detail = `${deviceId} authenticates by ${authentication.type}: ask for the credential ${can}, or change its auth.`;
  throw new GatepostError('credential_mismatch', detail);
}

/** What an identity gets when nobody says: its key, or `x509` where it has none. */
export function defaultCredential(authentication: Pick<Authentication, 'type'>): CredentialKind {
  return authentication.type === 'sas' ? 'key' : 'x509';
}

/** The Node SDK reads a port in GatewayHostName and none in a field of its own (azure-iot-mqtt-base, mqtt_base.js). */
function gatewayHostName(gateway: KnownGateway): string {
  const { mqtt } = gateway.ports;
  return mqtt === null || mqtt === defaultMqttPort ? gateway.hostname : `${gateway.hostname}:${mqtt}`;
}

function keyOf(authentication: Authentication, which: WhichKey | undefined, deviceId: string): Redacted {
  requireCredential(authentication, 'key', deviceId);
  const key =
    authentication.type !== 'sas'
      ? undefined
      : which === 'secondary'
        ? authentication.secondaryKey
        : authentication.primaryKey;
  if (key !== undefined) return key;
  const detail = `IoT Hub did not show the ${which ?? 'primary'} key of ${deviceId}: Gatepost's role may not read keys.`;
  throw new GatepostError('upstream_refused', detail);
}
