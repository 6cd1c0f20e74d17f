import { z } from 'zod';
import { GatepostError } from '../errors.ts';

export const mostPageSize = 1000;

/** The query parameters of a list. */
export const pageQueryShape = {
  pageSize: z.coerce.number().int().min(1).max(mostPageSize).default(100),
  continuation: z
    .string()
    .max(8192)
    .optional()
    .meta({ description: 'As nextLink has it: it has no meaning of its own.' }),
};

export interface PageRequest {
  size: number;
  continuation?: string;
}

/**
 * What to ask the service behind for. `list` names the list and its filter, so that the token of one list is refused by
 * another. Throws `invalid_request`.
 */
export function pageRequest(query: { pageSize: number; continuation?: string | undefined }, list: string): PageRequest {
  if (query.continuation === undefined) return { size: query.pageSize };
  const continuation = readToken(query.continuation, list);
  if (continuation !== undefined) return { size: query.pageSize, continuation };
  const detail = 'Follow nextLink as it was answered: this continuation is not of this list.';
  throw new GatepostError('invalid_request', `query/continuation: ${detail}`, {
    errors: [{ pointer: 'query/continuation', detail }],
  });
}

/** The answer of a list: `nextLink` only where there is more. */
export function pageAnswer<T>(
  page: { rows: T[]; continuation?: string },
  url: URL,
  list: string,
): { value: T[]; nextLink?: string } {
  if (page.continuation === undefined) return { value: page.rows };
  const next = new URL(url);
  const token = JSON.stringify([list, page.continuation]);
  next.searchParams.set('continuation', Buffer.from(token).toString('base64url'));
  // A function key is a secret of the caller.
  next.searchParams.delete('code');
  return { value: page.rows, nextLink: next.href };
}

export function pageSchema<S extends z.ZodType>(item: S) {
  return z.object({ value: z.array(item), nextLink: z.string().optional() });
}

function readToken(text: string, list: string): string | undefined {
  try {
    const [of, token]: unknown[] = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
    // It goes out in a header: nothing may end the header early.
    return of === list && typeof token === 'string' && /^[\x20-\x7e]+$/.test(token) ? token : undefined;
  } catch {
    return undefined;
  }
}
