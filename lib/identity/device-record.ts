import { z } from 'zod';
import { authInputSchema, authViewSchema, describeAuthentication } from './authentication.ts';
import type { Described } from './gateway-record.ts';
import { gatewayIdOfScope, idSchema } from './ids.ts';
import type { Authentication, DeviceState } from './registry.ts';
import { settingsEtag } from './settings-etag.ts';
import { type Tags, tagsSchema, userTags } from './tags.ts';

/** The fields of PUT that onboarding shares. What is left out stays as it is, or gets its default when the device is new. */
export const deviceInputShape = {
  gateway: idSchema.meta({ description: 'The gateway that the device stands behind. Another one moves it.' }),
  auth: authInputSchema.optional(),
  enabled: z.boolean().optional(),
  tags: tagsSchema.optional(),
};

export const deviceInputSchema = z.strictObject(deviceInputShape);

export type DeviceInput = z.output<typeof deviceInputSchema>;

export const deviceViewSchema = z.object({
  id: idSchema,
  gateway: z.string().nullable(),
  auth: authViewSchema,
  enabled: z.boolean(),
  tags: z.record(z.string(), z.unknown()),
  connection: z.object({ state: z.enum(['connected', 'disconnected']), lastActivity: z.string().nullable() }),
});

export type DeviceView = z.output<typeof deviceViewSchema>;

/** @param tags of the twin, the reserved one included. */
export function describeDevice(
  device: DeviceState & { authentication: Authentication },
  tags: Tags,
): Described<DeviceView> {
  const kept = {
    id: device.deviceId,
    gateway: gatewayIdOfScope(device.deviceScope) ?? null,
    auth: describeAuthentication(device.authentication),
    enabled: device.status === 'enabled',
    tags: userTags(tags),
  };
  const etag = settingsEtag({ ...kept, scope: device.deviceScope ?? null });
  return { view: { ...kept, connection: device.connection }, etag };
}
