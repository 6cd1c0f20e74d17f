import type { Reply } from '../kit/https-server.ts';
import { HubError } from './errors.ts';
import { checkCondition, checkId, readDesired, readObject } from './input.ts';
import { twinEtag } from './model.ts';
import type { HubRegistry } from './registry.ts';

const maxItems = 100;

interface BulkError {
  deviceId: string;
  errorCode: number;
  errorStatus: string;
}

/**
 * `POST /devices`: each item by itself, the results of those that failed in `errors`. Any failure makes the answer a 400
 * that carries the result (azure-iot-sdk-csharp maps 400 to a `BulkRegistryOperationResult`).
 */
export function bulk(registry: HubRegistry, body: unknown): Reply {
  if (!Array.isArray(body) || body.length === 0)
    throw new HubError('ArgumentInvalid', 'The body is no array of devices.');
  if (body.length > maxItems) throw new HubError('TooManyDevices', `A bulk request has at most ${maxItems} devices.`);
  const errors: BulkError[] = [];
  const seen = new Set<unknown>();
  for (const item of body) {
    const given = readObject(item);
    const deviceId = typeof given.id === 'string' ? given.id : '';
    try {
      if (seen.has(deviceId)) throw new HubError('ArgumentInvalid', `Device ${deviceId} is there twice.`);
      seen.add(deviceId);
      applyItem(registry, deviceId, given, 'create');
    } catch (error) {
      if (!(error instanceof HubError)) throw error;
      errors.push({ deviceId, errorCode: error.errorCode, errorStatus: error.message });
    }
  }
  const isSuccessful = errors.length === 0;
  return { status: isSuccessful ? 200 : 400, body: { isSuccessful, errors, warnings: [] } };
}

/**
 * Does what an item's `importMode` asks for. Tags and desired properties come with a new device or by `updateTwin`. Only an
 * import job knows `createOrUpdate`, its default.
 */
export function applyItem(
  registry: HubRegistry,
  id: string,
  given: Record<string, unknown>,
  fallback: 'create' | 'createOrUpdate',
): void {
  checkId(id, undefined, 'device');
  if (given.moduleId !== undefined) throw new HubError('ArgumentInvalid', 'Modules are not changed in bulk here.');
  const mode = String(given.importMode ?? fallback).toLowerCase();
  const known = ['create', 'update', 'updatetwin', 'delete', ...(fallback === 'create' ? [] : ['createorupdate'])];
  const verb = mode.replace(/ifmatchetag$/, '');
  if (!known.includes(verb) || (mode !== verb && verb === 'create')) {
    throw new HubError('ArgumentInvalid', `The importMode '${String(given.importMode)}' is not known.`);
  }
  const old = registry.devices.get(id);
  if (verb === 'create' || (verb === 'createorupdate' && old === undefined)) {
    if (old !== undefined) throw new HubError('DeviceAlreadyExists', `Device ${id} already registered`);
    registry.createDevice(id, given, true);
    return;
  }
  const device = registry.device(id);
  // The REST model names it eTag, azure-iothub leaves it as etag.
  const etag = verb === 'updatetwin' ? given.twinETag : (given.eTag ?? given.etag);
  if (mode !== verb) checkEtag(etag, verb === 'updatetwin' ? twinEtag(device.twin) : device.etag);
  if (verb === 'delete') registry.deleteDevice(id, undefined);
  else if (verb === 'updatetwin') registry.patchTwin(id, null, { tags: given.tags, properties: readDesired(given) });
  else registry.replaceDevice(device, given);
}

function checkEtag(etag: unknown, current: string): void {
  if (typeof etag !== 'string' || etag === '') throw new HubError('ArgumentInvalid', 'The eTag is missing.');
  checkCondition({ etag: etag.replaceAll('"', '') }, current);
}
