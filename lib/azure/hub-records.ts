import type {
  Authentication,
  DeviceRecord,
  DeviceState,
  ModuleRecord,
  NewDevice,
  TwinRecord,
} from '../identity/registry.ts';
import { Redacted } from '../redacted.ts';

// The hub's JSON, api-version 2021-04-12: definitions Device, Twin and Module of its service.json.

interface WireKeys {
  primaryKey?: string | null;
  secondaryKey?: string | null;
}

interface WireThumbprints {
  primaryThumbprint?: string | null;
  secondaryThumbprint?: string | null;
}

interface WireAuthentication {
  type?: string;
  symmetricKey?: WireKeys | null;
  x509Thumbprint?: WireThumbprints | null;
}

interface WireState {
  deviceId: string;
  etag?: string | null;
  status?: string | null;
  capabilities?: { iotEdge?: boolean } | null;
  deviceScope?: string | null;
  parentScopes?: string[] | null;
  connectionState?: string | null;
  lastActivityTime?: string | null;
}

export interface WireDevice extends WireState {
  generationId?: string | null;
  statusReason?: string | null;
  authentication?: WireAuthentication | null;
}

export interface WireTwin extends WireState {
  tags?: Record<string, unknown> | null;
  authenticationType?: string | null;
  x509Thumbprint?: WireThumbprints | null;
}

export interface WireModule {
  deviceId: string;
  moduleId: string;
  etag?: string | null;
  generationId?: string | null;
  managedBy?: string | null;
  authentication?: WireAuthentication | null;
  connectionState?: string | null;
  lastActivityTime?: string | null;
}

export function toDeviceRecord(wire: WireDevice): DeviceRecord {
  return {
    ...toState(wire),
    etag: wire.etag ?? '',
    generationId: wire.generationId ?? '',
    statusReason: wire.statusReason ?? null,
    authentication: toAuthentication(wire.authentication ?? {}),
  };
}

export function toTwinRecord(wire: WireTwin): TwinRecord {
  const type = wire.authenticationType ?? 'sas';
  return {
    ...toState(wire),
    etag: wire.etag ?? '',
    tags: wire.tags ?? {},
    authentication: toAuthentication({ type, x509Thumbprint: wire.x509Thumbprint ?? null }),
  };
}

export function toModuleRecord(wire: WireModule): ModuleRecord {
  return {
    deviceId: wire.deviceId,
    moduleId: wire.moduleId,
    etag: wire.etag ?? '',
    generationId: wire.generationId ?? '',
    managedBy: wire.managedBy ? wire.managedBy : null,
    authentication: toAuthentication(wire.authentication ?? {}),
    connection: toConnection(wire),
  };
}

/** The body of the PUT that makes a device. */
export function fromNewDevice(device: NewDevice): object {
  return {
    deviceId: device.deviceId,
    status: device.status,
    capabilities: { iotEdge: device.isEdge },
    authentication: fromAuthentication(device.authentication),
    ...(device.deviceScope === undefined ? {} : { deviceScope: device.deviceScope }),
    ...(device.parentScopes === undefined ? {} : { parentScopes: device.parentScopes }),
  };
}

/** The body of the PUT that replaces a device: everything that can be written, since the hub keeps nothing that is absent. */
export function fromDeviceRecord(device: DeviceRecord): object {
  return {
    deviceId: device.deviceId,
    etag: device.etag,
    status: device.status,
    statusReason: device.statusReason,
    capabilities: { iotEdge: device.isEdge },
    authentication: fromAuthentication(device.authentication),
    ...(device.deviceScope === undefined ? {} : { deviceScope: device.deviceScope }),
    // The hub fills a leaf's parentScopes from its deviceScope: sending the old one along would contradict the new.
    ...(device.isEdge ? { parentScopes: device.parentScopes } : {}),
  };
}

export function fromAuthentication(authentication: Authentication): WireAuthentication {
  switch (authentication.type) {
    case 'sas': {
      // The hub makes the keys where it gets empty ones.
      const [primaryKey, secondaryKey] = [authentication.primaryKey, authentication.secondaryKey];
      return {
        type: 'sas',
        symmetricKey: { primaryKey: primaryKey?.reveal() ?? '', secondaryKey: secondaryKey?.reveal() ?? '' },
      };
    }
    case 'selfSigned': {
      const { primaryThumbprint, secondaryThumbprint } = authentication;
      return {
        type: 'selfSigned',
        x509Thumbprint: { primaryThumbprint, secondaryThumbprint: secondaryThumbprint ?? null },
      };
    }
    default:
      return { type: authentication.type };
  }
}

function toAuthentication(wire: WireAuthentication): Authentication {
  switch (wire.type) {
    case 'selfSigned': {
      const { primaryThumbprint, secondaryThumbprint } = wire.x509Thumbprint ?? {};
      return {
        type: 'selfSigned',
        primaryThumbprint: primaryThumbprint ?? '',
        secondaryThumbprint: secondaryThumbprint ? secondaryThumbprint : undefined,
      };
    }
    case 'certificateAuthority':
      return { type: 'certificateAuthority' };
    case 'none':
      return { type: 'none' };
    default:
      return {
        type: 'sas',
        primaryKey: secret(wire.symmetricKey?.primaryKey),
        secondaryKey: secret(wire.symmetricKey?.secondaryKey),
      };
  }
}

function toState(wire: WireState): DeviceState {
  return {
    deviceId: wire.deviceId,
    status: wire.status?.toLowerCase() === 'disabled' ? 'disabled' : 'enabled',
    isEdge: wire.capabilities?.iotEdge === true,
    deviceScope: wire.deviceScope ? wire.deviceScope : undefined,
    parentScopes: wire.parentScopes ?? [],
    connection: toConnection(wire),
  };
}

function toConnection(wire: { connectionState?: string | null; lastActivityTime?: string | null }) {
  const state =
    wire.connectionState?.toLowerCase() === 'connected' ? ('connected' as const) : ('disconnected' as const);
  const last = wire.lastActivityTime;
  // The hub writes the year 1 for "never".
  return { state, lastActivity: !last || last.startsWith('0001-') ? null : last };
}

function secret(value: string | null | undefined): Redacted | undefined {
  return value ? new Redacted(value) : undefined;
}
