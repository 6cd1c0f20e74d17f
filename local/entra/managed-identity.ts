import { randomUUID } from 'node:crypto';
import type { FaultSwitch } from '../kit/faults.ts';
import { type Exchange, type Reply, type RunningServer, serveHttps } from '../kit/https-server.ts';
import { lifetimeSeconds } from './tokens.ts';

export interface AssignedIdentity {
  clientId: string;
  objectId: string;
}

export interface ManagedIdentityOptions {
  faults: FaultSwitch;
  /** The user-assigned identities of the app. */
  identities: readonly AssignedIdentity[];
  /** What the platform puts into `IDENTITY_HEADER`: only the app itself knows it. */
  header: string;
  tokenFor(identity: AssignedIdentity, resource: string): Promise<string | undefined>;
}

const apiVersion = '2019-08-01';

/**
 * App Service's token endpoint for managed identities ("REST endpoint reference", How to use managed identities for App
 * Service and Azure Functions). It is plain HTTP on the app's own machine.
 */
export function serveManagedIdentity(options: ManagedIdentityOptions): Promise<RunningServer> {
  return serveHttps({
    target: 'entra',
    faults: options.faults,
    routes: [{ method: 'GET', path: '/msi/token', handle: (exchange) => answer(options, exchange) }],
  });
}

async function answer(options: ManagedIdentityOptions, exchange: Exchange): Promise<Reply> {
  // The header is what keeps a request forged through the app (SSRF) from getting a token.
  if (exchange.headers['x-identity-header'] !== options.header) {
    return refuse(401, 'The X-IDENTITY-HEADER header is missing or does not match IDENTITY_HEADER.');
  }
  const query = exchange.url.searchParams;
  if (query.get('api-version') !== apiVersion) {
    return refuse(400, `Unsupported API version '${query.get('api-version') ?? ''}'. Supported: ${apiVersion}.`);
  }
  const resource = query.get('resource');
  if (!resource) return refuse(400, "Required query parameter 'resource' is missing.");
  const identity = askedFor(options.identities, query);
  if (identity === undefined) {
    return refuse(
      400,
      'No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.',
    );
  }
  const token = await options.tokenFor(identity, resource);
  if (token === undefined) {
    return refuse(400, `AADSTS500011: The resource principal named ${resource} was not found in the tenant.`);
  }
  return {
    status: 200,
    headers: { 'cache-control': 'no-store' },
    body: {
      access_token: token,
      // Seconds since 1970, as a string.
      expires_on: String(Math.floor(Date.now() / 1000) + lifetimeSeconds - 1),
      resource,
      token_type: 'Bearer',
      client_id: identity.clientId,
    },
  };
}

/** The app has user-assigned identities and no system-assigned one: a request must name one, by any of its ids. */
function askedFor(identities: readonly AssignedIdentity[], query: URLSearchParams): AssignedIdentity | undefined {
  const clientId = query.get('client_id')?.toLowerCase();
  if (clientId !== undefined) return identities.find((identity) => identity.clientId === clientId);
  const objectId = (query.get('principal_id') ?? query.get('object_id'))?.toLowerCase();
  return identities.find((identity) => identity.objectId === objectId);
}

function refuse(statusCode: number, message: string): Reply {
  return { status: statusCode, body: { statusCode, message, correlationId: randomUUID() } };
}
