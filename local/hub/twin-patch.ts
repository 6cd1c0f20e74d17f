import { HubError } from './errors.ts';
import type { Metadata, Twin, TwinObject, TwinProperties } from './model.ts';

// learn.microsoft.com, *Understand and use device twins in IoT Hub*, "Device twin size" and "Tags and properties format".
const tagsLimit = 8 * 1024;
const propertiesLimit = 32 * 1024;
const maxDepth = 10;
const maxKeyBytes = 1024;
const maxStringBytes = 4096;

/** Applies the service's patch `{tags?, properties?: {desired?}}`; answers the desired patch to push, if there is one. */
export function patchTwin(twin: Twin, patch: unknown, now: string): TwinObject | undefined {
  const { tags, properties } = readObject(patch, 'twin');
  const { desired, reported } = properties === undefined ? {} : readObject(properties, 'properties');
  if (reported !== undefined) {
    throw new HubError('ArgumentInvalid', 'Reported properties can be written by the device only.');
  }
  const newTags = tags === undefined || tags === null ? undefined : merge(twin.tags, check(tags, 'tags'));
  if (newTags !== undefined) limit(newTags, tagsLimit, 'tags');
  const desiredPatch = desired === undefined || desired === null ? undefined : check(desired, 'properties.desired');
  const newDesired = desiredPatch && patchProperties(twin.desired, desiredPatch, now, true);
  if (newTags === undefined && newDesired === undefined) return undefined;
  if (newTags !== undefined) twin.tags = newTags;
  if (newDesired !== undefined) twin.desired = newDesired;
  twin.revision += 1;
  twin.version += 1;
  return newDesired && { ...desiredPatch, $version: newDesired.version };
}

/** Applies the device's patch of its reported properties and answers their new version. */
export function patchReported(twin: Twin, patch: unknown, now: string): number {
  twin.reported = patchProperties(twin.reported, check(patch, 'properties.reported'), now, false);
  twin.version += 1;
  return twin.reported.version;
}

function patchProperties(old: TwinProperties, patch: TwinObject, now: string, versioned: boolean): TwinProperties {
  const values = merge(old.values, patch);
  limit(values, propertiesLimit, 'properties');
  const version = old.version + 1;
  const stamp: Metadata = { $lastUpdated: now, ...(versioned && { $lastUpdatedVersion: version }) };
  return { values, metadata: mergeMetadata(old.metadata, patch, values, stamp), version };
}

/** RFC 7396: objects are merged, null removes. */
function merge(target: TwinObject, patch: TwinObject): TwinObject {
  const merged: TwinObject = { ...target };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete merged[name];
    else if (isObject(value)) merged[name] = merge(isObject(merged[name]) ? merged[name] : {}, value);
    else merged[name] = value;
  }
  return merged;
}

function mergeMetadata(old: Metadata, patch: TwinObject, values: TwinObject, stamp: Metadata): Metadata {
  const merged: Metadata = { ...old, ...stamp };
  for (const [name, value] of Object.entries(patch)) {
    const written = values[name];
    if (written === undefined) delete merged[name];
    else if (isObject(value) && isObject(written)) {
      const before = isObject(merged[name]) ? (merged[name] as Metadata) : { ...stamp };
      merged[name] = mergeMetadata(before, value, written, stamp);
    } else merged[name] = { ...stamp };
  }
  return merged;
}

/** Checks names and values, and takes away `$version` and `$metadata`, which a client may send back as it read them. */
function check(given: unknown, path: string): TwinObject {
  const { $version: _version, $metadata: _metadata, ...patch } = readObject(given, path);
  checkObject(patch, path, 1);
  return patch;
}

function checkObject(value: TwinObject, path: string, depth: number): void {
  if (depth > maxDepth) throw new HubError('ArgumentInvalid', `'${path}' is deeper than ${maxDepth} levels.`);
  for (const [name, child] of Object.entries(value)) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused.
    if (name === '' || Buffer.byteLength(name) > maxKeyBytes || /[\u0000-\u001f\u007f-\u009f.$ ]/.test(name)) {
      throw new HubError('ArgumentInvalid', `'${path}' has a key that is not allowed: '${name}'.`);
    }
    checkValue(child, `${path}.${name}`, depth);
  }
}

function checkValue(value: unknown, path: string, depth: number): void {
  if (typeof value === 'string' && Buffer.byteLength(value) > maxStringBytes) {
    throw new HubError('ArgumentInvalid', `The text at '${path}' is longer than ${maxStringBytes} bytes.`);
  }
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) {
    throw new HubError('ArgumentInvalid', `The number at '${path}' is out of range.`);
  }
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) checkValue(item, `${path}[${index}]`, depth + 1);
  } else if (isObject(value)) checkObject(value, path, depth + 1);
}

function limit(value: TwinObject, bytes: number, what: string): void {
  if (Buffer.byteLength(JSON.stringify(value)) <= bytes) return;
  throw new HubError('ArgumentInvalid', `The ${what} would be larger than ${bytes} bytes.`);
}

function readObject(value: unknown, what: string): TwinObject {
  if (!isObject(value)) throw new HubError('ArgumentInvalid', `'${what}' is no object.`);
  return value;
}

function isObject(value: unknown): value is TwinObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
