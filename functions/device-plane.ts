import { z } from 'zod';
import type { AuditPolicy } from '../lib/audit/record.ts';
import { issueSasToken, ttlSchema } from '../lib/credentials/issue.ts';
import { readSubject } from '../lib/credentials/subject.ts';
import { refreshDocument } from '../lib/enrollment/join.ts';
import { currentTrust, onboardingDocumentSchema } from '../lib/enrollment/onboarding-document.ts';
import { GatepostError, type ProblemCode } from '../lib/errors.ts';
import { type Caller, defineRoute, type Route } from '../lib/http/route.ts';
import { portsSchema } from '../lib/identity/gateway-record.ts';
import { idSchema } from '../lib/identity/ids.ts';
import { count } from '../lib/telemetry/metrics.ts';
import { hubProblems } from './policies.ts';
import type { Services } from './services.ts';

const params = z.strictObject({ deviceId: idSchema });
const tag = 'Device';
const problems: readonly ProblemCode[] = [
  'device_not_found',
  'device_is_gateway',
  'device_disabled',
  'device_has_no_gateway',
  'gateway_not_configured',
  'module_not_found',
  'module_managed',
  'credential_mismatch',
  ...hubProblems,
];

/** A device renews what it has: a fault of storage shall not put it out of work, and then the log has the record. */
const renewal: AuditPolicy = {
  action: 'credential.refresh',
  when: 'release',
  otherwise: 'log',
  subject: ({ caller }) => ownIdentity(caller),
};

/** Calls of devices with a SAS token signed by their own key; a module's token speaks for the module. */
export function devicePlaneRoutes(services: Services): Route[] {
  return [
    defineRoute({
      name: 'getOnboarding',
      methods: ['GET'],
      path: 'api/v1/devices/{deviceId}/onboarding',
      summary: 'Fetch trust and gateway data again',
      description:
        'The onboarding document as it is now. Its connection string carries a fresh SAS token and never a key, which the ' +
        'device has already.',
      tag,
      access: { plane: 'device', modules: true },
      params,
      answers: { 200: { description: 'The onboarding document.', schema: onboardingDocumentSchema } },
      problems,
      audit: renewal,
      act: async ({ caller, audit }) => {
        const identity = ownIdentity(caller);
        const [fleet, trust] = await Promise.all([services.fleet(), services.trust().then(currentTrust)]);
        const { document, credential } = await refreshDocument(fleet, identity, trust);
        audit.note({ credential });
        count('gatepost.credentials.issued', { kind: credential, route: 'getOnboarding' });
        return { status: 200, json: document, noStore: true };
      },
    }),
    defineRoute({
      name: 'issueSasToken',
      methods: ['POST'],
      path: 'api/v1/devices/{deviceId}/sas-token',
      summary: 'Get a fresh short-lived SAS token',
      description: 'For a device that gives its tokens to its SDK and keeps its key to itself.',
      tag,
      access: { plane: 'device', modules: true },
      params,
      body: z.strictObject({ ttlSeconds: ttlSchema.optional() }).optional(),
      bodyExample: { ttlSeconds: 3600 },
      answers: {
        200: {
          description: 'The token, and whom it is for.',
          schema: z.object({
            sasToken: z.string().meta({ description: 'Secret.' }),
            expiresAt: z.string(),
            hub: z.object({ hostname: z.string() }),
            gateway: z.object({ id: z.string(), hostname: z.string(), ports: portsSchema }),
          }),
          example: {
            sasToken: 'SharedAccessSignature sr=...&sig=...&se=...',
            expiresAt: '2026-01-02T09:30:00.000Z',
            hub: { hostname: 'plant.azure-devices.net' },
            gateway: {
              id: 'gateway-1',
              hostname: 'gateway-1.plant.example.com',
              ports: { mqtt: 8883, amqp: 5671, websocket: 443 },
            },
          },
        },
      },
      problems,
      audit: renewal,
      act: async ({ caller, body, audit }) => {
        const identity = ownIdentity(caller);
        const subject = await readSubject(await services.fleet(), identity.deviceId, identity.moduleId);
        const { id, hostname, ports } = subject.gateway;
        const issued = issueSasToken(subject, { ttlSeconds: body?.ttlSeconds }, services.clock());
        audit.note({ credential: 'sas' });
        count('gatepost.credentials.issued', { kind: 'sas', route: 'issueSasToken' });
        return {
          status: 200,
          json: {
            ...issued,
            hub: { hostname: subject.hubHostname },
            gateway: { id, hostname, ports },
          },
          noStore: true,
        };
      },
    }),
  ];
}

function ownIdentity(caller: Caller): { deviceId: string; moduleId: string | null } {
  if (caller.plane === 'device') return { deviceId: caller.deviceId, moduleId: caller.moduleId };
  throw new GatepostError('device_token_invalid', "Send the device's own SAS token.");
}
