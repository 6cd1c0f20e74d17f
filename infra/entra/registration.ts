import { type AppRole, appRoles, azureCli, factoryRoles, signInScope } from './app-roles.ts';
import { type Graph, GraphError } from './graph.ts';

export interface RegistrationOptions {
  /** Name of the installation: one app registration each. */
  environment: string;
  /** Object id of a person or pipeline that gets every role; undefined: nobody. */
  operatorId: string | undefined;
  /** Told of every change that is made. */
  onChange(what: string): void;
}

export interface Registration {
  apiClientId: string;
  factoryClientId: string;
}

interface Application {
  id: string;
  appId: string;
  identifierUris: string[];
  appRoles: AppRole[];
  api: {
    requestedAccessTokenVersion: number | null;
    oauth2PermissionScopes: (typeof signInScope)[];
    preAuthorizedApplications: { appId: string; delegatedPermissionIds: string[] }[];
  };
}

interface ServicePrincipal {
  id: string;
  appRoleAssignmentRequired: boolean;
}

interface Assignment {
  principalId: string;
  appRoleId: string;
}

/**
 * Makes sure that the tenant has the API's app registration with its roles, and a service principal for a factory, or
 * completes what is there. Run again it changes nothing; roles and scopes that others added stay.
 *
 * No secret is made: the owner of the factory gives its app a certificate or a federated credential.
 */
export async function ensureRegistration(graph: Graph, options: RegistrationOptions): Promise<Registration> {
  const { environment, onChange, operatorId } = options;
  const api = await ensureApplication(graph, `gatepost-${environment}`, `Gatepost (${environment})`, onChange);
  await completeApi(graph, api, onChange);
  const resource = await ensurePrincipal(graph, api.appId, true, onChange);
  const factoryName = `Gatepost factory (${environment})`;
  const factory = await ensureApplication(graph, `gatepost-factory-${environment}`, factoryName, onChange);
  const caller = await ensurePrincipal(graph, factory.appId, false, onChange);
  // Where the registration had roles by these names before, they have ids of its own.
  const { appRoles: present } = await readApplication(graph, `gatepost-${environment}`);
  const idsOf = (values: readonly string[]) =>
    present.filter((role) => values.includes(role.value)).map(({ id }) => id);
  const wanted = [{ principalId: caller.id, roles: idsOf(factoryRoles) }];
  if (operatorId !== undefined)
    wanted.push({ principalId: operatorId, roles: idsOf(appRoles.map(({ value }) => value)) });
  await assign(graph, resource.id, wanted, onChange);
  return { apiClientId: api.appId, factoryClientId: factory.appId };
}

/** https://learn.microsoft.com/graph/api/application-upsert: two who run this at once make one application. */
async function ensureApplication(
  graph: Graph,
  uniqueName: string,
  displayName: string,
  onChange: RegistrationOptions['onChange'],
): Promise<Application> {
  const found = await readApplication(graph, uniqueName, false).catch(unless(404));
  if (found !== undefined) return found;
  await graph('PATCH', `/applications(uniqueName='${uniqueName}')`, {
    body: { displayName, signInAudience: 'AzureADMyOrg' },
    headers: { prefer: 'create-if-missing' },
  });
  onChange(`registered the application ${displayName}`);
  return readApplication(graph, uniqueName);
}

function readApplication(graph: Graph, uniqueName: string, justMade = true): Promise<Application> {
  const select = '$select=id,appId,identifierUris,appRoles,api';
  return graph('GET', `/applications(uniqueName='${uniqueName}')?${select}`, { justMade });
}

