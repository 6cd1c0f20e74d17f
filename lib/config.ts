import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { Redacted } from './redacted.ts';

/** How the backend is set up. Every value comes from an app setting. */
export interface Config {
  hubHostname: string;
  vaultUrl: string;
  /** The audience setting may list several, separated by commas: the application id URI and the client id. */
  entra: { issuer: string; audiences: readonly string[] };
  /** Seconds after which a device should look at the trust bundle again. */
  refreshHintSeconds: number;
  /** Seconds between two looks of an instance at whether the bundle has changed. */
  trustCheckSeconds: number;
  gatewayCacheSeconds: number;
  /** Milliseconds that one call to an Azure service may take. */
  upstreamTimeoutMs: number;
  /** Days for which the audit log is kept at least; it goes by whole months. */
  auditRetentionDays: number;
  /** Calls in a minute over all instances, 0 for no limit: for one device, of one operator, from one address. */
  limits: { device: number; caller: number; address: number };
  /** Where spans and metrics go by OTLP over HTTP: the base URL of a collector. */
  otlpEndpoint: string | undefined;
  storage: { connectionString: Redacted } | { tableServiceUri: string };
  /** Client id of the user-assigned identity; undefined uses the system-assigned one. */
  identityClientId: string | undefined;
  /** Client id of the identity that changes what the vault holds; the app's own where there is no other. */
  trustManagerClientId: string | undefined;
  local: LocalConfig | undefined;
}

/** A cloud on this machine in place of Azure: where its endpoints are, and the CA that they answer with. */
export interface LocalConfig {
  /** From a host name or `*.suffix` to `address:port`. */
  endpoints: Readonly<Record<string, string>>;
  ca: string | undefined;
}

export class InvalidConfigError extends Error {
  override readonly name = 'InvalidConfigError';
}

const wholeNumber = (fallback: number, least: number, most: number) =>
  z.coerce.number().int().min(least).max(most).default(fallback);

const hostname = z.string().regex(/^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/i, 'a host name, without https:// and port');

const settings = z.object({
  GATEPOST_HUB_HOSTNAME: hostname.transform((value) => value.toLowerCase()),
  GATEPOST_VAULT_URL: z.url({ protocol: /^https$/ }).transform((value) => value.replace(/\/+$/, '')),
  GATEPOST_ENTRA_ISSUER: z.url({ protocol: /^https$/ }).transform((value) => value.replace(/\/+$/, '')),
  GATEPOST_ENTRA_AUDIENCE: z.string().transform((value) => value.split(',').map((each) => each.trim())),
  GATEPOST_REFRESH_HINT_SECONDS: wholeNumber(3600, 1, 30 * 86_400),
  GATEPOST_TRUST_CHECK_SECONDS: wholeNumber(30, 0, 86_400),
  GATEPOST_GATEWAY_CACHE_SECONDS: wholeNumber(60, 0, 86_400),
  GATEPOST_UPSTREAM_TIMEOUT_MS: wholeNumber(10_000, 100, 60_000),
  // Read by the daily timer purgeRecords: infra/ sets it.
  GATEPOST_AUDIT_RETENTION_DAYS: wholeNumber(365, 1, 3650),
  GATEPOST_LIMIT_DEVICE_PER_MINUTE: wholeNumber(120, 0, 1_000_000),
  GATEPOST_LIMIT_CALLER_PER_MINUTE: wholeNumber(1200, 0, 1_000_000),
  GATEPOST_LIMIT_JOIN_PER_MINUTE: wholeNumber(600, 0, 1_000_000),
  OTEL_EXPORTER_OTLP_ENDPOINT: z.url({ protocol: /^https?$/ }).optional(),
  AzureWebJobsStorage: z.string().min(1).optional(),
  AzureWebJobsStorage__tableServiceUri: z.url({ protocol: /^https$/ }).optional(),
  AZURE_CLIENT_ID: z.string().min(1).optional(),
  GATEPOST_TRUST_MANAGER_CLIENT_ID: z.string().min(1).optional(),
  GATEPOST_LOCAL_ENDPOINTS: z.string().min(1).optional(),
  GATEPOST_LOCAL_CA_FILE: z.string().min(1).optional(),
  WEBSITE_INSTANCE_ID: z.string().optional(),
  WEBSITE_POD_NAME: z.string().optional(),
});

