import { currentTraceparent } from '../telemetry/activity.ts';

interface Request {
  headers: { set(name: string, value: string): void };
}

/**
 * Sends the trace on to an Azure service, where its own logs show it. The SDKs have a policy for this, which asks for an
 * instrumentation that patches modules as they are loaded, and in a bundle none are.
 */
export const traceparentPolicy = {
  position: 'perCall',
  policy: {
    name: 'gatepostTraceparent',
    sendRequest<A>(request: Request, next: (request: Request) => Promise<A>): Promise<A> {
      const traceparent = currentTraceparent();
      if (traceparent !== undefined) request.headers.set('traceparent', traceparent);
      return next(request);
    },
  },
} as const;
