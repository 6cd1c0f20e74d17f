import { createPrivateKey } from 'node:crypto';
import { CloudError, type DeviceProof, HubClient, type HubClientOptions, type HubModule } from './hub-client.ts';
import type { KeyStore } from './key-store.ts';
import type { Principal } from './principals.ts';
import { invalidParameter, ServiceError } from './routing.ts';

/** Manual provisioning, or none. */
export type Provisioning =
  | {
      source: 'manual';
      hub: string;
      deviceId: string;
      /** `local_gateway_hostname`, which `iotedge config` calls `parent_hostname`. Absent: the hub itself. */
      gatewayHost?: string;
      authentication: { method: 'sas'; key: string } | { method: 'x509'; certificate: string; privateKey: string };
    }
  | { source: 'none' };

export type CloudOptions = Pick<HubClientOptions, 'ca' | 'locate' | 'timeoutMs' | 'retries' | 'retryDelayMs'>;

export interface IdentityManagerOptions {
  provisioning(): Provisioning;
  keys: KeyStore;
  certificates: Map<string, string>;
  cloud: CloudOptions;
  principals(): readonly Principal[];
  /** Throws what the Keys Service client throws while keyd is away. */
  requireKeyd(): void;
}

/** The ids that `aziotctl config apply` gives to what it finds in the super config. */
const deviceKeyId = 'device-id';
const masterKeyId = 'aziot_identityd_master_id';

interface Device {
  hub: string;
  gatewayHost: string;
  deviceId: string;
  method: 'sas' | 'x509';
}

