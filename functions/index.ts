import { app } from '@azure/functions';
import { serve } from '../lib/http/serve.ts';
import { runActivity } from '../lib/telemetry/activity.ts';
import { parseTraceparent } from '../lib/telemetry/trace-context.ts';
import { createLog } from '../lib/telemetry.ts';
import { authenticator } from './authenticator.ts';
import { allRoutes } from './routes.ts';
import { createServices } from './services.ts';
import { telemetry } from './telemetry.ts';
import { allTimers } from './timers.ts';

const services = createServices(process.env);
const told = telemetry(services);
const authenticate = authenticator(services);

for (const route of allRoutes(services)) {
  const handler = serve(route, authenticate, services);
  // The host's own keys are shared secrets without an identity: who may call is decided by the route's policy, in serve().
  app.http(route.name, {
    methods: [...route.methods],
    route: route.path,
    authLevel: 'anonymous',
    handler: (request, context) => handler(request, context).finally(told.answered),
  });
}

for (const { name, schedule, run } of allTimers(services)) {
  app.timer(name, {
    schedule,
    // A fault of a service behind this one lasts minutes, and the next time is far off.
    retry: { strategy: 'fixedDelay', maxRetryCount: 4, delayInterval: { minutes: 2 } },
    handler: (_timer, context) => {
      const { invocationId, traceContext } = context;
      const log = (correlationId: string) =>
        createLog((level, line) => context[level](line), { invocationId, correlationId });
      const parent = parseTraceparent(traceContext?.traceParent);
      return runActivity({ name, parent, log }, (activity) => run(activity.log)).finally(told.answered);
    },
  });
}

app.hook.appTerminate(() => told.stop());
