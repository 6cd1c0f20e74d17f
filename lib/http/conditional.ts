import { GatepostError } from '../errors.ts';

/** A strong entity tag (RFC 9110 section 8.8.3) of an opaque value that holds no quote. */
export function strongEtag(value: string): string {
  return `"${value.replaceAll('"', '')}"`;
}

/** The opaque value inside a strong entity tag, as an upstream that wants it bare takes it. */
export function bareEtag(tag: string): string {
  return tag.replace(/^W\//, '').replace(/^"(.*)"$/, '$1');
}

/** Whether an If-None-Match list names the tag, by weak comparison (RFC 9110 section 13.1.2). */
export function noneMatchHits(header: string | undefined, etag: string): boolean {
  return header !== undefined && tagsOf(header).some((tag) => tag === '*' || opaque(tag) === opaque(etag));
}

/**
 * Refuses the call where If-Match is given and does not name the current tag, by strong comparison (RFC 9110
 * section 13.1.1). `etag` undefined says that there is no such resource yet.
 */
export function requireMatch(header: string | undefined, etag: string | undefined): void {
  if (header === undefined) return;
  const hit = tagsOf(header).some((tag) => (tag === '*' ? etag !== undefined : tag === etag && !tag.startsWith('W/')));
  if (hit) return;
  const detail =
    etag === undefined
      ? 'If-Match was sent but there is no such resource: send the call without it to create one.'
      : 'Read the resource again, apply the change to what is there now, and send its new ETag as If-Match.';
  throw new GatepostError('precondition_failed', detail);
}

function tagsOf(header: string): string[] {
  return header.match(/\*|(?:W\/)?"[^"]*"/g) ?? [];
}

function opaque(tag: string): string {
  return tag.startsWith('W/') ? tag.slice(2) : tag;
}
