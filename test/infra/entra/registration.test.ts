import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { allRoutes } from '../../../functions/routes.ts';
import { createServices } from '../../../functions/services.ts';
import { appRoles, azureCli, factoryRoles, signInScope } from '../../../infra/entra/app-roles.ts';
import { type Graph, GraphError, graphClient } from '../../../infra/entra/graph.ts';
import { ensureRegistration } from '../../../infra/entra/registration.ts';
import { type GraphDouble, startGraphDouble } from './graph-double.ts';

const operatorId = randomUUID();
let double: GraphDouble;
let waited: number[];
let graph: Graph;

beforeEach(async () => {
  double = await startGraphDouble([operatorId]);
  waited = [];
  const wait = async (ms: number) => {
    waited.push(ms);
  };
  graph = graphClient({ url: double.url, token: double.token, wait });
});
afterEach(() => double.close());

async function setUp(options: { operatorId?: string | undefined } = { operatorId }): Promise<string[]> {
  const changes: string[] = [];
  await ensureRegistration(graph, {
    environment: 'plant',
    operatorId: options.operatorId,
    onChange: (what) => changes.push(what),
  });
  return changes;
}

const application = (name: string) => double.applications.find(({ uniqueName }) => uniqueName === name);
const principal = (name: string) => double.servicePrincipals.find(({ appId }) => appId === application(name)?.appId);

/** The values of the roles that somebody has. */
function rolesOf(id: unknown): string[] {
  const roles = application('gatepost-plant')?.appRoles as { id: string; value: string }[];
  const ids = double.assignments.filter(({ principalId }) => principalId === id).map(({ appRoleId }) => appRoleId);
  return roles.filter((role) => ids.includes(role.id)).map(({ value }) => value);
}

describe('an app registration in a tenant that has none', () => {
  it('has the roles that the routes ask for, all of them and no other', async () => {
    await setUp();
    const environment = {
      GATEPOST_HUB_HOSTNAME: 'plant.azure-devices.net',
      GATEPOST_VAULT_URL: 'https://plant.vault.azure.net',
      GATEPOST_ENTRA_ISSUER: 'https://login.microsoftonline.com/tenant/v2.0',
      GATEPOST_ENTRA_AUDIENCE: 'api://gatepost',
      AzureWebJobsStorage__tableServiceUri: 'https://plant.table.core.windows.net',
    };
    const accesses = allRoutes(createServices(environment)).map(({ access }) => access);
    const asked = new Set(accesses.flatMap((access) => (access.plane === 'operator' ? access.roles : [])));
    const made = application('gatepost-plant')?.appRoles as { value: string }[];
    expect(made.map(({ value }) => value).sort()).toEqual([...asked].sort());
  });

  it('gives tokens of version 2.0 under its own URI, to those alone who have a role, and to Azure CLI for them', async () => {
    await setUp();
    const made = application('gatepost-plant');
    expect(made?.identifierUris).toEqual([`api://${String(made?.appId)}`]);
    expect(made?.api).toMatchObject({
      requestedAccessTokenVersion: 2,
      oauth2PermissionScopes: [{ value: 'access' }],
      preAuthorizedApplications: [{ appId: azureCli, delegatedPermissionIds: [signInScope.id] }],
    });
    expect(made?.signInAudience).toBe('AzureADMyOrg');
    expect(principal('gatepost-plant')?.appRoleAssignmentRequired).toBe(true);
  });

  it('lets the factory provision and issue credentials, and who set it up everything', async () => {
    await setUp();
    expect(rolesOf(principal('gatepost-factory-plant')?.id)).toEqual([...factoryRoles]);
    expect(rolesOf(operatorId)).toEqual(appRoles.map(({ value }) => value));
  });

  it('gives nobody but the factory a role where nobody is named', async () => {
    await setUp({ operatorId: undefined });
    expect(new Set(double.assignments.map(({ principalId }) => principalId)).size).toBe(1);
  });

  it('has no secret: none was made', async () => {
    await setUp();
    expect(double.writes.filter((write) => /addPassword|addKey/.test(write))).toEqual([]);
    expect(JSON.stringify(double.applications)).not.toMatch(/passwordCredentials|keyCredentials/);
  });
});

