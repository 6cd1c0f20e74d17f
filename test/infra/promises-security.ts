import { main, module, type Promised } from './promised.ts';
import * as security from './rules-security.ts';

export const securityPromises: readonly Promised[] = [
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
];
