import type { Reply } from '../kit/https-server.ts';
import { HubError } from './errors.ts';
import { checkCondition, checkId, type HubRegistry, readObject } from './registry.ts';

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
      apply(registry, deviceId, given);
    } catch (error) {
      if (!(error instanceof HubError)) throw error;
      errors.push({ deviceId, errorCode: error.errorCode, errorStatus: error.message });
    }
  }
  const isSuccessful = errors.length === 0;
  return { status: isSuccessful ? 200 : 400, body: { isSuccessful, errors, warnings: [] } };
}

function apply(registry: HubRegistry, id: string, given: Record<string, unknown>): void {
  checkId(id, undefined, 'device');
  if (given.moduleId !== undefined) throw new HubError('ArgumentInvalid', 'Modules are not changed in bulk here.');
  const mode = String(given.importMode ?? 'create').toLowerCase();
  const isConditional = mode.endsWith('ifmatchetag');
  // The REST model names it eTag, azure-iothub leaves it as etag.
  const etag = given.eTag ?? given.etag;
  const checkEtag = (current: string): void => {
    if (!isConditional) return;
    if (typeof etag !== 'string' || etag === '') throw new HubError('ArgumentInvalid', 'The eTag is missing.');
    checkCondition({ etag: etag.replaceAll('"', '') }, current);
  };
  switch (mode) {
    case 'create':
      if (registry.devices.has(id)) throw new HubError('DeviceAlreadyExists', `Device ${id} already registered`);
      registry.createDevice(id, given, true);
      return;
    case 'update':
    case 'updateifmatchetag': {
      const device = registry.device(id);
      checkEtag(device.etag);
      registry.replaceDevice(device, given);
      return;
    }
    case 'delete':
    case 'deleteifmatchetag':
      checkEtag(registry.device(id).etag);
      registry.deleteDevice(id, undefined);
      return;
    default:
      throw new HubError('ArgumentInvalid', `The importMode '${String(given.importMode)}' is not known.`);
  }
}
