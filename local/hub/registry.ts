import { EventEmitter } from 'node:events';
import { generatedKeys, readAuthentication } from './authentication.ts';
import { HubError } from './errors.ts';
import {
  type Condition,
  checkCondition,
  checkId,
  type Given,
  readDesired,
  readIotEdge,
  readObject,
  readText,
} from './input.ts';
import {
  type Configuration,
  type Device,
  type Module,
  never,
  newTwin,
  type Principal,
  scopesAbove,
  type TwinObject,
} from './model.ts';
import { deviceScopeOf, requireEdgeScope } from './scopes.ts';
import { patchTwin } from './twin-patch.ts';

export interface RegistryState {
  devices: Device[];
  configurations: Configuration[];
  etags: number;
}

export interface RegistryLimits {
  /** Devices of one hub. Default: 1,000,000, a paid hub's. */
  devices?: number;
}

interface RegistryEvents {
  changed: [];
  /** Disabled or deleted: connections of it end. */
  revoked: [deviceId: string, moduleId: string | null];
  desired: [deviceId: string, moduleId: string | null, patch: TwinObject];
}

const modulesPerDevice = 50;
/** The modules that an Edge device is born with. */
const systemModules = ['$edgeAgent', '$edgeHub'];

/** The identities of the hub and the rules of their registry. Requests are checked before anything changes. */
export class HubRegistry extends EventEmitter<RegistryEvents> {
  readonly devices: Map<string, Device>;
  readonly configurations: Map<string, Configuration>;
  readonly now: () => Date;
  readonly #maxDevices: number;
  #etags: number;

  constructor(state: RegistryState | undefined, now: () => Date, limits: RegistryLimits = {}) {
    super();
    this.devices = new Map(state?.devices.map((device) => [device.deviceId, device]));
    this.configurations = new Map(state?.configurations.map((one) => [one.id, one]));
    this.#etags = state?.etags ?? 0;
    this.now = now;
    this.#maxDevices = limits.devices ?? 1_000_000;
  }

  capture(): RegistryState {
    return {
      devices: [...this.devices.values()],
      configurations: [...this.configurations.values()],
      etags: this.#etags,
    };
  }

  device(id: string): Device {
    const device = this.devices.get(id);
    if (device === undefined) throw new HubError('DeviceNotFound', `Device ${id} not registered`);
    return device;
  }

  module(deviceId: string, moduleId: string): Module {
    const module = this.device(deviceId).modules[moduleId];
    if (module === undefined)
      throw new HubError('ModuleNotFound', `Module ${moduleId} on device ${deviceId} not registered`);
    return module;
  }

  principal(deviceId: string, moduleId: string | null): Principal {
    return moduleId === null ? this.device(deviceId) : this.module(deviceId, moduleId);
  }

  /** `PUT /devices/{id}`: creates without a condition, replaces the whole identity with one. */
  putDevice(id: string, body: unknown, condition: Condition): Device {
    const given = readObject(body);
    checkId(id, given.deviceId, 'device');
    const old = this.devices.get(id);
    if (condition === undefined) {
      if (old !== undefined) throw new HubError('DeviceAlreadyExists', `Device ${id} already registered`);
      return this.createDevice(id, given);
    }
    if (old === undefined) throw new HubError('DeviceNotFound', `Device ${id} not registered`);
    checkCondition(condition, old.etag);
    return this.replaceDevice(old, given);
  }

  /** `withTwin`: only an item of a bulk request may bring tags and desired properties. */
  createDevice(id: string, given: Given, withTwin = false): Device {
    if (this.devices.size >= this.#maxDevices) {
      throw new HubError('IotHubQuotaExceeded', `The hub has its ${this.#maxDevices} devices.`);
    }
    const generationId = this.#newGenerationId();
    const settings = this.#readDevice(id, given, generationId, undefined);
    const now = this.now().toISOString();
    const device: Device = {
      ...this.#newPrincipal(id, generationId, readAuthentication(given.authentication, false)),
      statusUpdatedTime: never,
      ...settings,
      modules: {},
      cloudToDevice: [],
    };
    if (withTwin) patchTwin(device.twin, { tags: given.tags, properties: readDesired(given) }, now);
    if (device.iotEdge) this.#addSystemModules(device);
    this.devices.set(id, device);
    this.emit('changed');
    return device;
  }

