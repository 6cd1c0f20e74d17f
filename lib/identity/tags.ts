import { z } from 'zod';

/** The top-level twin tag that Gatepost keeps for itself. */
export const reservedTag = 'gatepost';

const mostBytes = 8192;
const deepest = 10;
const longestString = 4096;
// https://learn.microsoft.com/azure/iot-hub/iot-hub-devguide-device-twins#tags-and-properties-format
const keyPattern = /^[^.$\s\p{Cc}]{1,1024}$/u;

export type Tags = Record<string, unknown>;

/** The caller's own tags: they live beside `gatepost` at the top of the twin's tags, so that hub queries see them. */
export const tagsSchema = z
  .record(z.string(), z.unknown())
  .superRefine((tags, context) => {
    const fault = tagsFault(tags);
    if (fault !== undefined) context.addIssue({ code: 'custom', message: fault.message, path: fault.path });
  })
  .meta({
    description:
      'Tags of the device twin, all of them: a tag that is absent here is removed. Leave the field out to keep them as they ' +
      `are. The tag "${reservedTag}" is reserved.`,
    example: { plant: 'north', line: 4 },
  });

interface TagsFault {
  message: string;
  path: string[];
}

function tagsFault(tags: Tags): TagsFault | undefined {
  if (Object.hasOwn(tags, reservedTag))
    return { message: `The tag "${reservedTag}" is reserved.`, path: [reservedTag] };
  if (Buffer.byteLength(JSON.stringify(tags)) > mostBytes) {
    return { message: `Tags hold at most ${mostBytes} bytes.`, path: [] };
  }
  return valueFault(tags, []);
}

function valueFault(value: unknown, path: string[]): TagsFault | undefined {
  if (value === null) return { message: 'A tag has no null: leave it out to remove it.', path };
  if (typeof value === 'string' && Buffer.byteLength(value) > longestString) {
    return { message: `A text in a tag has at most ${longestString} bytes.`, path };
  }
  if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)) {
    return { message: 'The number is out of range.', path };
  }
  if (typeof value !== 'object') return undefined;
  if (path.length >= deepest) return { message: `Tags are at most ${deepest} levels deep.`, path };
  for (const [key, inner] of Object.entries(value)) {
    if (!Array.isArray(value) && !keyPattern.test(key)) {
      return { message: 'A tag name has no dot, dollar sign, blank or control character.', path: [...path, key] };
    }
    const fault = valueFault(inner, [...path, key]);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

/** The tags of a twin that are the caller's. */
export function userTags(tags: Tags): Tags {
  return Object.fromEntries(Object.entries(tags).filter(([name]) => name !== reservedTag));
}

/** The merge patch (RFC 7396) that turns one object into another, or undefined when they are the same. */
export function mergePatch(from: Tags, to: Tags): Tags | undefined {
  const patch: Tags = {};
  for (const name of Object.keys(from)) if (!Object.hasOwn(to, name)) patch[name] = null;
  for (const [name, wanted] of Object.entries(to)) {
    const present = from[name];
    if (isObject(wanted) && isObject(present)) {
      const inner = mergePatch(present, wanted);
      if (inner !== undefined) patch[name] = inner;
    } else if (JSON.stringify(wanted) !== JSON.stringify(present)) patch[name] = wanted;
  }
  return Object.keys(patch).length === 0 ? undefined : patch;
}

function isObject(value: unknown): value is Tags {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
