import type { Route } from '../lib/http/route.ts';
import { healthRoutes } from './health.ts';
import type { Services } from './services.ts';

/** Every route of the API: what is registered with the host and what the OpenAPI document describes. */
export function allRoutes(_services: Services): Route[] {
  return [...healthRoutes()];
}
