import { z } from 'zod';
import { GatepostError } from '../errors.ts';
import { authViewSchema, describeAuthentication } from './authentication.ts';
import { deviceNotFound } from './devices.ts';
import type { Fleet } from './fleet.ts';
import { idSchema } from './ids.ts';
import { isGateway } from './link-device.ts';
import type { ModuleRecord } from './registry.ts';

export const moduleViewSchema = z.object({
  id: idSchema,
  deviceId: idSchema,
  auth: authViewSchema,
  connection: z.object({ state: z.enum(['connected', 'disconnected']), lastActivity: z.string().nullable() }),
});

export type ModuleView = z.output<typeof moduleViewSchema>;

export function describeModule(module: ModuleRecord): ModuleView {
  return {
    id: module.moduleId,
    deviceId: module.deviceId,
    auth: describeAuthentication(module.authentication),
    connection: module.connection,
  };
}

/**
 * Makes a module with symmetric keys on a device, or adopts the one that is there. Throws `device_not_found`,
 * `device_is_gateway`, `module_managed`, or `credential_mismatch` for a module that authenticates by certificate, which no
 * gateway accepts (edgeHub, DeviceScopeCertificateAuthenticator).
 */
export async function putModule(
  fleet: Fleet,
  deviceId: string,
  moduleId: string,
): Promise<{ created: boolean; view: ModuleView }> {
  const twin = await fleet.registry.twin(deviceId);
  if (twin === undefined) throw deviceNotFound(deviceId);
  if (twin.isEdge) throw isGateway(deviceId);
  const made = await fleet.registry.createModule(deviceId, moduleId);
  if (made === 'no_device') throw deviceNotFound(deviceId);
  if (made !== 'exists') return { created: true, view: describeModule(made) };
  return { created: false, view: describeModule(usable(await existing(fleet, deviceId, moduleId))) };
}

/** Makes those of the modules that a device has not: one read for a device that existed, one write for each missing one. */
export async function ensureModules(
  fleet: Fleet,
  deviceId: string,
  moduleIds: readonly string[],
  isNewDevice: boolean,
): Promise<void> {
  if (moduleIds.length === 0) return;
  const present = new Map<string, ModuleRecord>();
  if (!isNewDevice) {
    for (const module of await fleet.registry.modules(deviceId)) present.set(module.moduleId, module);
  }
  for (const module of present.values()) if (moduleIds.includes(module.moduleId)) usable(module);
  for (const moduleId of new Set(moduleIds)) {
    if (present.has(moduleId)) continue;
    const made = await fleet.registry.createModule(deviceId, moduleId);
    if (made === 'no_device') throw deviceNotFound(deviceId);
    if (made === 'exists') usable(await existing(fleet, deviceId, moduleId));
  }
}

/** Throws `module_not_found`. */
export async function getModule(fleet: Fleet, deviceId: string, moduleId: string): Promise<ModuleView> {
  return describeModule(await existing(fleet, deviceId, moduleId));
}

/** Throws `module_not_found` or `module_managed`. */
export async function deleteModule(fleet: Fleet, deviceId: string, moduleId: string): Promise<void> {
  refuseManaged(await existing(fleet, deviceId, moduleId));
  if (!(await fleet.registry.deleteModule(deviceId, moduleId))) throw moduleNotFound(deviceId, moduleId);
}

/** The module as the hub has it; throws `module_not_found`. */
export async function existing(fleet: Fleet, deviceId: string, moduleId: string): Promise<ModuleRecord> {
  const module = await fleet.registry.module(deviceId, moduleId);
  if (module === undefined) throw moduleNotFound(deviceId, moduleId);
  return module;
}

/**
 * The IoT Edge runtime and the Identity Service make their modules themselves, with keys derived on the device, and undo
 * what anybody else makes of them (iot-identity-service, aziot-identityd identity.rs).
 */
export function refuseManaged(module: ModuleRecord): ModuleRecord {
  if (module.managedBy === null) return module;
  const detail = `The module ${module.moduleId} is managed by ${module.managedBy}: its keys are made on the device.`;
  throw new GatepostError('module_managed', detail);
}

function usable(module: ModuleRecord): ModuleRecord {
  refuseManaged(module);
  if (module.authentication.type === 'sas') return module;
  const detail = `The module ${module.moduleId} authenticates by certificate, which no gateway accepts. Delete it first.`;
  throw new GatepostError('credential_mismatch', detail);
}

function moduleNotFound(deviceId: string, moduleId: string): GatepostError {
  return new GatepostError('module_not_found', `PUT /api/v1/devices/${deviceId}/modules/${moduleId} makes it.`);
}
