import type { Route } from '../lib/http/route.ts';
import { auditRoutes } from './audit.ts';
import { credentialsRoutes } from './credentials.ts';
import { devicePlaneRoutes } from './device-plane.ts';
import { devicesRoutes } from './devices.ts';
import { gatewaysRoutes } from './gateways.ts';
import { healthRoutes } from './health.ts';
import { joinRoutes } from './join.ts';
import { modulesRoutes } from './modules.ts';
import { onboardingRoutes } from './onboarding.ts';
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
    ...gatewaysRoutes(services),
    ...devicesRoutes(services),
    ...modulesRoutes(services),
    ...onboardingRoutes(services),
    ...credentialsRoutes(services),
    ...joinRoutes(services),
    ...devicePlaneRoutes(services),
    ...auditRoutes(services),
    ...openApiRoutes(() => routes),
  ];
  return routes;
}
