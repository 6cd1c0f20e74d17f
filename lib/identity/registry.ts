import { GatepostError } from '../errors.ts';
import type { Redacted } from '../redacted.ts';

export type Status = 'enabled' | 'disabled';

/** How an identity authenticates, as the hub keeps it. The keys exist only for `sas`. */
export type Authentication =
  | { type: 'sas'; primaryKey: Redacted | undefined; secondaryKey: Redacted | undefined }
  | { type: 'selfSigned'; primaryThumbprint: string; secondaryThumbprint: string | undefined }
  | { type: 'certificateAuthority' }
  | { type: 'none' };

/** What an identity and a twin both say about a device: everything that can be decided without its keys. */
export interface DeviceState {
  deviceId: string;
  status: Status;
  isEdge: boolean;
  deviceScope: string | undefined;
  parentScopes: string[];
  connection: { state: 'connected' | 'disconnected'; lastActivity: string | null };
}

/** A device of the identity registry. */
export interface DeviceRecord extends DeviceState {
  etag: string;
  generationId: string;
  statusReason: string | null;
  authentication: Authentication;
}

/** What is asked for when a device is made. Keys that are absent are made by the hub. */
export interface NewDevice {
  deviceId: string;
  status: Status;
  isEdge: boolean;
  deviceScope?: string | undefined;
  parentScopes?: string[] | undefined;
  authentication: Authentication;
}

/** A twin without its properties: the tags, and the identity as the hub mirrors it, without keys. */
export interface TwinRecord extends DeviceState {
  etag: string;
  tags: Record<string, unknown>;
  authentication: Authentication;
}

export interface ModuleRecord {
  deviceId: string;
  moduleId: string;
  etag: string;
  generationId: string;
  /** `IotEdge` or the name of another owner; null for a module that anybody may change. */
  managedBy: string | null;
  authentication: Authentication;
  connection: { state: 'connected' | 'disconnected'; lastActivity: string | null };
}

export interface Page<T> {
  rows: T[];
  continuation?: string;
}

/** The hub refused a `deviceScope` or `parentScopes`: the gateway behind it was deleted or made anew. */
export class InvalidScopeError extends GatepostError {
  constructor(cause: unknown) {
    super('upstream_refused', 'IoT Hub does not know the device scope of the parent gateway.', { cause });
  }
}

/**
 * The identity registry of one IoT Hub. Every method throws {@link GatepostError}: `upstream_*` where the hub fails,
 * `precondition_failed` where an etag no longer holds, {@link InvalidScopeError} where a parent is not known. What is not
 * there is `undefined`. A write whose answer was lost is looked up and answers as if it had not been.
 */
export interface Registry {
  readonly hostname: string;
  device(deviceId: string): Promise<DeviceRecord | undefined>;
  createDevice(device: NewDevice): Promise<DeviceRecord | 'exists'>;
  /** Replaces the whole identity, keys included, if `device.etag` is still the current one. */
  replaceDevice(device: DeviceRecord): Promise<DeviceRecord>;
  /** False when it was not there. Without an etag it is deleted whatever its state. */
  deleteDevice(deviceId: string, etag?: string): Promise<boolean>;
  module(deviceId: string, moduleId: string): Promise<ModuleRecord | undefined>;
  /** `no_device` when there is no device to put it on. */
  createModule(deviceId: string, moduleId: string): Promise<ModuleRecord | 'exists' | 'no_device'>;
  deleteModule(deviceId: string, moduleId: string): Promise<boolean>;
  modules(deviceId: string): Promise<ModuleRecord[]>;
  twin(deviceId: string): Promise<TwinRecord | undefined>;
  /** Merges tags (null removes one). With an etag only if the twin still has it. */
  patchTags(deviceId: string, tags: Record<string, unknown>, etag?: string): Promise<TwinRecord>;
  /** One page of twins of `SELECT * FROM devices WHERE ...`. */
  queryTwins(where: string, page: { size: number; continuation?: string }): Promise<Page<TwinRecord>>;
  /** How many devices the condition holds for. */
  count(where: string): Promise<number>;
}