  replaceDevice(device: Device, given: Given): Device {
    const settings = this.#readDevice(device.deviceId, given, device.generationId, device);
    const authentication = readAuthentication(given.authentication, false);
    const isChanged = settings.status !== device.status;
    if (isChanged) device.statusUpdatedTime = this.now().toISOString();
    Object.assign(device, settings, { authentication, etag: this.#newEtag() });
    if (device.iotEdge) this.#addSystemModules(device);
    this.emit('changed');
    if (isChanged && settings.status === 'disabled') this.#revoke(device);
    return device;
  }

  deleteDevice(id: string, condition: Condition): void {
    const device = this.device(id);
    if (condition !== undefined) checkCondition(condition, device.etag);
    // Children keep the scope of a parent that is gone: they are orphans.
    this.devices.delete(id);
    this.emit('changed');
    this.#revoke(device);
  }

  putModule(deviceId: string, moduleId: string, body: unknown, condition: Condition, byDevice: boolean): Module {
    const given = readObject(body);
    checkId(deviceId, given.deviceId, 'device');
    checkId(moduleId, given.moduleId, 'module');
    const device = this.device(deviceId);
    const old = device.modules[moduleId];
    if (moduleId.startsWith('$') && !(byDevice && old !== undefined)) refuseSystemModule(moduleId);
    if (condition !== undefined) {
      if (old === undefined) throw new HubError('ModuleNotFound', `Module ${moduleId} not registered`);
      checkCondition(condition, old.etag);
      Object.assign(old, {
        authentication: readAuthentication(given.authentication, true),
        managedBy: readText(given.managedBy, 'managedBy'),
        etag: this.#newEtag(),
      });
      this.emit('changed');
      return old;
    }
    if (old !== undefined) {
      throw new HubError('ModuleAlreadyExistsOnDevice', `Module ${moduleId} already registered on device ${deviceId}`);
    }
    return this.createModule(device, moduleId, given);
  }

  createModule(device: Device, moduleId: string, given: Given): Module {
    const own = Object.keys(device.modules).filter((id) => !systemModules.includes(id));
    if (own.length >= modulesPerDevice) {
      throw new HubError('TooManyModulesOnDevice', `A device has at most ${modulesPerDevice} modules.`);
    }
    const module: Module = {
      ...this.#newPrincipal(device.deviceId, this.#newGenerationId(), readAuthentication(given.authentication, true)),
      moduleId,
      managedBy: readText(given.managedBy, 'managedBy'),
    };
    device.modules[moduleId] = module;
    this.emit('changed');
    return module;
  }

  deleteModule(deviceId: string, moduleId: string, condition: Condition): void {
    const module = this.module(deviceId, moduleId);
    if (moduleId.startsWith('$')) refuseSystemModule(moduleId);
    if (condition !== undefined) checkCondition(condition, module.etag);
    delete this.device(deviceId).modules[moduleId];
    this.emit('changed');
    this.emit('revoked', deviceId, moduleId);
  }

  patchTwin(deviceId: string, moduleId: string | null, patch: unknown): void {
    const { twin } = this.principal(deviceId, moduleId);
    const desired = patchTwin(twin, patch, this.now().toISOString());
    this.emit('changed');
    if (desired !== undefined) this.emit('desired', deviceId, moduleId, desired);
  }

  newEtag(): string {
    return this.#newEtag();
  }

  #readDevice(
    id: string,
    given: Given,
    generationId: string,
    old: Device | undefined,
  ): Pick<Device, 'status' | 'statusReason' | 'iotEdge' | 'deviceScope' | 'parentScopes'> {
    const status = given.status ?? 'enabled';
    if (status !== 'enabled' && status !== 'disabled') {
      throw new HubError('ArgumentInvalid', `The status '${String(status)}' is not valid.`);
    }
    const statusReason = readText(given.statusReason, 'statusReason');
    if (statusReason !== null && statusReason.length > 128) {
      throw new HubError('ArgumentInvalid', 'statusReason is longer than 128 characters.');
    }
    const iotEdge = readIotEdge(given.capabilities);
    if (old?.iotEdge && !iotEdge) {
      throw new HubError('ArgumentInvalid', 'An Edge device cannot become another kind of device.');
    }
    const scopes = iotEdge
      ? this.#readEdgeScopes(deviceScopeOf(id, generationId), given)
      : this.#readLeafScope(given, old);
    return { status, statusReason, iotEdge, ...scopes };
  }

  #readEdgeScopes(own: string, given: Given): Pick<Device, 'deviceScope' | 'parentScopes'> {
    const deviceScope = readText(given.deviceScope, 'deviceScope');
    if (deviceScope && deviceScope !== own) {
      throw new HubError('InvalidDeviceScope', 'The deviceScope of an Edge device is generated and cannot be changed.');
    }
    const parents = given.parentScopes ?? [];
    if (!Array.isArray(parents) || parents.length > 1) {
      throw new HubError('InvalidDeviceScope', 'parentScopes is an array of at most one scope.');
    }
    return { deviceScope: own, parentScopes: parents.map((scope) => requireEdgeScope(this.devices, scope)) };
  }

