import { describe, expect, it } from 'vitest';
import { allRoutes } from '../../functions/routes.ts';
import { createServices } from '../../functions/services.ts';
import { infraLoader } from './infra.ts';
import { codePromises } from './promises-code.ts';
import { securityPromises } from './promises-security.ts';
import { structurePromises } from './promises-structure.ts';

const load = await infraLoader();

// Opens nothing: the routes alone are asked for.
const routes = allRoutes(
  createServices({
    GATEPOST_HUB_HOSTNAME: 'plant.azure-devices.net',
    GATEPOST_VAULT_URL: 'https://plant.vault.azure.net',
    GATEPOST_ENTRA_ISSUER: 'https://login.microsoftonline.com/tenant/v2.0',
    GATEPOST_ENTRA_AUDIENCE: 'api://gatepost',
    AzureWebJobsStorage__tableServiceUri: 'https://plant.table.core.windows.net',
  }),
);
const rules = [...structurePromises, ...securityPromises, ...codePromises(routes)];

describe('the templates', () => {
  const infra = load();
  it.each(rules)('%s', (_promise, rule) => {
    expect(rule(infra)).toEqual([]);
  });
});

const changes = rules.flatMap(([promise, rule, broken]) =>
  Object.entries(broken).map(([what, change]) => ({ promise, rule, what, change })),
);

describe('it is noticed that the templates no longer', () => {
  it.each(changes)('$promise: $what', ({ rule, change }) => {
    expect(rule(load(change))).not.toEqual([]);
  });
});
