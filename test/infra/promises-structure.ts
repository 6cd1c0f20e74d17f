import { main, module, type Promised } from './promised.ts';
import * as structure from './rules-structure.ts';

export const structurePromises: readonly Promised[] = [
  [
    'are Bicep, every one of them',
    structure.parses,
    {
      'a bracket is missing': { path: module('vault'), find: 'networkAcls: {', put: 'networkAcls: ' },
      'a text does not end': { path: main, find: "'rg-gatepost-", put: 'rg-gatepost-' },
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
    'use a hub or a vault that is brought, where it is',
    structure.broughtIsUsed,
    {
      'a second vault is made': {
        path: main,
        find: "'modules/vault.bicep' = if (hasOwnVault)",
        put: "'modules/vault.bicep' =",
      },
      'its roles go to the wrong group': {
        path: main,
        find: 'scope: resourceGroup(hubSubscriptionId, hubResourceGroupName)',
        put: 'scope: group',
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
];