async function completeApi(graph: Graph, app: Application, onChange: RegistrationOptions['onChange']): Promise<void> {
  const patch = async (what: string, body: object) => {
    await graph('PATCH', `/applications/${app.id}`, { body, justMade: true });
    onChange(what);
  };
  const { api } = app;
  // The whole list is replaced, and one that is missing in it is refused: what is there goes along.
  const missing = appRoles.filter(({ value }) => !app.appRoles.some((role) => role.value === value));
  const disabled = app.appRoles.filter(
    ({ value, isEnabled }) => !isEnabled && appRoles.some((ours) => ours.value === value),
  );
  if (missing.length > 0 || disabled.length > 0) {
    const kept = app.appRoles.map((role) => (disabled.includes(role) ? { ...role, isEnabled: true } : role));
    await patch('added the roles of the API', { appRoles: [...kept, ...missing] });
  }
  const uri = `api://${app.appId}`;
  if (!app.identifierUris.includes(uri)) await patch('set its URI', { identifierUris: [...app.identifierUris, uri] });
  const scopes = api.oauth2PermissionScopes;
  const scope = scopes.find(({ value }) => value === signInScope.value) ?? signInScope;
  if (api.requestedAccessTokenVersion !== 2 || !scopes.includes(scope)) {
    const completed = scopes.includes(scope) ? scopes : [...scopes, scope];
    const body = { api: { requestedAccessTokenVersion: 2, oauth2PermissionScopes: completed } };
    await patch('set its tokens to version 2.0 and added the scope by which people sign in', body);
  }
  // In a request of its own: it names a scope that has to be there before.
  const known = api.preAuthorizedApplications;
  if (!known.some(({ appId, delegatedPermissionIds: ids }) => appId === azureCli && ids.includes(scope.id))) {
    const others = known.filter(({ appId }) => appId !== azureCli);
    const before = known.find(({ appId }) => appId === azureCli)?.delegatedPermissionIds ?? [];
    const cli = { appId: azureCli, delegatedPermissionIds: [...before, scope.id] };
    await patch('let Azure CLI ask for its tokens', { api: { preAuthorizedApplications: [...others, cli] } });
  }
}

async function ensurePrincipal(
  graph: Graph,
  appId: string,
  appRoleAssignmentRequired: boolean,
  onChange: RegistrationOptions['onChange'],
): Promise<ServicePrincipal> {
  const path = `/servicePrincipals(appId='${appId}')?$select=id,appRoleAssignmentRequired`;
  const found = await graph<ServicePrincipal>('GET', path).catch(unless(404));
  if (found === undefined) {
    const body = { appId, appRoleAssignmentRequired };
    const post = graph<ServicePrincipal>('POST', '/servicePrincipals', { body, justMade: true });
    const made = await post.catch(unless(409));
    // 409: it was there, or somebody else was faster.
    if (made === undefined) return graph('GET', path, { justMade: true });
    onChange(`made the service principal of ${appId}`);
    return made;
  }
  if (appRoleAssignmentRequired && !found.appRoleAssignmentRequired) {
    await graph('PATCH', `/servicePrincipals/${found.id}`, { body: { appRoleAssignmentRequired } });
    onChange('set it to give tokens to those alone who have a role');
  }
  return found;
}

async function assign(
  graph: Graph,
  resourceId: string,
  wanted: readonly { principalId: string; roles: readonly string[] }[],
  onChange: RegistrationOptions['onChange'],
): Promise<void> {
  const present = await assignments(graph, resourceId);
  for (const { principalId, roles } of wanted) {
    for (const appRoleId of roles) {
      if (present.some((each) => each.principalId === principalId && each.appRoleId === appRoleId)) continue;
      const body = { principalId, resourceId, appRoleId };
      await graph('POST', `/servicePrincipals/${resourceId}/appRoleAssignedTo`, { body, justMade: true }).then(
        () => onChange(`gave ${principalId} the role ${appRoleId}`),
        unlessAssigned,
      );
    }
  }
}

async function assignments(graph: Graph, resourceId: string): Promise<Assignment[]> {
  const found: Assignment[] = [];
  let path: string | undefined = `/servicePrincipals/${resourceId}/appRoleAssignedTo?$top=999`;
  while (path !== undefined) {
    const page: { value: Assignment[]; '@odata.nextLink'?: string } = await graph('GET', path, { justMade: true });
    found.push(...page.value);
    path = page['@odata.nextLink'];
  }
  return found;
}

function unless(status: number): (error: unknown) => undefined {
  return (error) => {
    if (!(error instanceof GraphError) || error.status !== status) throw error;
  };
}

/** Microsoft Graph has no code of its own for it. */
function unlessAssigned(error: unknown): void {
  if (!(error instanceof GraphError) || !/already exists/.test(error.message)) throw error;
}
