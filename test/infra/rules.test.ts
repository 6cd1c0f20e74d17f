import { describe, expect, it } from 'vitest';
import { allRoutes } from '../../functions/routes.ts';
import { createServices } from '../../functions/services.ts';
import { infraLoader, type Mutation, type Rule } from './infra.ts';
import * as code from './rules-code.ts';
import * as security from './rules-security.ts';
import * as structure from './rules-structure.ts';

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
const gateFits = code.gateFits(routes);

const main = 'infra/main.bicep';
const module = (name: string) => `infra/modules/${name}.bicep`;

/** A rule, what it promises of the templates, and changes of them that each break the promise. */
const rules: [promise: string, rule: Rule, broken: Record<string, Mutation>][] = [
  [
    'are Bicep, every one of them',
    structure.parses,
    {
      'a bracket is missing': { path: module('vault'), find: 'networkAcls: {', put: 'networkAcls: ' },
      'a text does not end': { path: main, find: "'rg-gatepost-", put: 'rg-gatepost-' },
    },
  ],
  [
    'know no shared key',
    security.noSharedKeys,
    {
      'a key of storage is read': {
        path: module('function-app'),
        find: 'storage.properties.primaryEndpoints.table',
        put: 'storage.listKeys().keys[0].value',
      },
      'storage takes keys': {
        path: module('storage'),
        find: 'allowSharedKeyAccess: false',
        put: 'allowSharedKeyAccess: true',
      },
      'blobs may be public': { path: module('storage'), find: 'allowBlobPublicAccess: false\n', put: '\n' },
      'the hub has policies with keys': {
        path: module('hub'),
        find: 'disableLocalAuth: true',
        put: 'disableLocalAuth: false',
      },
      'telemetry is taken from anybody': {
        path: module('monitoring'),
        find: 'DisableLocalAuth: true',
        put: 'DisableLocalAuth: false',
      },
      'a publishing password works': { path: module('function-app'), find: "name: 'scm'", put: "name: 'web'" },
      'the package is fetched with a key': {
        path: module('function-app'),
        find: "type: 'UserAssignedIdentity'",
        put: "type: 'StorageAccountConnectionString'",
      },
    },
  ],
  [
    'protect the vault',
    security.vaultProtected,
    {
      'access policies in place of roles': {
        path: module('vault'),
        find: 'enableRbacAuthorization: true',
        put: 'enableRbacAuthorization: false',
      },
      'what is deleted can be purged': { path: module('vault'), find: 'enablePurgeProtection: true\n', put: '\n' },
      'an access policy beside the roles': {
        path: module('vault'),
        find: 'enableSoftDelete: true',
        put: 'enableSoftDelete: true\n    accessPolicies: []',
      },
    },
  ],
  [
    'let devices and gateways sign with their own keys, and say so',
    security.devicesMaySign,
    {
      'devices may not': { path: module('hub'), find: 'disableDeviceSAS: false', put: 'disableDeviceSAS: true' },
      'it is left to a default': { path: module('hub'), find: 'disableModuleSAS: false\n', put: '\n' },
    },
  ],
  [
    'ask for TLS 1.2 everywhere',
    security.modernTls,
    {
      'storage takes less': { path: module('storage'), find: "'TLS1_2'", put: "'TLS1_0'" },
      'the app leaves it open': { path: module('function-app'), find: "      minTlsVersion: '1.2'\n", put: '\n' },
      'the app answers in the clear': {
        path: module('function-app'),
        find: 'httpsOnly: true',
        put: 'httpsOnly: false',
      },
      'the hub leaves it open': { path: module('hub'), find: "minTlsVersion: '1.2'", put: "minTlsVersion: '1.0'" },
    },
  ],
  [
    'close vault and storage to the Internet in the prod profile',
    security.privateInProd,
    {
      'the vault stays open': { path: module('vault'), find: "isPrivate ? 'Disabled' : 'Enabled'", put: "'Enabled'" },
      'storage is never told': { path: main, find: 'isPrivate: isProd', put: 'isPrivate: false' },
      'one zone is enough': { path: main, find: 'zoneRedundant: isProd', put: 'zoneRedundant: false' },
      'dev pays for a network too': {
        path: main,
        find: "'modules/network.bicep' = if (isProd)",
        put: "'modules/network.bicep' =",
      },
    },
  ],
  [
    'give no secret away in an output',
    security.noSecretInOutputs,
    {
      'the connection string of telemetry': {
        path: module('monitoring'),
        find: 'output componentName string = component.name',
        put: 'output componentName string = component.properties.ConnectionString',
      },
    },
  ],
  [
    'take role ids from the one table, and assign each as it says',
    security.rolesFromTable,
    {
      'an id of its own': {
        path: module('vault-access'),
        find: 'roles.keyVaultCertificateUser.id)\n    principalId',
        put: "'00482a5a-887f-4fb3-b363-3b7fe8e74483')\n    principalId",
      },
      'the reader may write': {
        path: module('vault-access'),
        find: 'principalId: trustManagerPrincipalId',
        put: 'principalId: apiPrincipalId',
      },
      'a whole group in place of a vault': { path: module('vault-access'), find: '  scope: vault\n', put: '\n' },
      'a role is forgotten': { path: module('hub-access'), find: '  roles.iotHubTwinContributor\n', put: '' },
      'the identities are mixed up': {
        path: main,
        find: 'apiPrincipalId: identities.outputs.apiPrincipalId\n    trust',
        put: 'apiPrincipalId: identities.outputs.trustManagerPrincipalId\n    trust',
      },
    },
  ],
  [
    'name no address of one cloud',
    security.noFixedAddresses,
    {
      'the public one’s storage': {
        path: module('private-endpoints'),
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is Bicep's.
        find: '${environment().suffixes.storage}',
        put: 'core.windows.net',
      },
    },
  ],
  [
    'fit together: modules are here, get what they declare and all they need',
    structure.modulesFit,
    {
      'a parameter that there is not': {
        path: main,
        find: 'failedJoinsThreshold: failedJoinsThreshold',
        put: 'threshold: failedJoinsThreshold',
      },
      'one that is not passed': { path: main, find: '    softDeleteDays: vaultSoftDeleteDays\n', put: '' },
      'a module that is not here': {
        path: main,
        find: "'modules/vault.bicep'",
        put: "'br/public:avm/res/key-vault/vault:0.14.0'",
      },
      'an output that there is not': { path: main, find: 'hub.outputs.hostname', put: 'hub.outputs.hostName' },
    },
  ],
  [
    'read a module that is not always there only when it is',
    structure.conditionsHold,
    {
      'without the condition': {
        path: main,
        find: "isProd ? network!.outputs.appSubnetId : ''",
        put: 'network!.outputs.appSubnetId',
      },
      'with a warning of the compiler': {
        path: main,
        find: 'isProd ? network!.outputs.appSubnetId',
        put: 'isProd ? network.outputs.appSubnetId',
      },
    },
  ],
  [
    'declare nothing that is not used',
    structure.nothingUnused,
    {
      'a parameter': { path: module('hub'), find: 'capacity: units', put: 'capacity: 1' },
      'a variable': { path: module('alerts'), find: 'query: throttledQuery', put: 'query: measuredQuery' },
    },
  ],
  [
    'declare nothing, and set nothing, twice',
    structure.nothingTwice,
    {
      'a parameter': { path: main, find: 'var isProd', put: "param profile string = 'dev'\nvar isProd" },
      'a setting': {
        path: module('function-app'),
        find: '  GATEPOST_VAULT_URL: vaultUrl\n',
        put: '  GATEPOST_VAULT_URL: vaultUrl\n  GATEPOST_VAULT_URL: hubHostname\n',
      },
    },
  ],
  [
    'describe and bound every parameter, and describe every output',
    structure.everythingDescribed,
    {
      'no description': { path: module('hub'), find: "@description('Units.')\n", put: '' },
      'no bound of a number': { path: main, find: '@maxValue(200)\n', put: '' },
      'no bound of a text': {
        path: main,
        find: '@minLength(36)\n@maxLength(36)\nparam apiClientId',
        put: 'param apiClientId',
      },
      'an output that nobody explains': {
        path: module('storage'),
        find: "@description('Name of the account.')\noutput",
        put: 'output',
      },
    },
  ],
  [
    'name one API version for each type, and a preview only where they must',
    structure.apiVersions,
    {
      'two versions': { path: module('hub-access'), find: 'IotHubs@2023-06-30', put: 'IotHubs@2021-07-02' },
      'a preview': { path: module('network'), find: 'natGateways@2024-05-01', put: 'natGateways@2024-05-01-preview' },
    },
  ],
  [
    'send the logs of everything to the workspace',
    structure.diagnosticsEverywhere,
    {
      'the vault’s go nowhere': { path: module('vault'), find: 'scope: vault', put: 'scope: resourceGroup()' },
      'to a workspace that there is not': {
        path: module('hub'),
        find: 'workspaceId: workspaceId',
        put: "workspaceId: ''",
      },
      'a type that nobody has thought of': {
        path: module('network'),
        find: 'Microsoft.Network/natGateways@',
        put: 'Microsoft.Network/azureFirewalls@',
      },
    },
  ],
  [
    'get from azd what they declare, and all they need',
    structure.parametersFit,
    {
      'a parameter that there is not': { path: main, find: 'param alertEmail string', put: 'param alertMail string' },
      'one that is needed': { path: 'infra/main.parameters.json', find: '"location": {', put: '"hubUnits": {' },
    },
  ],
  [
    'set each setting that the app reads, and none that nobody reads',
    code.settingsFit,
    {
      'one is forgotten': { path: module('function-app'), find: '  GATEPOST_VAULT_URL: vaultUrl\n', put: '' },
      'one is left over': {
        path: module('function-app'),
        find: '  GATEPOST_VAULT_URL: vaultUrl\n',
        put: '  GATEPOST_VAULT_URL: vaultUrl\n  GATEPOST_VAULT: vaultUrl\n',
      },
      'the code reads a new one': {
        path: 'lib/config.ts',
        find: '  AZURE_CLIENT_ID: z',
        put: '  GATEPOST_NEW: z.string().optional(),\n  AZURE_CLIENT_ID: z',
      },
      'the app gets none': { path: module('function-app'), find: 'properties: settings', put: 'properties: {}' },
    },
  ],
  [
    'justify each role by calls that the code makes',
    code.rolesJustified,
    {
      'the code no longer calls': { path: 'lib/azure/vault.ts', find: 'client.setSecret(', put: 'client.writeSecret(' },
      'the code calls something else': {
        path: 'lib/azure/vault.ts',
        find: 'client.getSecret(',
        put: 'client.backupSecret(',
      },
      'the hub is asked for something else': {
        path: 'lib/azure/hub.ts',
        find: '#sdk.getTwin(',
        put: '#sdk.applyConfiguration(',
      },
      'a role for everything': {
        path: 'infra/roles.json',
        find: '"Key Vault Secrets Officer"',
        put: '"Key Vault Administrator"',
      },
    },
  ],
  [
    'have the parts of storage that the code uses, and no other',
    code.storageUsed,
    {
      'tables are missing': {
        path: module('function-app'),
        find: 'AzureWebJobsStorage__tableServiceUri',
        put: 'Unused',
      },
      'queues for nobody': {
        path: module('storage'),
        find: 'storageAccounts/tableServices@',
        put: 'storageAccounts/queueServices@',
      },
    },
  ],
  [
    'run the Node that the tests run',
    code.nodeVersion,
    { 'another one': { path: module('function-app'), find: "version: '24'", put: "version: '20'" } },
  ],
  [
    'let past Easy Auth what needs no token of Entra ID, and nothing else that can be kept out',
    gateFits,
    {
      'devices cannot join': { path: module('function-app'), find: "  '/api/v1/join'\n", put: '' },
      'everything is open': { path: module('function-app'), find: "  '/api/v1/join'\n", put: "  '/api/v1/*'\n" },
      'a path too many': {
        path: module('function-app'),
        find: "  '/api/v1/join'\n",
        put: "  '/api/v1/join'\n  '/api/v1/roots'\n",
      },
      'the gate is not shut': {
        path: module('function-app'),
        find: 'requireAuthentication: true',
        put: 'requireAuthentication: false',
      },
      'the paths are not used': {
        path: module('function-app'),
        find: 'excludedPaths: pathsWithoutToken',
        put: 'excludedPaths: []',
      },
    },
  ],
];

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
