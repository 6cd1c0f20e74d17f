import type { Registry } from '../identity/registry.ts';
import type { Redacted } from '../redacted.ts';

/**
 * The symmetric keys by which a device or one of its modules may prove itself, read from the hub now. Undefined where there
 * is no such identity, the device is disabled or a gateway, or it authenticates by certificate. A disabled device takes its
 * modules with it.
 */
export async function readDeviceKeys(
  registry: Registry,
  deviceId: string,
  moduleId: string | null,
): Promise<readonly Redacted[] | undefined> {
  const [device, module] = await Promise.all([
    registry.device(deviceId),
    moduleId === null ? undefined : registry.module(deviceId, moduleId),
  ]);
  if (device === undefined || device.isEdge || device.status === 'disabled') return undefined;
  const authentication = moduleId === null ? device.authentication : module?.authentication;
  if (authentication?.type !== 'sas') return undefined;
  return [authentication.primaryKey, authentication.secondaryKey].filter((key) => key !== undefined);
}