/** identityd's state and its dealings with keys and the cloud (identity/aziot-identityd/src/identity.rs). */
export class IdentityManager {
  readonly #options: IdentityManagerOptions;
  #device: Device | undefined;
  /** What was seen of modules last, for when the cloud is away. */
  readonly #backups = new Map<string, HubModule>();
  /** The module principals of the last reconciliation, and for which device. */
  #previous: { device: string; modules: Set<string> } | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: IdentityManagerOptions) {
    this.#options = options;
  }

  /** Runs `work` when everything before it is done. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => {});
    return done;
  }

  /** As at the daemon's start. Throws where the hub refuses; a hub that is away is no reason. */
  async start(): Promise<void> {
    this.#provision();
    await this.#reconcileThroughOutage();
  }

  /** As when its configuration changed: identities are reconciled, and nothing provisioned. */
  reconfigured(): Promise<void> {
    return this.#reconcileThroughOutage();
  }

  async reprovision(): Promise<void> {
    this.#device = undefined;
    this.#backups.clear();
    this.#provision();
    // Errors are not retried here, those of the network neither.
    await this.#reconcile().catch((error: unknown) => {
      throw this.#asAnswer(error);
    });
  }

  provisioning(): object {
    const provisioning = this.#options.provisioning();
    if (provisioning.source === 'none') return { source: 'none' };
    return { source: 'manual', auth: provisioning.authentication.method };
  }

  async device(): Promise<object> {
    const device = this.#requireDevice();
    this.#options.requireKeyd();
    const { keys } = this.#options;
    const auth =
      device.method === 'sas'
        ? { type: 'sas', keyHandle: keys.loadKey(deviceKeyId) }
        : { type: 'x509', keyHandle: keys.loadPair(deviceKeyId), certId: deviceKeyId };
    return this.#identity(device, { auth });
  }

  async module(moduleId: string): Promise<object> {
    requireName(moduleId);
    const device = this.#requireDevice();
    const module = await this.#seen(moduleId);
    return this.#moduleIdentity(device, module);
  }

  async modules(): Promise<object[]> {
    const device = this.#requireDevice();
    try {
      for (const module of await this.#hub().list()) this.#backups.set(module.moduleId, module);
    } catch (error) {
      if (!(error instanceof CloudError)) throw error;
    }
    return [...this.#backups.values()].map((module) => this.#identity(device, this.#moduleFields(module)));
  }

  async createModule(moduleId: string): Promise<object> {
    requireName(moduleId);
    const device = this.#requireDevice();
    return this.#withCloud(async (hub) => this.#moduleIdentity(device, await this.#create(hub, moduleId)));
  }

  async updateModule(moduleId: string): Promise<object> {
    requireName(moduleId);
    const device = this.#requireDevice();
    return this.#withCloud(async (hub) => {
      const module = await hub.get(moduleId);
      return this.#moduleIdentity(device, await this.#giveKeys(hub, module));
    });
  }

  async deleteModule(moduleId: string): Promise<void> {
    requireName(moduleId);
    this.#requireDevice();
    await this.#withCloud((hub) => hub.delete(moduleId));
    this.#backups.delete(moduleId);
  }

  #provision(): void {
    const provisioning = this.#options.provisioning();
    if (provisioning.source === 'none') {
      this.#device = undefined;
      return;
    }
    const { hub, deviceId, authentication } = provisioning;
    const { keys, certificates } = this.#options;
    if (authentication.method === 'sas') keys.importKey(deviceKeyId, Buffer.from(authentication.key, 'base64'));
    else {
      keys.importPair(deviceKeyId, createPrivateKey(authentication.privateKey));
      certificates.set(deviceKeyId, authentication.certificate);
    }
    const gatewayHost = provisioning.gatewayHost ?? hub;
    this.#device = { hub, gatewayHost, deviceId, method: authentication.method };
  }

  async #reconcileThroughOutage(): Promise<void> {
    try {
      await this.#reconcile();
    } catch (error) {
      if (!(error instanceof CloudError) || !error.isNetwork) throw this.#asAnswer(error);
    }
  }

  /**
   * Makes the hub's modules those of the principals. A module that has the name of a principal and was not there in the
   * reconciliation before is deleted and made again, with keys that are derived here: one that somebody made in the
   * cloud beforehand loses its keys.
   */
  async #reconcile(): Promise<void> {
    const device = this.#device;
    if (device === undefined) return;
    const wanted = new Set(
      this.#options
        .principals()
        .filter(({ idtype }) => idtype?.includes('module'))
        .map(({ name }) => name),
    );
    const known = `${device.hub}|${device.gatewayHost}|${device.deviceId}`;
    const before = this.#previous?.device === known ? this.#previous.modules : new Set<string>();
    const hub = this.#hub();
    const missing = new Set(wanted);
    for (const module of await hub.list()) {
      const { moduleId } = module;
      this.#backups.set(moduleId, module);
      if (wanted.has(moduleId) && before.has(moduleId)) missing.delete(moduleId);
      else if (wanted.has(moduleId) || before.has(moduleId)) {
        await hub.delete(moduleId);
        this.#backups.delete(moduleId);
      }
    }
    for (const moduleId of missing) await this.#create(hub, moduleId);
    this.#previous = { device: known, modules: wanted };
  }

  async #create(hub: HubClient, moduleId: string): Promise<HubModule> {
    return this.#giveKeys(hub, await hub.create(moduleId));
  }

  async #giveKeys(hub: HubClient, module: HubModule): Promise<HubModule> {
    const { keys } = this.#options;
    const key = (which: string) => keys.exportDerived(this.#derive(module, which)).toString('base64');
    const updated = await hub.update(module.moduleId, { primaryKey: key('primary'), secondaryKey: key('secondary') });
    this.#backups.set(updated.moduleId, updated);
    return updated;
  }

  /** The module from the hub, else as it was seen last; both fail with the same words. */
  async #seen(moduleId: string): Promise<HubModule> {
    try {
      const module = await this.#hub().get(moduleId);
      this.#backups.set(moduleId, module);
      return module;
    } catch (error) {
      if (!(error instanceof CloudError)) throw error;
      if (error.isMissing) this.#backups.delete(moduleId);
      const backup = this.#backups.get(moduleId);
      if (backup !== undefined) return backup;
      throw new ServiceError(404, 'Hub client error', `module ${moduleId} not found`);
    }
  }

  #derive(module: HubModule, which: string): string {
    if (module.generationId === undefined) throw new ServiceError(400, 'module identity not found');
    this.#options.requireKeyd();
    const { keys } = this.#options;
    const data = Buffer.from(`${module.moduleId}:${module.generationId}:${which}`);
    return keys.derive(keys.createKey(masterKeyId), data);
  }

  #moduleIdentity(device: Device, module: HubModule): object {
    const auth = { type: 'sas', keyHandle: this.#derive(module, 'primary') };
    return this.#identity(device, { ...this.#moduleFields(module), auth });
  }

  #moduleFields({ moduleId, generationId }: HubModule): object {
    return { moduleId, ...(generationId === undefined ? {} : { genId: generationId }) };
  }

  #identity({ hub, gatewayHost, deviceId }: Device, more: object): object {
    return { type: 'aziot', spec: { hubName: hub, gatewayHost, deviceId, ...more } };
  }

  #requireDevice(): Device {
    if (this.#device === undefined) throw new ServiceError(400, 'device identity not found');
    return this.#device;
  }

  async #withCloud<T>(work: (hub: HubClient) => Promise<T>): Promise<T> {
    try {
      return await work(this.#hub());
    } catch (error) {
      throw this.#asAnswer(error);
    }
  }

  /** Whatever the cloud says is a 404. */
  #asAnswer(error: unknown): unknown {
    return error instanceof CloudError ? new ServiceError(404, 'Hub client error', error.message) : error;
  }

  #hub(): HubClient {
    const { hub, gatewayHost, deviceId, method } = this.#requireDevice();
    return new HubClient({ hub, gatewayHost, deviceId, proof: () => this.#proof(method), ...this.#options.cloud });
  }

  #proof(method: 'sas' | 'x509'): DeviceProof {
    const { keys, certificates } = this.#options;
    if (method === 'sas') {
      const handle = keys.loadKey(deviceKeyId);
      return { kind: 'sas', sign: (text) => keys.sign(handle, 'HMAC-SHA256', Buffer.from(text)).toString('base64') };
    }
    // The real one signs in keyd, through an OpenSSL engine.
    const pair = keys.pair(keys.loadPair(deviceKeyId));
    const privateKey = pair.export({ type: 'pkcs8', format: 'pem' }) as string;
    return { kind: 'x509', certificate: certificates.get(deviceKeyId) ?? '', privateKey };
  }
}

function requireName(moduleId: string): void {
  if (moduleId.trim() === '') throw invalidParameter('module_id', 'module name cannot be empty');
}
