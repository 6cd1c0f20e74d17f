import { createHash } from 'node:crypto';
import { GatepostError } from '../errors.ts';
import { requireMatch, strongEtag } from '../http/conditional.ts';

/** The conditions that a caller put on a write. */
export interface Conditions {
  ifMatch?: string | undefined;
  ifNoneMatch?: string | undefined;
}

/**
 * The entity tag of a resource that the hub keeps in two objects (identity and twin), each with an etag of its own: a hash
 * over its settings, so that it needs no read beyond the one that gave the settings. What moves by itself (connection,
 * counts) stays out. The hub's own etags guard the writes, each its own object: of two writes at the same moment by the same
 * tag, one that changes the identity only and one that changes the tags only can both pass, as no hub call spans the two.
 */
export function settingsEtag(settings: unknown): string {
  return strongEtag(createHash('sha256').update(canonical(settings)).digest('base64url').slice(0, 22));
}

/** Throws `precondition_failed` where If-Match or If-None-Match forbids the write; `etag` undefined: there is none yet. */
export function requireConditions(conditions: Conditions, etag: string | undefined): void {
  requireMatch(conditions.ifMatch, etag);
  if (conditions.ifNoneMatch?.trim() === '*' && etag !== undefined) {
    throw new GatepostError('precondition_failed', 'If-None-Match: * was sent and the resource exists already.');
  }
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => {
    if (typeof inner !== 'object' || inner === null || Array.isArray(inner)) return inner;
    return Object.fromEntries(Object.entries(inner).sort(([one], [other]) => (one < other ? -1 : 1)));
  });
}
