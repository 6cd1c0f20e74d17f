import type { z } from 'zod';

/** Whether a schema refuses fields that it does not know. */
export function isStrict(schema: z.core.$ZodType): boolean {
  const def = (schema as z.core.$ZodTypes)._zod.def;
  switch (def.type) {
    case 'object':
      return def.catchall?._zod.def.type === 'never';
    case 'union':
      return def.options.every(isStrict);
    case 'optional':
    case 'nullable':
    case 'default':
    case 'prefault':
    case 'readonly':
      return isStrict(def.innerType);
    case 'pipe':
      return isStrict(def.in);
    default:
      return false;
  }
}
