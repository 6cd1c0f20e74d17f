import { GatepostError } from '../errors.ts';
import { deviceNotFound } from '../identity/devices.ts';
import type { Fleet } from '../identity/fleet.ts';
import { isGateway } from '../identity/link-device.ts';
import { existing, refuseManaged } from '../identity/modules.ts';
import type { DeviceRecord, ModuleRecord } from '../identity/registry.ts';
import type { CredentialSubject } from './issue.ts';

export interface Subject extends CredentialSubject {
  device: DeviceRecord;
}

/**
 * The device or module that a credential is for, with the gateway it stands behind. Throws `device_not_found`,
 * `device_is_gateway`, `device_disabled`, `device_has_no_gateway`, `module_not_found` or `module_managed`.
 */
export async function readSubject(fleet: Fleet, deviceId: string, moduleId: string | null): Promise<Subject> {
  const [device, module] = await Promise.all([
    fleet.registry.device(deviceId),
    moduleId === null ? undefined : fleet.registry.module(deviceId, moduleId),
  ]);
  if (device === undefined) throw deviceNotFound(deviceId);
  if (device.isEdge) throw isGateway(deviceId);
  requireEnabled(device);
  const gateway = await fleet.gateways.ofScope(deviceId, device.deviceScope);
  const proving: DeviceRecord | ModuleRecord =
    moduleId === null ? device : refuseManaged(module ?? (await existing(fleet, deviceId, moduleId)));
  return {
    hubHostname: fleet.registry.hostname,
    deviceId,
    moduleId,
    authentication: proving.authentication,
    gateway,
    device,
  };
}

/** Throws `device_disabled`: no credential is released that the gateway would refuse. */
export function requireEnabled(device: Pick<DeviceRecord, 'deviceId' | 'status'>): void {
  if (device.status === 'enabled') return;
  throw new GatepostError('device_disabled', `Enable ${device.deviceId} first: PUT it with "enabled": true.`);
}
