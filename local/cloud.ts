import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { assertBuilt, startApi } from './cloud/api.ts';
import type { ContractGateway, LocalContract } from './cloud/contract.ts';
import type { AddGatewayOptions } from './cloud/gateways.ts';
import { lockFolder } from './cloud/lock.ts';
import { type Parts, startParts } from './cloud/parts.ts';
import { keep } from './cloud/running.ts';
import type { Entra } from './entra/entra.ts';
import type { FunctionsHost } from './functions-host/host.ts';
import type { Gateway, GatewayPorts } from './gateway/gateway.ts';
import type { Hub } from './hub/hub.ts';
import type { FaultSwitch } from './kit/faults.ts';
import type { Storage } from './storage/azurite.ts';
import type { Vault } from './vault/vault.ts';

export type { LocalContract } from './cloud/contract.ts';
export type { AddGatewayOptions } from './cloud/gateways.ts';

export interface CloudOptions {
  /** Keeps all state. Absent: a new temporary folder that `close` removes. */
  directory?: string | undefined;
  /** The API's port. Default 0, any; one that is taken is replaced. */
  port?: number | undefined;
  /** How many gateways run from the start. Default 1. */
  gateways?: number | undefined;
  /** What the first gateway would like to listen on. Default: any. */
  gatewayPorts?: Partial<GatewayPorts> | undefined;
  /** Forgets what `directory` held. */
  fresh?: boolean | undefined;
  /** App settings of the API, on top of those that lead it to this cloud. */
  apiEnv?: Record<string, string> | undefined;
  /** false starts the cloud without the API. */
  api?: boolean | undefined;
  /** Takes what the API and its host log. */
  logFile?: string | undefined;
  /** The folder of an unpacked package of the API, to be started in place of this repository. */
  appDirectory?: string | undefined;
}

export interface LocalCloud {
  /** The API's base URL. Throws where the cloud was started without it; so does `host`. */
  readonly api: string;
  readonly host: FunctionsHost;
  /** A bearer token with every role, valid 8 hours. */
  operatorToken: string;
  entra: Entra;
  hub: Hub;
  vault: Vault;
  storage: Storage;
  gateways: Gateway[];
  faults: FaultSwitch;
  faultsUrl: string;
  /** What `.gatepost/local.json` says. A gateway that is added is added here too. */
  contract: LocalContract;
  /** Makes an Edge identity in the hub, unless it is there, and starts its gateway. */
  addGateway(options?: AddGatewayOptions): Promise<Gateway>;
  /** One more instance of the function app beside the first, as when the platform scales out. Answers its base URL. */
  addApi(): Promise<string>;
  /** As a new instance of the function app: what it remembered is gone. */
  restartApi(): Promise<void>;
  close(): Promise<void>;
}

const tokenSeconds = 8 * 3600;

/**
 * Brings up the cloud on this machine, and the API in it.
 *
 * @throws FolderInUseError where another process runs one in `directory`.
 */
export async function startCloud(options: CloudOptions = {}): Promise<LocalCloud> {
  if (options.api !== false) assertBuilt(options.appDirectory);
  const cleanup = new AsyncDisposableStack();
  try {
    const directory = openFolder(options, cleanup);
    const { gateways = 1, gatewayPorts = {} } = options;
    const parts = await startParts({ directory, gateways, gatewayPorts, cleanup });
    const { port = 0, apiEnv: env = {}, logFile, appDirectory } = options;
    const api = { port, env, logFile, directory: appDirectory };
    const host = options.api === false ? undefined : await keep(cleanup, startApi(parts, api));
    const addApi = async () => {
      const { url } = await keep(cleanup, startApi(parts, { port: 0, env: api.env, logFile: undefined }));
      return url;
    };
    return await assemble(parts, host, addApi, cleanup);
  } catch (error) {
    await cleanup.disposeAsync();
    throw error;
  }
}

function openFolder(options: CloudOptions, cleanup: AsyncDisposableStack): string {
  if (options.directory === undefined) {
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-cloud-'));
    cleanup.defer(() => rmSync(directory, { recursive: true, force: true }));
    return directory;
  }
  const directory = resolve(options.directory);
  cleanup.defer(lockFolder(directory));
  if (options.fresh) {
    for (const name of readdirSync(directory)) {
      if (name !== 'lock') rmSync(join(directory, name), { recursive: true, force: true });
    }
  }
  return directory;
}

async function assemble(
  parts: Parts,
  host: FunctionsHost | undefined,
  addApi: () => Promise<string>,
  cleanup: AsyncDisposableStack,
): Promise<LocalCloud> {
  const contract = await describe(parts, host);
  // What it took to get here is nobody's call budget.
  parts.faults.resetCalls();
  const running = () => {
    if (host === undefined) throw new Error('This local cloud was started without the API.');
    return host;
  };
  return {
    get api() {
      return running().url;
    },
    get host() {
      return running();
    },
    operatorToken: contract.operatorToken,
    entra: parts.entra,
    hub: parts.hub,
    vault: parts.vault,
    storage: parts.storage,
    gateways: parts.gateways,
    faults: parts.faults,
    faultsUrl: contract.faultsUrl,
    contract,
    async addGateway(options) {
      const gateway = await parts.addGateway(options);
      contract.gateways.push(describeGateway(gateway));
      return gateway;
    },
    addApi,
    restartApi: () => running().restart(),
    close: () => cleanup.disposeAsync(),
  };
}

async function describe(parts: Parts, host: FunctionsHost | undefined): Promise<LocalContract> {
  const { entra, hub, vault, ca, control } = parts;
  return {
    api: host?.url ?? '',
    operatorToken: await newOperatorToken(entra),
    entra: {
      issuer: entra.issuer,
      tokenUrl: entra.tokenUrl,
      audience: entra.audience,
      clients: entra.clients.map(({ name, clientId, clientSecret, roles }) => ({
        name,
        clientId,
        clientSecret,
        roles,
      })),
    },
    hub: {
      hostname: hub.hostname,
      port: hub.port,
      connectionString: hub.connectionString,
      caFile: ca.file,
      telemetryUrl: control.telemetryUrl,
    },
    vault: { url: vault.url, port: vault.port, caFile: ca.file },
    storage: { connectionString: parts.storage.connectionString },
    gateways: parts.gateways.map(describeGateway),
    faultsUrl: control.faultsUrl,
  };
}

function describeGateway({ id, hostname, ports, rootFile = '' }: Gateway): ContractGateway {
  return { id, hostname, ports, rootFile };
}

function newOperatorToken(entra: Entra): Promise<string> {
  const operator = entra.clients.find(({ name }) => name === 'operator');
  if (operator === undefined) throw new Error('The tenant has no client named operator.');
  const { clientId: appid, objectId: oid, roles } = operator;
  return entra.issue({ aud: entra.audience, appid, oid, roles, expiresInSeconds: tokenSeconds });
}
