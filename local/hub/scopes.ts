import { HubError } from './errors.ts';
import { type Device, scopesAbove } from './model.ts';

/** The scope that an Edge device opens; it ends in the generation, so one that is made anew has another. */
export function deviceScopeOf(deviceId: string, generationId: string): string {
  return `ms-azure-iot-edge://${deviceId}-${generationId}`;
}

/** The Edge device whose scope this is, if it still lives. Ids may contain `-`: the last one parts id and generation. */
export function edgeDeviceOf(devices: ReadonlyMap<string, Device>, scope: string): Device | undefined {
  const match = /^ms-azure-iot-edge:\/\/(.+)-(\d+)$/.exec(scope);
  const device = match === null ? undefined : devices.get(match[1] ?? '');
  return device?.iotEdge && device.deviceScope === scope ? device : undefined;
}

export function requireEdgeScope(devices: ReadonlyMap<string, Device>, scope: unknown): string {
  if (typeof scope === 'string' && edgeDeviceOf(devices, scope) !== undefined) return scope;
  throw new HubError('InvalidDeviceScope', `'${String(scope)}' is not the scope of an Edge device of this hub.`);
}

/**
 * True where `device` is the gateway itself or stands below it, at any depth, with every Edge device in between enabled:
 * a disabled one makes the chain unusable.
 */
export function isBelow(devices: ReadonlyMap<string, Device>, device: Device, gatewayId: string): boolean {
  const seen = new Set<Device>();
  let next: Device | undefined = device;
  while (next !== undefined && !seen.has(next)) {
    if (next.status === 'disabled') return false;
    if (next.iotEdge && next.deviceId === gatewayId) return true;
    seen.add(next);
    const [scope] = scopesAbove(next);
    next = scope === undefined ? undefined : edgeDeviceOf(devices, scope);
  }
  return false;
}
