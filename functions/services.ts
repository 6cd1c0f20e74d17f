import type { Agent } from 'node:https';
import type { TokenCredential } from '@azure/identity';
import { managedIdentity } from '../lib/azure/credential.ts';
import { azureAgent } from '../lib/azure/transport.ts';
import { type Config, loadConfig } from '../lib/config.ts';
import { GatepostError } from '../lib/errors.ts';
import type { DeviceKeys } from '../lib/http/device-token.ts';

/** What the routes work with. Everything that loads an SDK or opens a connection is made on first use, once. */
export interface Services {
  config: Config;
  clock: () => Date;
  agent: Agent;
  credential: TokenCredential;
  /** Reads a device's keys from the hub, uncached: the verifier of SAS tokens caches them. */
  deviceKeys: DeviceKeys;
}

/** Builds the services from app settings. Throws where a setting is missing or wrong; opens nothing. */
export function createServices(environment: Record<string, string | undefined>): Services {
  const config = loadConfig(environment);
  const agent = azureAgent(config);
  const credential = managedIdentity(config);
  // The identity part puts the registry in here.
  const deviceKeys: DeviceKeys = async () => {
    throw new GatepostError('upstream_unavailable', 'The registry is not wired yet.');
  };
  return { config, clock: () => new Date(), agent, credential, deviceKeys };
}

/** A value made when it is first asked for and kept; one that could not be made is tried again by the next caller. */
export function lazily<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make().catch((error: unknown) => {
      made = undefined;
      throw error;
    });
    return made;
  };
}
