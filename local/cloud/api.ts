import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FunctionsHost, startFunctionsHost } from '../functions-host/host.ts';
import type { Parts } from './parts.ts';

/** The function app is this repository, unless it is started from a package. */
const ownDirectory = resolve(fileURLToPath(new URL('../..', import.meta.url)));

export interface ApiOptions {
  port: number;
  env: Record<string, string>;
  logFile: string | undefined;
  /** The folder of an unpacked package. Default: this repository. */
  directory?: string | undefined;
}

/** @throws where the function app has not been built. */
export function assertBuilt(directory = ownDirectory): void {
  if (existsSync(join(directory, 'dist', 'main.cjs'))) return;
  throw new Error('The API is not built: dist/main.cjs is missing. Run `npm run build` first.');
}

/**
 * Starts the API in the embedded Functions host, set up for the cloud that `parts` are.
 *
 * @throws where the app does not load, or a function of it is refused.
 */
export async function startApi(parts: Parts, options: ApiOptions): Promise<FunctionsHost> {
  const host = await startFunctionsHost({
    directory: options.directory ?? ownDirectory,
    port: options.port,
    env: { ...settings(parts), ...options.env },
    storageConnectionString: parts.storage.connectionString,
    ...(options.logFile === undefined ? {} : { logFile: options.logFile }),
  });
  const faults = [...host.errors, ...host.faults.map((fault) => JSON.stringify(fault))];
  if (faults.length === 0) return host;
  await host.close();
  throw new Error(`The API does not start: ${faults.join('; ')}`);
}

/** The app settings that lead the API to the doubles in place of Azure. */
function settings({ hub, vault, entra, storage, ca }: Parts): Record<string, string> {
  return {
    GATEPOST_HUB_HOSTNAME: hub.hostname,
    GATEPOST_VAULT_URL: vault.url,
    GATEPOST_ENTRA_ISSUER: entra.issuer,
    GATEPOST_ENTRA_AUDIENCE: entra.audience,
    GATEPOST_LOCAL_ENDPOINTS: JSON.stringify({
      '*.azure-devices.net': `127.0.0.1:${hub.port}`,
      '*.vault.azure.net': `127.0.0.1:${vault.port}`,
    }),
    GATEPOST_LOCAL_CA_FILE: ca.file,
    AzureWebJobsStorage: storage.connectionString,
    AZURE_CLIENT_ID: entra.managedIdentity.clientId,
    GATEPOST_TRUST_MANAGER_CLIENT_ID: entra.trustManager.clientId,
    // What App Service gives to an app that has a managed identity.
    IDENTITY_ENDPOINT: entra.managedIdentity.endpoint,
    IDENTITY_HEADER: entra.managedIdentity.header,
  };
}
