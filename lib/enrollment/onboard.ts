import { z } from 'zod';
import {
  type CredentialKind,
  credentialKindSchema,
  defaultCredential,
  issueCredential,
  requireCredential,
  ttlSchema,
} from '../credentials/issue.ts';
import { requireEnabled } from '../credentials/subject.ts';
import { GatepostError } from '../errors.ts';
import { deviceInputShape } from '../identity/device-record.ts';
import { writeTags } from '../identity/devices.ts';
import type { Fleet } from '../identity/fleet.ts';
import { idSchema } from '../identity/ids.ts';
import { type KnownDevice, linkDevice } from '../identity/link-device.ts';
import { ensureModules } from '../identity/modules.ts';
import type { DeviceRecord } from '../identity/registry.ts';
import { type OnboardingDocument, onboardingDocument, type Trust } from './onboarding-document.ts';

/** Modules that a hub lets a device have. */
const mostModules = 50;

export const onboardInputSchema = z.strictObject({
  ...deviceInputShape,
  credential: credentialKindSchema.optional().meta({
    description: 'Default: "key" for a device with symmetric keys, "x509" for one with certificates.',
  }),
  ttlSeconds: ttlSchema.optional(),
  modules: z.array(idSchema).max(mostModules).optional(),
});

export type OnboardInput = z.output<typeof onboardInputSchema>;

/**
 * The one call: creates or adopts the device, puts it behind its gateway, makes its modules, and only then releases its
 * credential. Repeated it answers the same document, and finishes what a lost call left half-done.
 *
 * @param trust read before anything is written, so that a bundle that cannot be had leaves nothing behind.
 */
export async function onboard(
  fleet: Fleet,
  deviceId: string,
  input: OnboardInput,
  trust: Trust,
): Promise<{ created: boolean; document: OnboardingDocument; credential: CredentialKind }> {
  requireSense(deviceId, input);
  const linked = await linkDevice<DeviceRecord>(fleet, deviceId, input, {
    read: () => fleet.registry.device(deviceId),
    check: (current) => requireReleasable(deviceId, current, input),
    readFirst: false,
  });
  const device = linked.written ?? linked.before;
  if (device === undefined) throw new GatepostError('internal', 'A device was neither found nor made.');
  if (input.tags !== undefined) {
    const before = linked.created ? undefined : await fleet.registry.twin(deviceId);
    await writeTags(fleet, deviceId, input.tags, before);
  }
  await ensureModules(fleet, deviceId, input.modules ?? [], linked.created);
  const subject = {
    hubHostname: fleet.registry.hostname,
    deviceId,
    moduleId: null,
    authentication: device.authentication,
    gateway: linked.gateway,
  };
  const kind = input.credential ?? defaultCredential(device.authentication);
  const credential = issueCredential(subject, { credential: kind, ttlSeconds: input.ttlSeconds }, fleet.clock());
  const document = onboardingDocument({ ...subject, credential, trust });
  return { created: linked.created, document, credential: kind };
}

/** What can be told from the body alone. */
function requireSense(deviceId: string, input: OnboardInput): void {
  if (input.enabled === false) {
    const detail = `${deviceId} would be disabled, and no credential is released for such a device. PUT it instead.`;
    throw new GatepostError('device_disabled', detail);
  }
  if (input.ttlSeconds !== undefined && input.credential !== 'sas') {
    const errors = [{ pointer: '/ttlSeconds', detail: 'Only the credential "sas" has a lifetime.' }];
    throw new GatepostError('invalid_request', '/ttlSeconds: only the credential "sas" has a lifetime.', { errors });
  }
}

/** Before anything is written: whether the credential can be released once it is. */
function requireReleasable(deviceId: string, current: KnownDevice | undefined, input: OnboardInput): void {
  const type = input.auth?.type ?? current?.authentication.type ?? 'sas';
  requireCredential({ type }, input.credential ?? defaultCredential({ type }), deviceId);
  if (current !== undefined && input.enabled === undefined) requireEnabled(current);
}
