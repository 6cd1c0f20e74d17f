import { GatepostError } from '../errors.ts';
import { type DeviceInput, type DeviceView, describeDevice } from './device-record.ts';
import type { Fleet } from './fleet.ts';
import { childrenOf } from './gateway-cache.ts';
import type { Described } from './gateway-record.ts';
import { type PutAnswer, scopeOfGateway } from './gateways.ts';
import { isGateway, linkDevice } from './link-device.ts';
import type { Page, TwinRecord } from './registry.ts';
import { type Conditions, requireConditions } from './settings-etag.ts';
import { mergePatch, type Tags, userTags } from './tags.ts';

const mostTries = 5;

/** Creates, adopts, moves or changes a device. Repeated, it changes nothing and costs one read. */
export async function putDevice(
  fleet: Fleet,
  deviceId: string,
  input: DeviceInput,
  conditions: Conditions,
): Promise<PutAnswer<DeviceView>> {
  let seen: TwinRecord | undefined;
  const linked = await linkDevice<TwinRecord>(fleet, deviceId, input, {
    // A twin tells all but the keys, and twin reads are sixty times as plentiful as registry reads.
    read: async () => {
      seen = await fleet.registry.twin(deviceId);
      return seen;
    },
    check: (current) =>
      requireConditions(conditions, current === undefined ? undefined : describeDevice(current, seen?.tags ?? {}).etag),
    readFirst: conditions.ifMatch !== undefined,
  });
  const before = linked.created ? undefined : linked.before;
  const tags = await writeTags(fleet, deviceId, input.tags, before, conditions.ifMatch !== undefined);
  const state = linked.written ?? linked.before;
  if (state === undefined) throw new GatepostError('internal', 'A device was neither found nor made.');
  return { ...describeDevice(state, tags), created: linked.created };
}

/**
 * Makes the caller's tags be exactly `wanted`; undefined keeps them. Answers the tags as they are then.
 *
 * @param onlyOver throws `precondition_failed` where the tags are no longer those of `before`.
 */
export async function writeTags(
  fleet: Fleet,
  deviceId: string,
  wanted: Tags | undefined,
  before: TwinRecord | undefined,
  onlyOver = false,
): Promise<Tags> {
  let twin = before;
  for (let tries = 0; tries < mostTries; tries += 1) {
    const present = userTags(twin?.tags ?? {});
    const patch = wanted === undefined ? undefined : mergePatch(present, wanted);
    if (patch === undefined) return twin?.tags ?? {};
    try {
      return (await fleet.registry.patchTags(deviceId, patch, twin?.etag)).tags;
    } catch (error) {
      if (!(error instanceof GatepostError) || error.code !== 'precondition_failed') throw error;
      twin = await fleet.registry.twin(deviceId);
      if (onlyOver && mergePatch(userTags(before?.tags ?? {}), userTags(twin?.tags ?? {})) !== undefined) throw error;
    }
  }
  throw new GatepostError('precondition_failed', 'The tags are being changed by others right now. Try again.');
}

/** Throws `device_not_found`, also for an Edge device: those are gateways. */
export async function getDevice(fleet: Fleet, deviceId: string): Promise<Described<DeviceView>> {
  const twin = await fleet.registry.twin(deviceId);
  if (twin === undefined || twin.isEdge) throw deviceNotFound(deviceId);
  return describeDevice(twin, twin.tags);
}

/** The devices, or those behind one gateway. */
export async function listDevices(
  fleet: Fleet,
  gatewayId: string | undefined,
  page: { size: number; continuation?: string },
): Promise<Page<DeviceView>> {
  const behind = gatewayId === undefined ? '' : ` AND ${childrenOf(await scopeOfGateway(fleet, gatewayId))}`;
  const { rows, continuation } = await fleet.registry.queryTwins(`capabilities.iotEdge = false${behind}`, page);
  const devices = rows.map((twin) => describeDevice(twin, twin.tags).view);
  return { rows: devices, ...(continuation === undefined ? {} : { continuation }) };
}

/** Deletes the identity with its modules. Throws `device_not_found`, `device_is_gateway` or `precondition_failed`. */
export async function deleteDevice(fleet: Fleet, deviceId: string, ifMatch: string | undefined): Promise<void> {
  const twin = await fleet.registry.twin(deviceId);
  if (twin === undefined) throw deviceNotFound(deviceId);
  if (twin.isEdge) throw isGateway(deviceId);
  requireConditions({ ifMatch }, describeDevice(twin, twin.tags).etag);
  const etag = ifMatch === undefined ? undefined : (await fleet.registry.device(deviceId))?.etag;
  const wasThere = await fleet.registry.deleteDevice(deviceId, etag);
  fleet.seen.delete(deviceId);
  fleet.gateways.left(twin.deviceScope);
  if (!wasThere) throw deviceNotFound(deviceId);
}

export function deviceNotFound(deviceId: string): GatepostError {
  return new GatepostError('device_not_found', `PUT /api/v1/devices/${deviceId} makes it.`);
}