const endpoints = z.record(z.string(), z.string().regex(/^[^\s:]+:\d{1,5}$/, 'address:port'));

/** Reads the settings. Throws {@link InvalidConfigError} that names each setting which is missing or wrong. */
export function loadConfig(environment: Record<string, string | undefined>): Config {
  // App settings that are left empty in a template arrive as empty strings.
  const given = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value !== ''),
  );
  const result = settings.safeParse(given);
  if (!result.success) {
    const faults = result.error.issues.map((issue) => {
      const name = String(issue.path[0]);
      return given[name] === undefined ? `${name} is not set` : `${name} is wrong: ${issue.message}`;
    });
    throw new InvalidConfigError(`App settings: ${faults.join('; ')}.`);
  }
  const set = result.data;
  return {
    hubHostname: set.GATEPOST_HUB_HOSTNAME,
    vaultUrl: set.GATEPOST_VAULT_URL,
    entra: { issuer: set.GATEPOST_ENTRA_ISSUER, audiences: set.GATEPOST_ENTRA_AUDIENCE },
    refreshHintSeconds: set.GATEPOST_REFRESH_HINT_SECONDS,
    trustCheckSeconds: set.GATEPOST_TRUST_CHECK_SECONDS,
    gatewayCacheSeconds: set.GATEPOST_GATEWAY_CACHE_SECONDS,
    upstreamTimeoutMs: set.GATEPOST_UPSTREAM_TIMEOUT_MS,
    auditRetentionDays: set.GATEPOST_AUDIT_RETENTION_DAYS,
    limits: {
      device: set.GATEPOST_LIMIT_DEVICE_PER_MINUTE,
      caller: set.GATEPOST_LIMIT_CALLER_PER_MINUTE,
      address: set.GATEPOST_LIMIT_JOIN_PER_MINUTE,
    },
    otlpEndpoint: set.OTEL_EXPORTER_OTLP_ENDPOINT,
    storage: storageOf(set),
    identityClientId: set.AZURE_CLIENT_ID,
    trustManagerClientId: set.GATEPOST_TRUST_MANAGER_CLIENT_ID ?? set.AZURE_CLIENT_ID,
    local: localOf(set),
  };
}

type Settings = z.output<typeof settings>;

function storageOf(set: Settings): Config['storage'] {
  if (set.AzureWebJobsStorage__tableServiceUri !== undefined) {
    return { tableServiceUri: set.AzureWebJobsStorage__tableServiceUri };
  }
  if (set.AzureWebJobsStorage !== undefined) return { connectionString: new Redacted(set.AzureWebJobsStorage) };
  throw new InvalidConfigError(
    'App settings: AzureWebJobsStorage__tableServiceUri is not set (nor AzureWebJobsStorage, for storage on this machine).',
  );
}

function localOf(set: Settings): LocalConfig | undefined {
  const { GATEPOST_LOCAL_ENDPOINTS: mapping, GATEPOST_LOCAL_CA_FILE: caFile } = set;
  if (mapping === undefined && caFile === undefined) return undefined;
  const name = mapping === undefined ? 'GATEPOST_LOCAL_CA_FILE' : 'GATEPOST_LOCAL_ENDPOINTS';
  // App Service sets the one on every instance, Flex Consumption the other (azure-functions-host,
  // EnvironmentSettingNames). A redirect there would send tokens of the identity to whoever configured it.
  if (set.WEBSITE_INSTANCE_ID !== undefined || set.WEBSITE_POD_NAME !== undefined) {
    throw new InvalidConfigError(`App settings: ${name} is for local use only and is refused in Azure.`);
  }
  return { endpoints: mapping === undefined ? {} : endpointsOf(mapping), ca: caFile && readCa(caFile) };
}

function endpointsOf(text: string): Record<string, string> {
  try {
    return endpoints.parse(JSON.parse(text));
  } catch {
    throw new InvalidConfigError(
      'App settings: GATEPOST_LOCAL_ENDPOINTS is wrong: expected JSON such as {"*.vault.azure.net": "127.0.0.1:8443"}.',
    );
  }
}

function readCa(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new InvalidConfigError(`App settings: GATEPOST_LOCAL_CA_FILE is wrong: ${(error as Error).message}.`);
  }
}
