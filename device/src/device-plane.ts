import { createHmac } from 'node:crypto';
import { type ApiOptions, callApi, jsonOf, unexpected } from './api.ts';
import {
  type ConnectionString,
  formatConnectionString,
  parseConnectionString,
  sasExpiry,
} from './connection-string.ts';
import { type OnboardingDocument, parseDocument, parseTrustBundle, type TrustBundle } from './document.ts';
import { GatepostDeviceError } from './errors.ts';

/** The calls of a device that has joined: its own SAS token is what it shows. */

export interface FetchedBundle {
  bundle: TrustBundle;
  etag: string | undefined;
}

/** The trust bundle; undefined where it is still the one with this ETag. Throws `api_`, `bundle_invalid`, `root_not_anchor`. */
export async function fetchBundle(
  api: URL,
  etag: string | undefined,
  options: ApiOptions,
): Promise<FetchedBundle | undefined> {
  const path = '/api/v1/trust-bundle?format=json';
  const headers: Record<string, string> = etag === undefined ? {} : { 'if-none-match': etag };
  const answer = await callApi(api, { method: 'GET', path, accept: 'application/json', headers }, options);
  if (answer.status === 304 && etag !== undefined) return undefined;
  if (answer.status !== 200) throw unexpected(api, path, answer);
  return { bundle: parseTrustBundle(jsonOf(api, answer)), etag: answer.etag };
}

/**
 * The onboarding document as it is now, with a fresh SAS token in it. Undefined for a device with a certificate, which
 * has nothing that the API takes as proof.
 */
export async function fetchDocument(
  api: URL,
  document: OnboardingDocument,
  options: ApiOptions,
): Promise<OnboardingDocument | undefined> {
  const authorization = proofOf(parseConnectionString(document.connectionString));
  if (authorization === undefined) return undefined;
  const path = `/api/v1/devices/${encodeURIComponent(document.device.id)}/onboarding`;
  const request = { method: 'GET', path, accept: 'application/json', headers: { authorization } } as const;
  const answer = await callApi(api, request, options);
  if (answer.status !== 200) throw unexpected(api, path, answer);
  return parseDocument(jsonOf(api, answer));
}

/** The same document with a fresh SAS token, and the gateway that the API names now. */
export async function fetchToken(
  api: URL,
  document: OnboardingDocument,
  options: ApiOptions,
): Promise<OnboardingDocument> {
  const string = parseConnectionString(document.connectionString);
  const authorization = proofOf(string);
  if (authorization === undefined) throw new GatepostDeviceError('internal', 'There is no token to renew.');
  const path = `/api/v1/devices/${encodeURIComponent(document.device.id)}/sas-token`;
  const request = { method: 'POST', path, accept: 'application/json', json: {}, headers: { authorization } } as const;
  const answer = await callApi(api, request, options);
  if (answer.status !== 200) throw unexpected(api, path, answer);
  const { sasToken, hub, gateway } = jsonOf(api, answer) as Partial<TokenAnswer>;
  if (typeof sasToken !== 'string' || typeof hub?.hostname !== 'string' || typeof gateway?.hostname !== 'string') {
    throw new GatepostDeviceError('api_failed', `${api.origin} answered something that is no SAS token.`);
  }
  const expiresAt = sasExpiry(sasToken);
  const port = gateway.ports?.mqtt ?? undefined;
  const connectionString = formatConnectionString({
    ...string,
    hub: hub.hostname,
    gateway: { host: gateway.hostname, port: port === 8883 ? undefined : port },
    credential: { kind: 'sas', sharedAccessSignature: sasToken, expiresAt },
  });
  // Checked as if it were new: what stands in it must agree with itself.
  return parseDocument({ ...document, hub, gateway, connectionString, expiresAt: expiresAt.toISOString() });
}

interface TokenAnswer {
  sasToken: string;
  hub: OnboardingDocument['hub'];
  gateway: OnboardingDocument['gateway'];
}

/** `fresh` as it is, but with the credential that this device holds where that is better than a token for an hour. */
export function withOwnCredential(fresh: OnboardingDocument, held: OnboardingDocument): OnboardingDocument {
  const { credential } = parseConnectionString(held.connectionString);
  if (credential.kind === 'sas') return fresh;
  const string = parseConnectionString(fresh.connectionString);
  return parseDocument({
    ...fresh,
    connectionString: formatConnectionString({ ...string, credential }),
    expiresAt: held.expiresAt,
  });
}

/** A SAS token for the API: the one that the device has, or one that it signs with its key, good for five minutes. */
function proofOf({ hub, deviceId, moduleId, credential }: ConnectionString): string | undefined {
  if (credential.kind === 'sas') return credential.sharedAccessSignature;
  if (credential.kind === 'x509') return undefined;
  const path = moduleId === undefined ? deviceId : `${deviceId}/modules/${moduleId}`;
  const resource = strictly(`${hub}/devices/${path}`);
  const expiry = Math.floor(Date.now() / 1000) + 300;
  const key = Buffer.from(credential.sharedAccessKey, 'base64');
  const signature = createHmac('sha256', key).update(`${resource}\n${expiry}`).digest('base64');
  return `SharedAccessSignature sr=${resource}&sig=${strictly(signature)}&se=${expiry}`;
}

/** As azure-iot-common's encodeUriComponentStrict. */
function strictly(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`);
}
