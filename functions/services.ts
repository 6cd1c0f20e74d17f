import { randomBytes } from 'node:crypto';
import type { Agent } from 'node:https';
import type { AuditLog } from '../lib/audit/log.ts';
import { managedIdentity, type TokenCredential } from '../lib/azure/credential.ts';
import { azureAgent } from '../lib/azure/transport.ts';
import { type Config, loadConfig } from '../lib/config.ts';
import type { JoinTokens } from '../lib/enrollment/join-tokens.ts';
import type { DeviceKeys } from '../lib/http/device-key-cache.ts';
import type { Fleet } from '../lib/identity/fleet.ts';
import type { Limiter } from '../lib/limits/limiter.ts';
import { Redacted } from '../lib/redacted.ts';
import type { Table, Tables } from '../lib/table.ts';
import { createLog, describeError, type Log } from '../lib/telemetry.ts';
import type { TrustService } from '../lib/trust/service.ts';

/** Whether the services behind this one answer. */
export interface Probes {
  hub(): Promise<void>;
  vault(): Promise<void>;
  storage(): Promise<void>;
}

/** Longer than a healthy service ever takes, shorter than a prober waits. */
const probeTimeoutMs = 3_000;
/** What stands before and behind a call must not take as long as the call itself. */
const guardTimeoutMs = 3_000;

/** What the routes work with. Everything that loads an SDK or opens a connection is made on first use, once. */
export interface Services {
  config: Config;
  clock: () => Date;
  agent: Agent;
  /** The app's own identity. */
  credential: TokenCredential;
  /** The identity that changes what the vault holds; the app's own may only read it. */
  trustManagerCredential: TokenCredential;
  /** For what happens outside of any request. */
  log: Log;
  /** Each rejects where its service does not answer. */
  probes(): Promise<Probes>;
  /** A table of the app's storage account. */
  table(name: string): Promise<Table>;
  trust(): Promise<TrustService>;
  /** Reads a device's keys from the hub, uncached: the verifier of SAS tokens caches them. */
  deviceKeys: DeviceKeys;
  /** Gateways, devices and modules, and what this instance remembers of them. */
  fleet(): Promise<Fleet>;
  joinTokens(): Promise<JoinTokens>;
  newDeviceKey(): Redacted;
  audit(): Promise<AuditLog>;
  limits(): Promise<Limiter>;
  /** What the limiter keeps, for the daily purge. */
  limitTable(): Promise<Table>;
}

/** Builds the services from app settings. Throws where a setting is missing or wrong; opens nothing. */
export function createServices(environment: Record<string, string | undefined>): Services {
  const config = loadConfig(environment);
  const clock = () => new Date();
  const agent = azureAgent(config);
  const credential = managedIdentity(config);
  const trustManagerCredential = managedIdentity({ identityClientId: config.trustManagerClientId });
  // The worker takes what is written to the console into the host's log.
  const log = createLog((level, line) => console[level](line));

  const tablesWithin = (upstreamTimeoutMs: number) => async (): Promise<Tables> => {
    const { tableClient } = await import('../lib/azure/tables.ts');
    return tableClient({ config: { ...config, upstreamTimeoutMs }, agent, credential });
  };
  const tables = lazily(tablesWithin(config.upstreamTimeoutMs));
  const guardTables = lazily(tablesWithin(Math.min(config.upstreamTimeoutMs, guardTimeoutMs)));
  const table = async (name: string) => (await tables())(name);
  const probes = lazily(async (): Promise<Probes> => {
    const [{ probeVault }, { probeTables }, { probeHost }] = await Promise.all([
      import('../lib/azure/vault.ts'),
      import('../lib/azure/tables.ts'),
      import('../lib/azure/probe.ts'),
    ]);
    const upstreamTimeoutMs = Math.min(config.upstreamTimeoutMs, probeTimeoutMs);
    const options = { config: { ...config, upstreamTimeoutMs }, agent, credential };
    return {
      hub: () => probeHost(config.hubHostname, agent, upstreamTimeoutMs),
      vault: () => probeVault(options),
      storage: () => probeTables(options),
    };
  });
  const trust = lazily(async () => {
    const [{ trustService }, { tableLedger }, { vaultRootStore }] = await Promise.all([
      import('../lib/trust/service.ts'),
      import('../lib/trust/ledger.ts'),
      import('../lib/azure/vault.ts'),
    ]);
    return trustService({
      ledger: tableLedger({ table: await table('gatepost') }),
      store: vaultRootStore({ config, agent, credential, managerCredential: trustManagerCredential }),
      refreshHintSeconds: config.refreshHintSeconds,
      checkSeconds: config.trustCheckSeconds,
      clock,
      onFailure: (error) => log.warn('trust_bundle_not_refreshed', describeError(error)),
    });
  });
  const fleet = lazily(async () => {
    const [{ openRegistry }, { createFleet }] = await Promise.all([
      import('../lib/azure/hub.ts'),
      import('../lib/identity/fleet.ts'),
    ]);
    const { hubHostname: hostname, upstreamTimeoutMs: timeoutMs, gatewayCacheSeconds } = config;
    return createFleet(await openRegistry({ hostname, agent, credential, timeoutMs }), { gatewayCacheSeconds, clock });
  });
  const deviceKeys: DeviceKeys = async (deviceId, moduleId) => {
    const { readDeviceKeys } = await import('../lib/credentials/device-keys.ts');
    return readDeviceKeys((await fleet()).registry, deviceId, moduleId);
  };
  const joinTokens = lazily(async () => {
    const { joinTokens: over } = await import('../lib/enrollment/join-tokens.ts');
    return over({ table: await table('gatepostjointokens'), clock, randomBytes });
  });
  const audit = lazily(async () => {
    const [{ auditLog }, open] = await Promise.all([import('../lib/audit/log.ts'), guardTables()]);
    return auditLog(open);
  });
  const limitTable = lazily(async () => (await guardTables())('gatepostlimits'));
  const limits = lazily(async () => {
    const { limiter } = await import('../lib/limits/limiter.ts');
    return limiter({ limits: config.limits, table: limitTable, clock, log });
  });
  // As the hub makes them: 32 bytes.
  const newDeviceKey = () => new Redacted(randomBytes(32).toString('base64'));
  return {
    config,
    clock,
    agent,
    credential,
    trustManagerCredential,
    log,
    probes,
    table,
    trust,
    deviceKeys,
    fleet,
    joinTokens,
    newDeviceKey,
    audit,
    limits,
    limitTable,
  };
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
