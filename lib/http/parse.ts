import type { z } from 'zod';
import { GatepostError, type ProblemField } from '../errors.ts';

type Place = 'path' | 'query' | 'body';

/**
 * Parses one part of a request; throws `invalid_request` that lists every fault with its pointer. A pointer into the body
 * is a JSON pointer (RFC 6901); one into the path or the query is `path/NAME` or `query/NAME`.
 */
export function parsePart<S extends z.ZodType>(schema: S, value: unknown, place: Place): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const errors = result.error.issues.flatMap((issue) => fieldsOf(issue, place));
  const first = errors[0];
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more, see errors)` : '';
  const where = first === undefined || first.pointer === '' ? 'the body' : first.pointer;
  throw new GatepostError('invalid_request', `${where}: ${first?.detail ?? 'not as expected'}${more}`, { errors });
}

function fieldsOf(issue: z.core.$ZodIssue, place: Place): ProblemField[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      pointer: pointerTo(place, [...issue.path, key]),
      detail: 'This field is not known here.',
    }));
  }
  if (issue.code === 'invalid_union') return unionFields(issue, place);
  return [{ pointer: pointerTo(place, issue.path), detail: issue.message }];
}

/** Of the alternatives that all failed, the one with the fewest faults is what the caller most likely meant. */
function unionFields(issue: z.core.$ZodIssueInvalidUnion, place: Place): ProblemField[] {
  const [nearest] = [...issue.errors].sort((one, other) => one.length - other.length);
  if (nearest === undefined || nearest.length === 0) {
    return [{ pointer: pointerTo(place, issue.path), detail: issue.message }];
  }
  return nearest.flatMap((inner) => fieldsOf({ ...inner, path: [...issue.path, ...inner.path] }, place));
}

function pointerTo(place: Place, path: readonly PropertyKey[]): string {
  const steps = path.map((step) => String(step).replaceAll('~', '~0').replaceAll('/', '~1'));
  if (place === 'body') return steps.map((step) => `/${step}`).join('');
  return [place, ...steps].join('/');
}
