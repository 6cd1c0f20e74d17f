import type { Route } from '../lib/http/route.ts';
import { healthRoutes } from './health.ts';
import { openApiRoutes } from './openapi.ts';
import { rootRoutes } from './roots.ts';
import type { Services } from './services.ts';
import { trustBundleRoutes } from './trust-bundle.ts';

/** Every route of the API: what is registered with the host and what the OpenAPI document describes. */
export function allRoutes(services: Services): Route[] {
  const routes: Route[] = [
    ...healthRoutes(services),
    ...rootRoutes(services),
    ...trustBundleRoutes(services),
    ...openApiRoutes(() => routes),
  ];
  return routes;
}
