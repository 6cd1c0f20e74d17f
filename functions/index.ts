import { app } from '@azure/functions';
import { serve } from '../lib/http/route.ts';
import { authenticator } from './authenticator.ts';
import { allRoutes } from './routes.ts';
import { createServices } from './services.ts';

const services = createServices(process.env);
const authenticate = authenticator(services);

for (const route of allRoutes(services)) {
  const handler = serve(route, authenticate);
  // The host's own keys are shared secrets without an identity: who may call is decided by the route's policy, in serve().
  app.http(route.name, { methods: [...route.methods], route: route.path, authLevel: 'anonymous', handler });
}
