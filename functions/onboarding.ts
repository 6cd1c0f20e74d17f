import { z } from 'zod';
import { onboard, onboardInputSchema } from '../lib/enrollment/onboard.ts';
import { currentTrust, onboardingDocumentSchema } from '../lib/enrollment/onboarding-document.ts';
import { defineRoute, type Route } from '../lib/http/route.ts';
import { idSchema } from '../lib/identity/ids.ts';
import { count } from '../lib/telemetry/metrics.ts';
import { fleetWriters, hubProblems } from './policies.ts';
import type { Services } from './services.ts';

export function onboardingRoutes(services: Services): Route[] {
  return [
    defineRoute({
      name: 'onboardDevice',
      methods: ['POST'],
      path: 'api/v1/devices/{deviceId}/onboard',
      summary: 'The one call: identity, parent and trust, answered as one document',
      description:
        'Creates or adopts the device, puts it behind its gateway, makes its modules, and answers everything that the device ' +
        'needs. Repeat it as often as you like: it answers the same document and finishes what a lost call left half-done.',
      tag: 'Onboarding',
      access: fleetWriters,
      params: z.strictObject({ deviceId: idSchema }),
      body: onboardInputSchema,
      bodyExample: { gateway: 'gateway-1' },
      answers: {
        200: { description: 'The device was there.', schema: onboardingDocumentSchema },
        201: { description: 'The device was made.', schema: onboardingDocumentSchema },
      },
      problems: [
        'device_is_gateway',
        'device_disabled',
        'gateway_not_found',
        'gateway_not_edge',
        'gateway_not_configured',
        'gateway_disabled',
        'gateway_full',
        'credential_mismatch',
        'module_managed',
        'precondition_failed',
        'quota_exceeded',
        ...hubProblems,
      ],
      audit: {
        action: 'device.onboard',
        when: 'change',
        subject: ({ params: { deviceId }, body }) => ({
          deviceId,
          gatewayId: body.gateway,
          credential: body.credential,
        }),
      },
      // It gives credentials out too, but needs no role of that name.
      limit: 'caller',
      act: async ({ params: { deviceId }, body, log, audit }) => {
        const [fleet, trust] = await Promise.all([services.fleet(), services.trust().then(currentTrust)]);
        const { created, document, credential } = await onboard(fleet, deviceId, body, trust);
        audit.note({ credential });
        log.info('device_onboarded', {
          deviceId,
          gatewayId: body.gateway,
          kind: credential,
          status: created ? 201 : 200,
        });
        count('gatepost.onboardings', { created });
        count('gatepost.credentials.issued', { kind: credential, route: 'onboardDevice' });
        return { status: created ? 201 : 200, json: document, noStore: true };
      },
    }),
  ];
}
