import { randomBytes, randomUUID } from 'node:crypto';
import type { FaultSwitch } from '../kit/faults.ts';
import { type Exchange, type Reply, type Route, serveHttps } from '../kit/https-server.ts';
import { StateFile } from '../kit/state-file.ts';
import { type EntraClient, newClients } from './clients.ts';
import { refusals, refuse } from './errors.ts';
import { type AssignedIdentity, serveManagedIdentity } from './managed-identity.ts';
import { openIdMetadata } from './metadata.ts';
import { answerTokenRequest } from './token-endpoint.ts';
import {
  loadSigningKey,
  newSigningKey,
  type SigningKey,
  type StoredSigningKey,
  signToken,
  type TokenSubject,
  v1Claims,
  v2Claims,
  verifyToken,
} from './tokens.ts';

export type { EntraClient } from './clients.ts';

export interface EntraOptions {
  faults: FaultSwitch;
  tls: { cert: string; key: string };
  /** Keeps the signing key, the tenant, its clients and the managed identity over a restart. */
  stateFile?: string | undefined;
  port?: number | undefined;
  tenantId?: string | undefined;
  clients?: EntraClient[] | undefined;
  /**
   * The `aud` of the API's tokens, and what stands before `/.default`. Default `api://gatepost`. Give the API's client
   * id (a GUID) here to get what Entra ID writes for an API that accepts v2.0 tokens.
   */
  audience?: string | undefined;
}

export interface IssueOptions {
  aud: string;
  roles?: string[];
  oid?: string;
  sub?: string;
  appid?: string;
  /** May be negative: a token that has expired. Default 3600. */
  expiresInSeconds?: number;
  /** Seconds since 1970. Default: five minutes ago. */
  notBefore?: number;
  issuer?: string;
}

export interface Entra {
  issuer: string;
  tokenUrl: string;
  tenantId: string;
  audience: string;
  clients: EntraClient[];
  managedIdentity: { endpoint: string; header: string; clientId: string; objectId: string };
  /** A second identity of the same app, at the same endpoint. */
  trustManager: AssignedIdentity;
  port: number;
  /** A token with the current key, for tests and for callers that need no client of their own. */
  issue(claims: IssueOptions): Promise<string>;
  /** The public keys, as the `jwks_uri` answers them. */
  jwks(): object;
  /** For the doubles that take bearer tokens: who it is, or undefined where the token is not good for `audience`. */
  verify(token: string, audience: string): Promise<{ oid: string; aud: string } | undefined>;
  close(): Promise<void>;
}

interface EntraState {
  tenantId: string;
  signingKey: StoredSigningKey;
  clients: EntraClient[];
  managedIdentity: { header: string; clientId: string; objectId: string };
  trustManager: AssignedIdentity;
}

/** Microsoft's own resources that every tenant knows; their tokens are v1.0 ones. */
const platformResources = ['https://iothubs.azure.net', 'https://vault.azure.net', 'https://storage.azure.com'];

/** Starts a tenant of Entra ID on loopback, and App Service's endpoint for managed identities beside it. */
export async function startEntra(options: EntraOptions): Promise<Entra> {
  const file = new StateFile<EntraState>(options.stateFile, () => state);
  const state = await openState(options, file.read());
  file.flush();
  const key = await loadSigningKey(state.signingKey);
  const tenant = new Tenant(state, key, options.audience ?? 'api://gatepost');
  const server = await serveHttps({
    target: 'entra',
    faults: options.faults,
    tls: options.tls,
    port: options.port ?? 0,
    routes: tenantRoutes(tenant),
  });
  tenant.host = `localhost:${server.port}`;
  const { header, ...own } = state.managedIdentity;
  const identityServer = await serveManagedIdentity({
    header,
    faults: options.faults,
    identities: [own, state.trustManager],
    tokenFor: (identity, resource) => tenant.platformToken({ ...identity, roles: [], managedIdentity: true }, resource),
  });
  return {
    issuer: tenant.issuer,
    tokenUrl: `https://${tenant.host}/${state.tenantId}/oauth2/v2.0/token`,
    tenantId: state.tenantId,
    audience: tenant.audience,
    clients: state.clients,
    managedIdentity: { endpoint: `http://127.0.0.1:${identityServer.port}/msi/token`, ...state.managedIdentity },
    trustManager: state.trustManager,
    port: server.port,
    issue: (claims) => tenant.issue(claims),
    jwks: () => tenant.jwks(),
    verify: (token, audience) => verifyToken(key, token, audience, [tenant.issuer, tenant.platformIssuer]),
    close: async () => {
      await Promise.all([server.close(), identityServer.close()]);
      file.flush();
    },
  };
}

