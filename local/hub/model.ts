/** How an identity proves itself, as the registry stores it. Keys and thumbprints that its type does not use are null. */
export interface Authentication {
  type: 'sas' | 'selfSigned' | 'certificateAuthority' | 'none';
  symmetricKey: { primaryKey: string | null; secondaryKey: string | null };
  x509Thumbprint: { primaryThumbprint: string | null; secondaryThumbprint: string | null };
}

/** A JSON object of a twin: tags, desired or reported properties. */
export type TwinObject = { [name: string]: unknown };

/** When each property was written, a tree beside the properties. */
export interface Metadata {
  $lastUpdated: string;
  $lastUpdatedVersion?: number;
  [name: string]: unknown;
}

export interface TwinProperties {
  values: TwinObject;
  metadata: Metadata;
  version: number;
}

export interface Twin {
  /** Rises with every change. */
  version: number;
  /** Rises with every change of tags or desired properties: the ETag. */
  revision: number;
  tags: TwinObject;
  desired: TwinProperties;
  reported: TwinProperties;
  modelId: string;
}

/** What a device and a module have in common. */
export interface Principal {
  deviceId: string;
  generationId: string;
  etag: string;
  connectionState: 'Connected' | 'Disconnected';
  connectionStateUpdatedTime: string;
  lastActivityTime: string;
  authentication: Authentication;
  twin: Twin;
}

export interface Module extends Principal {
  moduleId: string;
  managedBy: string | null;
}

export interface PendingMessage {
  id: string;
  properties: Record<string, string>;
  /** base64 */
  body: string;
  expiresAt: string;
}

export interface Device extends Principal {
  status: 'enabled' | 'disabled';
  statusReason: string | null;
  statusUpdatedTime: string;
  iotEdge: boolean;
  /** An Edge device's own scope; a leaf's is that of its parent, or of the parent it once had. */
  deviceScope: string | null;
  /** Of an Edge device only: the scope of the parent above it. */
  parentScopes: string[];
  modules: Record<string, Module>;
  cloudToDevice: PendingMessage[];
}

export interface Configuration {
  id: string;
  etag: string;
  createdTimeUtc: string;
  lastUpdatedTimeUtc: string;
  /** The rest as it was given. */
  document: Record<string, unknown>;
}

/** What the service writes for a time that has not come yet. */
export const never = '0001-01-01T00:00:00Z';

/** The scopes of what stands above a device: a leaf's `deviceScope` is echoed as its `parentScopes`. */
export function scopesAbove(device: Device): string[] {
  if (device.iotEdge) return device.parentScopes;
  return device.deviceScope === null ? [] : [device.deviceScope];
}

function scopeFields(device: Device): object {
  if (device.iotEdge) return { deviceScope: device.deviceScope, parentScopes: device.parentScopes };
  return device.deviceScope === null ? {} : { deviceScope: device.deviceScope, parentScopes: scopesAbove(device) };
}

/** The device identity as `GET /devices/{id}` answers it. */
export function deviceJson(device: Device): object {
  return {
    deviceId: device.deviceId,
    generationId: device.generationId,
    etag: device.etag,
    connectionState: device.connectionState,
    status: device.status,
    statusReason: device.statusReason,
    connectionStateUpdatedTime: device.connectionStateUpdatedTime,
    statusUpdatedTime: device.statusUpdatedTime,
    lastActivityTime: device.lastActivityTime,
    cloudToDeviceMessageCount: device.cloudToDevice.length,
    authentication: authenticationJson(device.authentication),
    capabilities: { iotEdge: device.iotEdge },
    ...scopeFields(device),
  };
}

/** The module identity as `GET /devices/{id}/modules/{moduleId}` answers it. */
export function moduleJson(module: Module): object {
  return {
    moduleId: module.moduleId,
    managedBy: module.managedBy,
    deviceId: module.deviceId,
    generationId: module.generationId,
    etag: module.etag,
    connectionState: module.connectionState,
    connectionStateUpdatedTime: module.connectionStateUpdatedTime,
    lastActivityTime: module.lastActivityTime,
    cloudToDeviceMessageCount: 0,
    authentication: authenticationJson(module.authentication),
  };
}

/** The twin of a device or of one of its modules as `GET /twins/...` and a query for `*` answer it. */
export function twinJson(device: Device, module?: Module): TwinObject {
  const principal = module ?? device;
  const { twin } = principal;
  return {
    deviceId: device.deviceId,
    ...(module && { moduleId: module.moduleId }),
    etag: twinEtag(twin),
    deviceEtag: principal.etag,
    status: device.status,
    ...(device.statusReason !== null && { statusReason: device.statusReason }),
    statusUpdateTime: device.statusUpdatedTime,
    connectionState: principal.connectionState,
    lastActivityTime: principal.lastActivityTime,
    cloudToDeviceMessageCount: module === undefined ? device.cloudToDevice.length : 0,
    authenticationType: principal.authentication.type,
    x509Thumbprint: { ...principal.authentication.x509Thumbprint },
    modelId: twin.modelId,
    version: twin.version,
    ...(Object.keys(twin.tags).length > 0 && { tags: twin.tags }),
    properties: { desired: propertiesJson(twin.desired, true), reported: propertiesJson(twin.reported, true) },
    ...(module === undefined && { capabilities: { iotEdge: device.iotEdge }, ...scopeFields(device) }),
  };
}

export function propertiesJson(properties: TwinProperties, withMetadata: boolean): TwinObject {
  return {
    ...properties.values,
    ...(withMetadata && { $metadata: properties.metadata }),
    $version: properties.version,
  };
}

/** A twin's ETag: its revision as eight bytes in base64, `AAAAAAAAAAE=` for the first. */
export function twinEtag(twin: Twin): string {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(twin.revision));
  return bytes.toString('base64');
}

function authenticationJson(authentication: Authentication): object {
  return {
    symmetricKey: { ...authentication.symmetricKey },
    x509Thumbprint: { ...authentication.x509Thumbprint },
    type: authentication.type,
  };
}

export function newTwin(now: string): Twin {
  const properties = (): TwinProperties => ({ values: {}, metadata: { $lastUpdated: now }, version: 1 });
  return { version: 2, revision: 1, tags: {}, desired: properties(), reported: properties(), modelId: '' };
}
