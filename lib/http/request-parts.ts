import { GatepostError } from '../errors.ts';
import type { Route } from './route.ts';

/** The host decodes every escape of a route value but `%2F` (ASP.NET Core keeps it, so that it splits no segment). */
export function pathParams(route: Route, given: Record<string, string>): Record<string, string> {
  const names = Object.keys(route.params?.shape ?? {});
  return Object.fromEntries(names.map((name) => [name, (given[name] ?? '').replace(/%2f/gi, '/')]));
}

/** A repeated key is refused, since the host and its front ends do not agree on what it means. */
export function queryOf(url: URL): Record<string, string> {
  const query: Record<string, string> = {};
  for (const [name, value] of url.searchParams) {
    // The platform's own parameter for a function key: no business of any route.
    if (name === 'code') continue;
    if (Object.hasOwn(query, name)) {
      const errors = [{ pointer: `query/${name}`, detail: 'Give this parameter once.' }];
      throw new GatepostError('invalid_request', `query/${name}: give this parameter once.`, { errors });
    }
    query[name] = value;
  }
  return query;
}
