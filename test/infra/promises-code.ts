import type { Route } from '../../lib/http/route.ts';
import { module, type Promised } from './promised.ts';
import * as code from './rules-code.ts';

/** What the templates promise to the code, whose routes these are. */
export const codePromises = (routes: readonly Route[]): readonly Promised[] => [
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
    code.gateFits(routes),
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
