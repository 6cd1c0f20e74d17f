import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../lib/config.ts';

const azure = {
  GATEPOST_HUB_HOSTNAME: 'Plant.azure-devices.net',
  GATEPOST_VAULT_URL: 'https://plant.vault.azure.net/',
  GATEPOST_ENTRA_ISSUER: 'https://login.microsoftonline.com/00000000-0000-4000-8000-000000000000/v2.0',
  GATEPOST_ENTRA_AUDIENCE: 'api://gatepost, 11111111-2222-4333-8444-555566667777',
  AzureWebJobsStorage__tableServiceUri: 'https://plant.table.core.windows.net/',
};

describe('the settings', () => {
  it('read as an app in Azure has them, the others at their defaults', () => {
    expect(loadConfig(azure)).toEqual({
      hubHostname: 'plant.azure-devices.net',
      vaultUrl: 'https://plant.vault.azure.net',
      entra: {
        issuer: 'https://login.microsoftonline.com/00000000-0000-4000-8000-000000000000/v2.0',
        audiences: ['api://gatepost', '11111111-2222-4333-8444-555566667777'],
      },
      refreshHintSeconds: 3600,
      trustCheckSeconds: 30,
      gatewayCacheSeconds: 60,
      upstreamTimeoutMs: 10_000,
      auditRetentionDays: 365,
      limits: { device: 120, caller: 1200, address: 600 },
      otlpEndpoint: undefined,
      storage: { tableServiceUri: 'https://plant.table.core.windows.net/' },
      identityClientId: undefined,
      trustManagerClientId: undefined,
      local: undefined,
    });
  });

  it('are named, all of them, where they are missing, empty or wrong', () => {
    const environment = {
      ...azure,
      GATEPOST_HUB_HOSTNAME: '',
      GATEPOST_VAULT_URL: 'http://plain',
      GATEPOST_TRUST_CHECK_SECONDS: 'soon',
    };
    expect(() => loadConfig(environment)).toThrow(
      /GATEPOST_HUB_HOSTNAME is not set.*GATEPOST_VAULT_URL is wrong.*GATEPOST_TRUST_CHECK_SECONDS is wrong/,
    );
    const { AzureWebJobsStorage__tableServiceUri: _, ...without } = azure;
    expect(() => loadConfig(without)).toThrow(/AzureWebJobsStorage__tableServiceUri is not set/);
  });

  it('leave the vault to the app’s own identity, unless another manages it', () => {
    const own = { ...azure, AZURE_CLIENT_ID: 'own' };
    expect(loadConfig(own)).toMatchObject({ identityClientId: 'own', trustManagerClientId: 'own' });
    expect(loadConfig({ ...own, GATEPOST_TRUST_MANAGER_CLIENT_ID: 'manager' })).toMatchObject({
      identityClientId: 'own',
      trustManagerClientId: 'manager',
    });
  });

  it('keep the connection string of storage from being shown', () => {
    const { AzureWebJobsStorage__tableServiceUri: _, ...without } = azure;
    const config = loadConfig({ ...without, AzureWebJobsStorage: 'AccountName=a;AccountKey=c2VjcmV0' });
    expect(JSON.stringify(config)).not.toContain('c2VjcmV0');
  });

  it('of a local cloud are refused in Azure', () => {
    const environment = { ...azure, GATEPOST_LOCAL_ENDPOINTS: '{"*.vault.azure.net":"127.0.0.1:8443"}' };
    expect(loadConfig(environment).local).toEqual({
      endpoints: { '*.vault.azure.net': '127.0.0.1:8443' },
      ca: undefined,
    });
    expect(() => loadConfig({ ...environment, WEBSITE_INSTANCE_ID: 'a1' })).toThrow(
      /GATEPOST_LOCAL_ENDPOINTS.*refused in Azure/,
    );
    expect(() => loadConfig({ ...azure, GATEPOST_LOCAL_CA_FILE: '/tmp/ca.pem', WEBSITE_POD_NAME: 'a1' })).toThrow(
      /GATEPOST_LOCAL_CA_FILE.*refused in Azure/,
    );
  });

  it('of a local cloud are checked', () => {
    expect(() => loadConfig({ ...azure, GATEPOST_LOCAL_ENDPOINTS: '{"a":"b"}' })).toThrow(
      /GATEPOST_LOCAL_ENDPOINTS is wrong/,
    );
    expect(() => loadConfig({ ...azure, GATEPOST_LOCAL_CA_FILE: '/nowhere/ca.pem' })).toThrow(
      /GATEPOST_LOCAL_CA_FILE is wrong/,
    );
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-config-'));
    try {
      writeFileSync(join(directory, 'ca.pem'), 'the CA');
      expect(loadConfig({ ...azure, GATEPOST_LOCAL_CA_FILE: join(directory, 'ca.pem') }).local?.ca).toBe('the CA');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
