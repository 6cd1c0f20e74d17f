import { createHash, timingSafeEqual } from 'node:crypto';
import type { Exchange, Reply } from '../kit/https-server.ts';
import type { EntraClient } from './clients.ts';
import { type EntraRefusal, noStore, refusals, refuse } from './errors.ts';
import { lifetimeSeconds } from './tokens.ts';

export interface TokenEndpointOptions {
  tenantId: string;
  clients: EntraClient[];
  /** Answers the signed token for a resource; undefined where the tenant knows no such resource. */
  tokenFor(client: EntraClient, resource: string): Promise<string | undefined>;
}

interface TokenRequest {
  client: EntraClient;
  resource: string;
}

/** The client-credentials grant of the v2.0 token endpoint (RFC 6749 section 4.4), with Entra ID's refusals. */
export async function answerTokenRequest(options: TokenEndpointOptions, exchange: Exchange): Promise<Reply> {
  const now = new Date();
  const clientRequestId = exchange.headers['client-request-id'];
  const correlationId = typeof clientRequestId === 'string' ? clientRequestId : undefined;
  const request = read(options, exchange);
  if ('error' in request) return refuse(request, now, correlationId);
  const token = await options.tokenFor(request.client, request.resource);
  if (token === undefined) {
    return refuse(refusals.unknownResource(request.resource, options.tenantId), now, correlationId);
  }
  return {
    status: 200,
    headers: noStore,
    // One second is gone by the time Entra ID answers: 3599 is what it says.
    body: {
      token_type: 'Bearer',
      expires_in: lifetimeSeconds - 1,
      ext_expires_in: lifetimeSeconds - 1,
      access_token: token,
    },
  };
}

function read(options: TokenEndpointOptions, exchange: Exchange): TokenRequest | EntraRefusal {
  const form = readForm(exchange);
  const grant = form.get('grant_type');
  if (!grant) return refusals.missingParameter('grant_type');
  const { clientId, secret } = credentials(form, exchange.headers.authorization);
  if (!clientId) return refusals.missingParameter('client_id');
  if (grant !== 'client_credentials') return refusals.unsupportedGrant(grant);
  const scope = form.get('scope')?.trim();
  if (!scope) return refusals.missingParameter('scope');
  const client = options.clients.find((known) => known.clientId === clientId.toLowerCase());
  if (client === undefined) return refusals.unknownClient(clientId, options.tenantId);
  if (!secret) return refusals.missingSecret();
  if (!sameText(secret, client.clientSecret)) return refusals.wrongSecret(clientId);
  if (/\s/.test(scope)) return refusals.severalResources(scope);
  if (!scope.endsWith('/.default')) return refusals.scopeWithoutDefault(scope);
  return { client, resource: scope.slice(0, -'/.default'.length) };
}

/** A body of another content type holds no parameters, so that Entra ID misses the first one. */
function readForm(exchange: Exchange): URLSearchParams {
  const type = exchange.headers['content-type']?.split(';')[0]?.trim().toLowerCase();
  return new URLSearchParams(type === 'application/x-www-form-urlencoded' ? exchange.body.toString('utf8') : '');
}

/** In the body or as Basic, where both parts are form-encoded before they are joined (RFC 6749 section 2.3.1). */
function credentials(
  form: URLSearchParams,
  authorization: string | undefined,
): { clientId: string | undefined; secret: string | undefined } {
  const basic = /^Basic ([A-Za-z0-9+/=]+)$/i.exec(authorization ?? '')?.[1];
  if (basic === undefined) {
    return { clientId: form.get('client_id') ?? undefined, secret: form.get('client_secret') ?? undefined };
  }
  const text = Buffer.from(basic, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 0) return { clientId: undefined, secret: undefined };
  return { clientId: formDecode(text.slice(0, colon)), secret: formDecode(text.slice(colon + 1)) };
}

function formDecode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return text;
  }
}

function sameText(left: string, right: string): boolean {
  const hash = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(left), hash(right));
}
