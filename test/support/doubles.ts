import { mkdtempSync, rmSync } from 'node:fs';
import type { Agent } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TokenCredential } from '@azure/identity';
import { managedIdentity } from '../../lib/azure/credential.ts';
import { azureAgent } from '../../lib/azure/transport.ts';
import { type Config, loadConfig } from '../../lib/config.ts';
import { type Entra, startEntra } from '../../local/entra/entra.ts';
import { developmentCa, issue } from '../../local/kit/certificates.ts';
import { FaultSwitch } from '../../local/kit/faults.ts';
import { type Storage, startStorage } from '../../local/storage/azurite.ts';
import { startVault, type Vault, type VaultRole } from '../../local/vault/vault.ts';

/** The services behind the trust part, and what the adapters need to reach them. */
export interface Doubles {
  faults: FaultSwitch;
  entra: Entra;
  vault: Vault;
  storage: Storage;
  environment: Record<string, string>;
  config: Config;
  agent: Agent;
  credential: TokenCredential;
  close(): Promise<void>;
}

export interface DoublesOptions {
  /** App settings on top of those that lead to the doubles. */
  environment?: Record<string, string>;
  vaultRoles?: VaultRole[];
}

/** Starts Entra ID, Key Vault and storage, each behind one fault switch, and sets this process up as an app in Azure is. */
export async function startDoubles(options: DoublesOptions = {}): Promise<Doubles> {
  const directory = mkdtempSync(join(tmpdir(), 'gatepost-test-'));
  const faults = new FaultSwitch();
  const ca = await developmentCa(directory);
  const names = ['localhost', '127.0.0.1', 'gatepost.vault.azure.net', 'gatepost.azure-devices.net'];
  const certificate = await issue(ca, { commonName: 'localhost', names });
  const tls = { cert: certificate.chain, key: certificate.privateKey };
  const entra = await startEntra({ faults, tls });
  const roles = options.vaultRoles ?? ['Key Vault Secrets Officer', 'Key Vault Certificates Officer'];
  const { objectId } = entra.managedIdentity;
  const vault = await startVault({
    faults,
    tls,
    tenantId: entra.tenantId,
    tokens: entra.verify,
    roleAssignments: roles.map((role) => ({ objectId, role })),
  });
  const storage = await startStorage({ faults });
  const environment = {
    GATEPOST_HUB_HOSTNAME: 'gatepost.azure-devices.net',
    GATEPOST_VAULT_URL: vault.url,
    GATEPOST_ENTRA_ISSUER: entra.issuer,
    GATEPOST_ENTRA_AUDIENCE: entra.audience,
    GATEPOST_UPSTREAM_TIMEOUT_MS: '3000',
    GATEPOST_LOCAL_ENDPOINTS: JSON.stringify({ '*.vault.azure.net': `127.0.0.1:${vault.port}` }),
    GATEPOST_LOCAL_CA_FILE: ca.file ?? '',
    AzureWebJobsStorage: storage.connectionString,
    AZURE_CLIENT_ID: entra.managedIdentity.clientId,
    ...options.environment,
  };
  // The SDK reads these from the process, as App Service sets them.
  process.env.IDENTITY_ENDPOINT = entra.managedIdentity.endpoint;
  process.env.IDENTITY_HEADER = entra.managedIdentity.header;
  const config = loadConfig(environment);
  const agent = azureAgent(config);
  return {
    faults,
    entra,
    vault,
    storage,
    environment,
    config,
    agent,
    credential: managedIdentity(config),
    async close() {
      agent.destroy();
      await Promise.all([entra.close(), vault.close(), storage.close()]);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
