import { GatepostError } from '../errors.ts';
import { newAuthentication, sameAuthentication } from './authentication.ts';
import type { DeviceInput } from './device-record.ts';
import type { Fleet } from './fleet.ts';
import type { KnownGateway } from './gateway-cache.ts';
import { type Authentication, type DeviceRecord, type DeviceState, InvalidScopeError } from './registry.ts';

export type KnownDevice = DeviceState & { authentication: Authentication };

export interface LinkOptions<T extends KnownDevice> {
  /** Reads what the caller needs to see of a device that exists: its twin (no keys) or its identity (keys). */
  read(): Promise<T | undefined>;
  /** Throws where the device as it is (undefined: there is none) forbids the call. Asked before anything is written. */
  check(current: KnownDevice | undefined): void;
  /** Read first even where the device is most likely new. */
  readFirst: boolean;
}

export interface Linked<T> {
  gateway: KnownGateway;
  created: boolean;
  /** What was read of it before, if it existed. */
  before: T | undefined;
  /** The identity as the hub answered it, if it was created or changed. */
  written: DeviceRecord | undefined;
}

/** How often a write that lost a race is done again from what is there then. */
const mostTries = 5;

/**
 * Makes a device and puts it behind its gateway, or adopts, moves and changes the one of that id. A new device behind a
 * gateway that is remembered costs one registry write, whose answer is the read-back; one that is as asked costs one read.
 */
export async function linkDevice<T extends KnownDevice>(
  fleet: Fleet,
  deviceId: string,
  input: DeviceInput,
  options: LinkOptions<T>,
): Promise<Linked<T>> {
  let readFirst = options.readFirst || fleet.seen.get(deviceId) === true;
  let scopeRefused = false;
  for (let tries = 0; tries < mostTries; tries += 1) {
    const gateway = await fleet.gateways.parent(input.gateway);
    const before = readFirst ? await options.read() : undefined;
    if (before?.isEdge) throw isGateway(deviceId);
    options.check(before);
    try {
      if (before === undefined) {
        const written = await createBehind(fleet, gateway, deviceId, input);
        if (written !== 'exists') return { gateway, created: true, before, written };
        readFirst = true;
        continue;
      }
      fleet.seen.set(deviceId, true);
      if (isAsAsked(before, gateway, input)) return { gateway, created: false, before, written: undefined };
      const written = await changeBehind(fleet, gateway, before, input, options);
      if (written !== undefined) return { gateway, created: false, before, written };
    } catch (error) {
      // What is behind a full gateway already may stay: that is looked at before it is refused.
      if (isFull(error) && !readFirst) {
        readFirst = true;
        continue;
      }
      if (!(error instanceof InvalidScopeError) || scopeRefused) throw error;
      // The gateway that is remembered was deleted or made anew: what it is now decides.
      scopeRefused = true;
      fleet.gateways.drop(gateway.id);
    }
  }
  throw new GatepostError('precondition_failed', 'The device is being changed by others right now. Try again.');
}

export function isGateway(deviceId: string): GatepostError {
  const detail = `${deviceId} is an IoT Edge device: it is managed under /api/v1/gateways/${deviceId}.`;
  return new GatepostError('device_is_gateway', detail);
}

function isFull(error: unknown): boolean {
  return error instanceof GatepostError && error.code === 'gateway_full';
}

async function createBehind(
  fleet: Fleet,
  gateway: KnownGateway,
  deviceId: string,
  input: DeviceInput,
): Promise<DeviceRecord | 'exists'> {
  const place = await fleet.gateways.reserve(gateway);
  try {
    const written = await fleet.registry.createDevice({
      deviceId,
      status: input.enabled === false ? 'disabled' : 'enabled',
      isEdge: false,
      deviceScope: gateway.scope,
      authentication: newAuthentication(input.auth),
    });
    fleet.seen.set(deviceId, true);
    if (written === 'exists') place.giveBack();
    else place.keep();
    return written === 'exists' ? written : linked(written, gateway);
  } catch (error) {
    place.giveBack();
    throw error;
  }
}

/** Undefined when somebody else was faster: it is to be read again. */
async function changeBehind<T extends KnownDevice>(
  fleet: Fleet,
  gateway: KnownGateway,
  before: KnownDevice,
  input: DeviceInput,
  options: LinkOptions<T>,
): Promise<DeviceRecord | undefined> {
  const current = await identityOf(fleet, before);
  if (current === undefined) {
    fleet.seen.delete(before.deviceId);
    return undefined;
  }
  if (current !== before) options.check(current);
  const place = current.deviceScope === gateway.scope ? undefined : await fleet.gateways.reserve(gateway);
  try {
    const written = await fleet.registry.replaceDevice(asAsked(current, gateway, input));
    place?.keep();
    if (place !== undefined) fleet.gateways.left(current.deviceScope);
    return linked(written, gateway);
  } catch (error) {
    place?.giveBack();
    if (error instanceof GatepostError && error.code === 'precondition_failed') return undefined;
    throw error;
  }
}

/** The whole identity, keys included: replacing it without them would make the hub roll them. */
async function identityOf(fleet: Fleet, before: KnownDevice): Promise<DeviceRecord | undefined> {
  return isRecord(before) ? before : fleet.registry.device(before.deviceId);
}

function isRecord(device: KnownDevice): device is DeviceRecord {
  return 'generationId' in device;
}

function isAsAsked(device: KnownDevice, gateway: KnownGateway, input: DeviceInput): boolean {
  return (
    device.deviceScope === gateway.scope &&
    (input.enabled === undefined || input.enabled === (device.status === 'enabled')) &&
    (input.auth === undefined || sameAuthentication(newAuthentication(input.auth), device.authentication))
  );
}

function asAsked(device: DeviceRecord, gateway: KnownGateway, input: DeviceInput): DeviceRecord {
  const asked = input.auth === undefined ? undefined : newAuthentication(input.auth);
  const keeps = asked === undefined || sameAuthentication(asked, device.authentication);
  return {
    ...device,
    deviceScope: gateway.scope,
    ...(input.enabled === undefined ? {} : { status: input.enabled ? 'enabled' : 'disabled' }),
    ...(keeps ? {} : { authentication: asked }),
  };
}

/** The answer of the write is the read-back: a credential is released only for a device that is linked. */
function linked(written: DeviceRecord, gateway: KnownGateway): DeviceRecord {
  if (written.deviceScope === gateway.scope) return written;
  const detail = `IoT Hub took the device but did not put it behind ${gateway.id}. Repeat the call.`;
  throw new GatepostError('upstream_refused', detail);
}