async function openState(options: EntraOptions, stored: EntraState | undefined): Promise<EntraState> {
  return {
    tenantId: options.tenantId ?? stored?.tenantId ?? randomUUID(),
    signingKey: stored?.signingKey ?? (await newSigningKey()),
    clients: options.clients ?? stored?.clients ?? newClients(),
    managedIdentity: stored?.managedIdentity ?? {
      header: randomBytes(32).toString('hex').toUpperCase(),
      clientId: randomUUID(),
      objectId: randomUUID(),
    },
    trustManager: stored?.trustManager ?? { clientId: randomUUID(), objectId: randomUUID() },
  };
}

class Tenant {
  host = 'localhost';
  readonly #state: EntraState;
  readonly #key: SigningKey;
  readonly audience: string;

  constructor(state: EntraState, key: SigningKey, audience: string) {
    this.#state = state;
    this.#key = key;
    this.audience = audience;
  }

  get id(): string {
    return this.#state.tenantId;
  }

  get clients(): EntraClient[] {
    return this.#state.clients;
  }

  get issuer(): string {
    return `https://${this.host}/${this.id}/v2.0`;
  }

  /** v1.0 tokens name the security token service whatever host issued them. */
  get platformIssuer(): string {
    return `https://sts.windows.net/${this.id}/`;
  }

  jwks(): { keys: object[] } {
    return { keys: [{ ...this.#key.jwk, issuer: this.issuer }] };
  }

  async clientToken(client: EntraClient, resource: string): Promise<string | undefined> {
    if (resource !== this.audience) return this.platformToken({ ...client, roles: [] }, resource);
    const claims = v2Claims(client, { ...this.#now(), issuer: this.issuer, audience: this.audience });
    return signToken(this.#key, claims);
  }

  async platformToken(subject: TokenSubject, resource: string): Promise<string | undefined> {
    // A caller may write the resource with its trailing slash; the audience then has it too, and the service minds.
    if (!platformResources.includes(resource.replace(/\/$/, ''))) return undefined;
    return signToken(this.#key, v1Claims(subject, { ...this.#now(), issuer: this.platformIssuer, audience: resource }));
  }

  issue(options: IssueOptions): Promise<string> {
    const objectId = options.oid ?? randomUUID();
    const subject = { clientId: options.appid ?? randomUUID(), objectId, roles: options.roles ?? [] };
    const isPlatform = platformResources.includes(options.aud);
    const issuer = options.issuer ?? (isPlatform ? this.platformIssuer : this.issuer);
    const shape = { ...this.#now(), issuer, audience: options.aud, expiresInSeconds: options.expiresInSeconds };
    const claims = isPlatform ? v1Claims(subject, shape) : v2Claims(subject, shape);
    if (options.sub !== undefined) claims.sub = options.sub;
    if (options.notBefore !== undefined) claims.nbf = options.notBefore;
    return signToken(this.#key, claims);
  }

  #now(): { tenantId: string; now: number } {
    return { tenantId: this.id, now: Math.floor(Date.now() / 1000) };
  }
}

function tenantRoutes(tenant: Tenant): Route[] {
  const known = (handle: (exchange: Exchange) => Reply | Promise<Reply>) => (exchange: Exchange) => {
    const asked = exchange.params.tenant ?? '';
    if (asked.toLowerCase() === tenant.id) return handle(exchange);
    return refuse(refusals.unknownTenant(asked), new Date(), undefined);
  };
  const metadata = (version: 1 | 2) => (): Reply => ({
    status: 200,
    body: openIdMetadata(tenant.host, tenant.id, version, version === 2 ? tenant.issuer : tenant.platformIssuer),
  });
  const keys = (): Reply => ({ status: 200, body: tenant.jwks() });
  const endpoint = {
    tenantId: tenant.id,
    clients: tenant.clients,
    tokenFor: (client: EntraClient, resource: string) => tenant.clientToken(client, resource),
  };
  const wrongMethod = () => refuse(refusals.wrongMethod('GET'), new Date(), undefined);
  return [
    { method: 'GET', path: '/{tenant}/v2.0/.well-known/openid-configuration', handle: known(metadata(2)) },
    { method: 'GET', path: '/{tenant}/.well-known/openid-configuration', handle: known(metadata(1)) },
    { method: 'GET', path: '/{tenant}/discovery/v2.0/keys', handle: known(keys) },
    { method: 'GET', path: '/{tenant}/discovery/keys', handle: known(keys) },
    {
      method: 'POST',
      path: '/{tenant}/oauth2/v2.0/token',
      handle: known((exchange) => answerTokenRequest(endpoint, exchange)),
    },
    { method: 'GET', path: '/{tenant}/oauth2/v2.0/token', handle: known(wrongMethod) },
  ];
}