describe('an app registration that is there', () => {
  it('is not touched by a second run', async () => {
    expect((await setUp()).length).toBeGreaterThan(5);
    double.writes.length = 0;
    expect(await setUp()).toEqual([]);
    expect(double.writes).toEqual([]);
    expect(double.applications).toHaveLength(2);
  });

  it('is one, where two set it up at the same time', async () => {
    await Promise.all([setUp(), setUp()]);
    expect([double.applications.length, double.servicePrincipals.length]).toEqual([2, 2]);
    expect(rolesOf(operatorId)).toHaveLength(appRoles.length);
    expect(await setUp()).toEqual([]);
  });

  it('keeps the roles and scopes of others, and roles of ours under the ids that they have', async () => {
    await setUp();
    const made = application('gatepost-plant');
    const own = appRoles.map((role) => (role.value === 'Fleet.Read' ? { ...role, id: randomUUID() } : role));
    const theirs = { ...appRoles[0], id: randomUUID(), value: 'Reports.Read' };
    const left = own.filter(({ value }) => value !== 'Trust.Manage');
    const scope = { ...signInScope, id: randomUUID(), value: 'reports' };
    const api = made?.api as { oauth2PermissionScopes: object[]; preAuthorizedApplications: object[] };
    const portal = { appId: randomUUID(), delegatedPermissionIds: [scope.id] };
    Object.assign(made ?? {}, { appRoles: [...left, theirs], identifierUris: [`api://${String(made?.appId)}/old`] });
    Object.assign(api, { oauth2PermissionScopes: [scope], preAuthorizedApplications: [portal] });
    Object.assign(principal('gatepost-plant') ?? {}, { appRoles: made?.appRoles });
    double.assignments.length = 0;
    await setUp();
    const roles = made?.appRoles as { id: string; value: string }[];
    expect(roles.map(({ value }) => value).sort()).toEqual(
      [...appRoles.map(({ value }) => value), 'Reports.Read'].sort(),
    );
    expect(roles.find(({ value }) => value === 'Fleet.Read')?.id).toBe(own[2]?.id);
    expect(made?.api).toMatchObject({
      oauth2PermissionScopes: [{ value: 'reports' }, { value: 'access' }],
      preAuthorizedApplications: [portal, { appId: azureCli }],
    });
    expect(made?.identifierUris).toHaveLength(2);
    expect(rolesOf(operatorId)).toHaveLength(appRoles.length);
  });

  it('is opened again where a role was switched off, and closed where its service principal gave tokens to anybody', async () => {
    await setUp();
    const roles = application('gatepost-plant')?.appRoles as { isEnabled: boolean }[];
    Object.assign(roles[1] ?? {}, { isEnabled: false });
    Object.assign(principal('gatepost-plant') ?? {}, { appRoleAssignmentRequired: false });
    expect(await setUp()).toHaveLength(2);
    expect(application('gatepost-plant')?.appRoles).toMatchObject(appRoles.map(() => ({ isEnabled: true })));
    expect(principal('gatepost-plant')?.appRoleAssignmentRequired).toBe(true);
  });
});

describe('Microsoft Graph that', () => {
  it('does not know yet what it made a moment ago is asked again', async () => {
    double.lag = 3;
    await setUp();
    expect(waited.length).toBeGreaterThan(0);
    expect(await setUp()).toEqual([]);
  });

  it('throttles is given the time it asks for; one that fails for a moment is asked again', async () => {
    double.failures = [429, 503];
    await setUp();
    expect(waited[0]).toBe(7000);
    expect(double.applications).toHaveLength(2);
  });

  it('keeps failing, or refuses, is told of with its own words and without the token', async () => {
    double.failures = Array(20).fill(503);
    await expect(setUp()).rejects.toThrow(/answered 503/);
    double.failures = [];
    const denied = graphClient({ url: double.url, token: 'not-the-token' });
    const refused = ensureRegistration(denied, { environment: 'plant', operatorId, onChange: () => {} });
    await expect(refused).rejects.toThrow(/401 InvalidAuthenticationToken/);
    await refused.catch((error: GraphError) => expect(error.message).not.toContain('not-the-token'));
    const unknown = randomUUID();
    await expect(setUp({ operatorId: unknown })).rejects.toThrow(GraphError);
  });

  it('sends to another host for the next page gets no token there', async () => {
    await expect(graph('GET', 'https://elsewhere.example/v1.0/next')).rejects.toThrow(/another host/);
  });
});