  #readLeafScope(given: Given, old: Device | undefined): Pick<Device, 'deviceScope' | 'parentScopes'> {
    const deviceScope = readText(given.deviceScope, 'deviceScope') || null;
    // What stands is not checked again, or an orphan could not be changed at all.
    const isKept = old !== undefined && deviceScope === old.deviceScope;
    if (deviceScope !== null && !isKept) requireEdgeScope(this.devices, deviceScope);
    // parentScopes of a leaf only echo its deviceScope: az iot hub sends them back stale when it moves a leaf.
    return { deviceScope, parentScopes: [] };
  }

  #addSystemModules(device: Device): void {
    for (const moduleId of systemModules) {
      device.modules[moduleId] ??= {
        ...this.#newPrincipal(device.deviceId, this.#newGenerationId(), generatedKeys()),
        moduleId,
        managedBy: 'iotEdge',
      };
    }
  }

  #newPrincipal(deviceId: string, generationId: string, authentication: Principal['authentication']): Principal {
    return {
      deviceId,
      generationId,
      etag: this.#newEtag(),
      connectionState: 'Disconnected',
      connectionStateUpdatedTime: never,
      lastActivityTime: never,
      authentication,
      twin: newTwin(this.now().toISOString()),
    };
  }

  #revoke(device: Device): void {
    this.emit('revoked', device.deviceId, null);
    for (const moduleId of Object.keys(device.modules)) this.emit('revoked', device.deviceId, moduleId);
  }

  #newEtag(): string {
    this.#etags += 1;
    return Buffer.from(String(100_000_000 + this.#etags)).toString('base64');
  }

  /** Digits, never the same twice: the time in 100 ns since the year 1, as the real ones read. */
  #newGenerationId(): string {
    this.#etags += 1;
    return String(BigInt(this.now().getTime() + 62_135_596_800_000) * 10_000n + BigInt(this.#etags % 10_000));
  }
}

/** Everything that stands directly below `device`. */
export function childrenOf(registry: HubRegistry, device: Device): Device[] {
  const scope = device.deviceScope;
  if (!device.iotEdge || scope === null) return [];
  return [...registry.devices.values()].filter((other) => other !== device && scopesAbove(other).includes(scope));
}

function refuseSystemModule(moduleId: string): never {
  throw new HubError('SystemModuleModifyUnauthorizedAccess', `System module ${moduleId} cannot be modified.`);
}
