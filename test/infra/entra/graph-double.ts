import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * The part of Microsoft Graph v1.0 that sets up app registrations, with its refusals. Their words are those of the service
 * where a public report has them (msgraph-sdk-powershell issue 1211 for roles, azure-docs on identifierUris, the Graph
 * reference for upserts and alternate keys); elsewhere the status is the reference's and the words are our own.
 */
export interface GraphDouble {
  url: string;
  token: string;
  applications: Json[];
  servicePrincipals: Json[];
  assignments: Json[];
  /** Requests that changed something, or tried to. */
  writes: string[];
  /** How often what was just made is not found before it is. */
  lag: number;
  /** The next requests are answered with this, each once. */
  failures: number[];
  close(): Promise<void>;
}

type Json = Record<string, unknown> & { id: string };
interface Refusal {
  status: number;
  code: string;
  message: string;
}

const applicationFields = ['displayName', 'signInAudience', 'identifierUris', 'appRoles', 'api'];
const pageSize = 3;

export async function startGraphDouble(users: string[] = []): Promise<GraphDouble> {
  const lagging = new Map<string, number>();
  const double: GraphDouble = {
    url: '',
    token: randomUUID(),
    applications: [],
    servicePrincipals: [],
    assignments: [],
    writes: [],
    lag: 0,
    failures: [],
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const server = createServer((request, response) => {
    answer(double, lagging, users, request).then(
      ({ status, body }) => send(response, status, body),
      (error: unknown) => {
        const { status = 500, code, message } = error as Partial<Refusal>;
        send(response, status, { error: { code, message } });
      },
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  double.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1.0`;
  return double;
}

interface Reply {
  status: number;
  body?: unknown;
}

async function answer(
  double: GraphDouble,
  lagging: Map<string, number>,
  users: string[],
  request: IncomingMessage,
): Promise<Reply> {
  const failure = double.failures.shift();
  if (failure !== undefined)
    throw refusal(failure, failure === 429 ? 'TooManyRequests' : 'ServiceNotAvailable', 'Later.');
  if (request.headers.authorization !== `Bearer ${double.token}`) {
    throw refusal(401, 'InvalidAuthenticationToken', 'Access token is empty or not valid.');
  }
  const url = new URL(request.url ?? '/', double.url);
  const path = decodeURIComponent(url.pathname).replace('/v1.0', '');
  const body = await readBody(request);
  if (request.method !== 'GET') double.writes.push(`${request.method} ${path.replace(/[0-9a-f-]{36}/g, '{id}')}`);

  const made = (object: Json): Json => {
    for (const use of ['', 'reference:']) if (double.lag > 0) lagging.set(`${use}${object.id}`, double.lag);
    return object;
  };
  const seen = (object: Json | undefined): Json => {
    const left = object === undefined ? 1 : (lagging.get(object.id) ?? 0);
    if (object !== undefined && left > 0) lagging.set(object.id, left - 1);
    if (object === undefined || left > 0) throw notFound(path);
    return object;
  };
  const keyed = /^\/(applications|servicePrincipals)\((\w+)='([^']+)'\)$/.exec(path);
  const byId = /^\/(applications|servicePrincipals)\/([0-9a-f-]{36})$/.exec(path);
  const assigned = /^\/servicePrincipals\/([0-9a-f-]{36})\/appRoleAssignedTo$/.exec(path);
  const list = (kind: string | undefined) => (kind === 'applications' ? double.applications : double.servicePrincipals);

  if (keyed !== null) {
    const [, kind, key = '', value] = keyed;
    const found = list(kind).find((each) => each[key] === value);
    if (request.method === 'GET') return { status: 200, body: seen(found) };
    if (request.method === 'PATCH' && key === 'uniqueName') {
      if (found !== undefined) return change(double, seen(found), body);
      if (request.headers.prefer !== 'create-if-missing') throw notFound(path);
      return { status: 201, body: made(newApplication(double, String(value), body)) };
    }
  }
  if (byId !== null && request.method === 'PATCH') {
    return change(double, seen(list(byId[1]).find(({ id }) => id === byId[2])), body);
  }
  if (path === '/servicePrincipals' && request.method === 'POST') {
    return { status: 201, body: made(newPrincipal(double, lagging, body)) };
  }
  if (assigned !== null) {
    const resource = seen(double.servicePrincipals.find(({ id }) => id === assigned[1]));
    if (request.method === 'GET') return page(double, resource, url);
    if (request.method === 'POST') return { status: 201, body: newAssignment(double, users, resource, body) };
  }
  throw refusal(400, 'BadRequest', `Resource not found for the segment '${path}'.`);
}

function newApplication(double: GraphDouble, uniqueName: string, body: Json): Json {
  if (typeof body.displayName !== 'string') throw badRequest("A value is required for property 'displayName'.");
  const api = { requestedAccessTokenVersion: null, oauth2PermissionScopes: [], preAuthorizedApplications: [] };
  const ids = { id: randomUUID(), appId: randomUUID(), uniqueName };
  const application: Json = { ...ids, identifierUris: [], appRoles: [], api };
  change(double, application, body);
  double.applications.push(application);
  return application;
}

function change(double: GraphDouble, object: Json, body: Json): Reply {
  if ('servicePrincipalType' in object) {
    for (const name of Object.keys(body)) {
      if (name !== 'appRoleAssignmentRequired') throw badRequest(`Property '${name}' is read-only or unknown here.`);
    }
    Object.assign(object, body);
    return { status: 204 };
  }
  for (const name of Object.keys(body)) {
    if (!applicationFields.includes(name)) throw badRequest(`Invalid property '${name}'.`);
  }
  const { appRoles, identifierUris, api } = body as unknown as {
    appRoles?: Entitlement[];
    identifierUris?: string[];
    api?: { oauth2PermissionScopes?: Entitlement[]; preAuthorizedApplications?: PreAuthorized[] };
  };
  const now = object.api as { oauth2PermissionScopes: Entitlement[] };
  if (appRoles !== undefined) checkEntitlements(object.appRoles as Entitlement[], appRoles, true);
  if (api?.oauth2PermissionScopes !== undefined) {
    checkEntitlements(now.oauth2PermissionScopes, api.oauth2PermissionScopes, false);
  }
  checkPreAuthorized(now.oauth2PermissionScopes, api?.preAuthorizedApplications ?? []);
  for (const uri of identifierUris ?? []) {
    if (!uri.includes(String(object.appId))) {
      throw badRequest(
        'Values of identifierUris property must use a verified domain of the organization or its subdomain.',
      );
    }
  }
  Object.assign(object, body, { api: { ...now, ...api } });
  for (const principal of double.servicePrincipals) {
    if (principal.appId === object.appId) principal.appRoles = object.appRoles;
  }
  return { status: 204 };
}

interface Entitlement {
  id: string;
  value: string;
  isEnabled: boolean;
  displayName?: string;
  description?: string;
  allowedMemberTypes?: string[];
}

interface PreAuthorized {
  appId: string;
  delegatedPermissionIds: string[];
}

/** A list of roles or scopes replaces the one before. */
function checkEntitlements(before: Entitlement[], after: Entitlement[], areRoles: boolean): void {
  for (const old of before) {
    const kept = after.find(({ id }) => id === old.id);
    if (old.isEnabled && (kept === undefined || (kept.isEnabled && JSON.stringify(kept) !== JSON.stringify(old)))) {
      throw refusal(
        400,
        'CannotDeleteOrUpdateEnabledEntitlement',
        'Permission (scope or role) cannot be deleted or updated unless disabled first.',
      );
    }
  }
  for (const each of after) {
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(each.id)) throw badRequest('Invalid value for id.');
    const twice = after.filter(({ id, value }) => id === each.id || value === each.value).length > 1;
    if (twice) throw badRequest('Request contains a property with duplicate values.');
    if (areRoles && !(each.displayName && each.description && each.allowedMemberTypes?.length)) {
      throw badRequest(`The role ${each.value} lacks displayName, description or allowedMemberTypes.`);
    }
  }
}

function checkPreAuthorized(scopes: Entitlement[], clients: PreAuthorized[]): void {
  for (const { delegatedPermissionIds } of clients) {
    for (const id of delegatedPermissionIds) {
      if (!scopes.some((scope) => scope.id === id)) {
        throw badRequest(
          'Property api.preAuthorizedApplications contains a permission that the application does not expose.',
        );
      }
    }
  }
}

function newPrincipal(double: GraphDouble, lagging: Map<string, number>, body: Json): Json {
  const { appId, appRoleAssignmentRequired = false } = body;
  const application = double.applications.find((each) => each.appId === appId);
  // Another replica than the one that was read from.
  const reference = `reference:${application?.id}`;
  const left = lagging.get(reference) ?? 0;
  if (left > 0) lagging.set(reference, left - 1);
  if (application === undefined || left > 0) {
    throw badRequest(
      `The appId '${String(appId)}' of the service principal does not reference a valid application object.`,
    );
  }
  if (double.servicePrincipals.some((each) => each.appId === appId)) {
    const message = `The service principal cannot be created, updated, or restored because the service principal name ${String(appId)} is already in use.`;
    throw refusal(409, 'Request_MultipleObjectsWithSameKeyValue', message);
  }
  const made: Json = {
    id: randomUUID(),
    appId,
    servicePrincipalType: 'Application',
    appRoles: application.appRoles,
    appRoleAssignmentRequired,
  };
  double.servicePrincipals.push(made);
  return made;
}

function newAssignment(double: GraphDouble, users: string[], resource: Json, body: Json): Json {
  const { principalId, resourceId, appRoleId } = body as Record<string, unknown>;
  if (resourceId !== resource.id) throw badRequest('resourceId is not the service principal of the path.');
  if (![...double.servicePrincipals.map(({ id }) => id), ...users].includes(String(principalId))) {
    throw notFound(String(principalId));
  }
  if (!(resource.appRoles as Entitlement[]).some(({ id, isEnabled }) => id === appRoleId && isEnabled)) {
    throw badRequest(`Permission being assigned was not found on application '${String(resource.appId)}'.`);
  }
  const same = double.assignments.some((each) => each.principalId === principalId && each.appRoleId === appRoleId);
  if (same) throw badRequest('Permission being assigned already exists on the object');
  const made = { id: randomUUID(), principalId, resourceId, appRoleId };
  double.assignments.push(made);
  return made;
}

function page(double: GraphDouble, resource: Json, url: URL): Reply {
  const all = double.assignments.filter(({ resourceId }) => resourceId === resource.id);
  const from = Number(url.searchParams.get('$skiptoken') ?? 0);
  const next = new URL(url);
  next.searchParams.set('$skiptoken', String(from + pageSize));
  const more = from + pageSize < all.length ? { '@odata.nextLink': next.href } : {};
  return { status: 200, body: { value: all.slice(from, from + pageSize), ...more } };
}

async function readBody(request: IncomingMessage): Promise<Json> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  if (chunks.length === 0) return { id: '' };
  if (!/^application\/json/.test(request.headers['content-type'] ?? '')) throw refusal(415, 'BadRequest', 'Send JSON.');
  return JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

function refusal(status: number, code: string, message: string): Refusal {
  return { status, code, message };
}

function badRequest(message: string): Refusal {
  return refusal(400, 'Request_BadRequest', message);
}

function notFound(what: string): Refusal {
  return refusal(
    404,
    'Request_ResourceNotFound',
    `Resource '${what}' does not exist or one of its queried references is not present.`,
  );
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json', ...(status === 429 ? { 'retry-after': '7' } : {}) });
  response.end(body === undefined ? '' : JSON.stringify(body));
}
