/** A part of a device twin: nested objects of JSON values. */
export type Properties = { [name: string]: unknown };

/** `base` with `patch` applied as twins do it: null removes, objects merge, everything else replaces. */
export function mergePatch(base: Properties, patch: Properties, nulls: 'remove' | 'keep nulls' = 'remove'): Properties {
  const merged = { ...base };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null && nulls === 'remove') delete merged[name];
    else if (isObject(value)) merged[name] = mergePatch(isObject(merged[name]) ? merged[name] : {}, value, nulls);
    else merged[name] = value;
  }
  return merged;
}

/** The patch that makes `after` of `before`; it always carries the `$version` of `after`. */
export function patchBetween(before: Properties, after: Properties): Properties {
  const patch: Properties = {};
  for (const name of Object.keys(before)) if (!(name in after)) patch[name] = null;
  for (const [name, value] of Object.entries(after)) {
    const old = before[name];
    if (isObject(value) && isObject(old)) {
      const inner = patchBetween(old, value);
      if (Object.keys(inner).length > 0) patch[name] = inner;
    } else if (JSON.stringify(value) !== JSON.stringify(old)) {
      patch[name] = value;
    }
  }
  if ('$version' in after) patch.$version = after.$version;
  return patch;
}

export function versionOf(properties: Properties): number {
  return typeof properties.$version === 'number' ? properties.$version : 0;
}

function isObject(value: unknown): value is Properties {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
