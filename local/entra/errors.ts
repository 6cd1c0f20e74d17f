import { randomUUID } from 'node:crypto';
import type { Reply } from '../kit/https-server.ts';

/** One refusal of the token endpoint, with the number that Entra ID documents and tools look for. */
export interface EntraRefusal {
  /** The number behind `AADSTS`. */
  number: number;
  /** The OAuth 2.0 error code (RFC 6749 section 5.2). */
  error: string;
  message: string;
  status?: number;
}

/** The answers of the token endpoint are never cached (RFC 6749 section 5.1). */
export const noStore = { 'cache-control': 'no-store, no-cache', pragma: 'no-cache', expires: '-1' };

/**
 * The error document as Entra ID writes it: trace id, correlation id and time stand in the description and again as
 * fields of their own. The caller's `client-request-id` comes back as the correlation id.
 */
export function refuse(refusal: EntraRefusal, now: Date, clientRequestId: string | undefined): Reply {
  const traceId = randomUUID();
  const correlationId = clientRequestId ?? randomUUID();
  const timestamp = `${now.toISOString().slice(0, 19).replace('T', ' ')}Z`;
  const description = `AADSTS${refusal.number}: ${refusal.message}`;
  return {
    status: refusal.status ?? 400,
    headers: { ...noStore, 'content-type': 'application/json; charset=utf-8', 'x-ms-request-id': traceId },
    body: {
      error: refusal.error,
      error_description: `${description} Trace ID: ${traceId} Correlation ID: ${correlationId} Timestamp: ${timestamp}`,
      error_codes: [refusal.number],
      timestamp,
      trace_id: traceId,
      correlation_id: correlationId,
      error_uri: `https://login.microsoftonline.com/error?code=${refusal.number}`,
    },
  };
}

export const refusals = {
  missingParameter: (name: string): EntraRefusal => ({
    number: 900144,
    error: 'invalid_request',
    message: `The request body must contain the following parameter: '${name}'.`,
  }),
  unsupportedGrant: (grant: string): EntraRefusal => ({
    number: 70003,
    error: 'unsupported_grant_type',
    message: `The app requested an unsupported grant type '${grant}'.`,
  }),
  unknownClient: (clientId: string, tenant: string): EntraRefusal => ({
    number: 700016,
    error: 'unauthorized_client',
    message: `Application with identifier '${clientId}' was not found in the directory '${tenant}'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant.`,
  }),
  missingSecret: (): EntraRefusal => ({
    number: 7000218,
    error: 'invalid_client',
    status: 401,
    message: "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
  }),
  wrongSecret: (clientId: string): EntraRefusal => ({
    number: 7000215,
    error: 'invalid_client',
    status: 401,
    message: `Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '${clientId}'.`,
  }),
  scopeWithoutDefault: (scope: string): EntraRefusal => ({
    number: 1002012,
    error: 'invalid_scope',
    message: `The provided value for scope ${scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).`,
  }),
  severalResources: (scope: string): EntraRefusal => ({
    number: 70011,
    error: 'invalid_scope',
    message: `The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope ${scope} is not valid.`,
  }),
  unknownResource: (resource: string, tenant: string): EntraRefusal => ({
    number: 500011,
    error: 'invalid_resource',
    message: `The resource principal named ${resource} was not found in the tenant named ${tenant}. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant.`,
  }),
  unknownTenant: (tenant: string): EntraRefusal => ({
    number: 90002,
    error: 'invalid_request',
    message: `Tenant '${tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant.`,
  }),
  wrongMethod: (method: string): EntraRefusal => ({
    number: 900561,
    error: 'invalid_request',
    status: 405,
    message: `The endpoint only accepts POST requests. Received a ${method} request.`,
  }),
};
