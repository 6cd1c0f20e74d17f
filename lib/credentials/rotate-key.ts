import { z } from 'zod';
import { GatepostError } from '../errors.ts';
import { deviceNotFound } from '../identity/devices.ts';
import type { Fleet } from '../identity/fleet.ts';
import { isGateway } from '../identity/link-device.ts';
import type { DeviceRecord } from '../identity/registry.ts';
import type { Redacted } from '../redacted.ts';
import { type WhichKey, whichKeySchema } from './issue.ts';

const scopeCacheSeconds = 3600;
const mostTries = 5;

export const rotationSchema = z.object({
  id: z.string(),
  rotated: whichKeySchema,
  kept: whichKeySchema,
  rotatedAt: z.string(),
  note: z.string(),
});

export type Rotation = z.output<typeof rotationSchema>;

/**
 * Rolls one symmetric key of a device and keeps the other, under the etag of the identity. Throws `device_not_found`,
 * `device_is_gateway` or `credential_mismatch`.
 *
 * @param newKey 32 random bytes as base64.
 */
export async function rotateKey(
  fleet: Fleet,
  deviceId: string,
  which: WhichKey,
  newKey: () => Redacted,
): Promise<Rotation> {
  for (let tries = 0; tries < mostTries; tries += 1) {
    const device = await fleet.registry.device(deviceId);
    if (device === undefined) throw deviceNotFound(deviceId);
    if (device.isEdge) throw isGateway(deviceId);
    try {
      await fleet.registry.replaceDevice(withKey(device, which, newKey()));
    } catch (error) {
      if (error instanceof GatepostError && error.code === 'precondition_failed') continue;
      throw error;
    }
    return describeRotation(deviceId, which, fleet.clock());
  }
  throw new GatepostError('precondition_failed', 'The device is being changed by others right now. Try again.');
}

function withKey(device: DeviceRecord, which: WhichKey, key: Redacted): DeviceRecord {
  const { authentication, deviceId } = device;
  if (authentication.type !== 'sas') {
    const detail = `${deviceId} authenticates by ${authentication.type}: it has no symmetric key to roll.`;
    throw new GatepostError('credential_mismatch', detail);
  }
  const name = which === 'primary' ? 'primaryKey' : 'secondaryKey';
  const kept = which === 'primary' ? authentication.secondaryKey : authentication.primaryKey;
  // An empty key in a whole-object replace is one that the hub makes anew.
  if (kept === undefined) {
    throw new GatepostError('upstream_refused', `IoT Hub did not show the keys of ${deviceId}: none was rolled.`);
  }
  return { ...device, authentication: { ...authentication, [name]: key } };
}

function describeRotation(deviceId: string, which: WhichKey, now: Date): Rotation {
  const kept = which === 'primary' ? 'secondary' : 'primary';
  const note =
    `A gateway keeps what it knows of a device for up to ${scopeCacheSeconds} s: until then it may accept the old ${which} key, ` +
    `and for up to 120 s refuse the new one. Let the device use its ${kept} key meanwhile.`;
  return { id: deviceId, rotated: which, kept, rotatedAt: now.toISOString(), note };
}
