import { z } from 'zod';
import type { AuditPolicy } from '../lib/audit/record.ts';
import { credentialRequestSchema, issueCredential, whichKeySchema } from '../lib/credentials/issue.ts';
import { rotateKey, rotationSchema } from '../lib/credentials/rotate-key.ts';
import { readSubject } from '../lib/credentials/subject.ts';
import type { ProblemCode } from '../lib/errors.ts';
import { defineRoute, type Route } from '../lib/http/route.ts';
import { idSchema } from '../lib/identity/ids.ts';
import { count } from '../lib/telemetry/metrics.ts';
import { credentialIssuers, hubProblems } from './policies.ts';
import type { Services } from './services.ts';

const tag = 'Credentials';
const issued = z.object({
  connectionString: z.string().meta({ description: 'Secret. Names the hub and the gateway.' }),
  expiresAt: z.string().nullable().meta({ description: 'When its SAS token expires; null for the others.' }),
});
const issuedExample = {
  connectionString:
    'HostName=plant.azure-devices.net;DeviceId=press-4;SharedAccessKey=...;GatewayHostName=gateway-1.plant.example.com',
  expiresAt: null,
};
const rotationExample = {
  id: 'press-4',
  rotated: 'secondary',
  kept: 'primary',
  rotatedAt: '2026-01-02T08:30:00.000Z',
  note: 'When gateways notice.',
};
const issueProblems: readonly ProblemCode[] = [
  'device_not_found',
  'device_is_gateway',
  'device_disabled',
  'device_has_no_gateway',
  'gateway_not_configured',
  'credential_mismatch',
  ...hubProblems,
];

/** Recorded before it goes out. */
const issuing: AuditPolicy = {
  action: 'credential.issue',
  when: 'release',
  subject: ({ params, body }) => ({
    deviceId: params.deviceId,
    moduleId: params.moduleId,
    credential: body.credential,
  }),
};

export function credentialsRoutes(services: Services): Route[] {
  return [
    defineRoute({
      name: 'issueConnectionString',
      methods: ['POST'],
      path: 'api/v1/devices/{deviceId}/connection-string',
      summary: 'Issue a gateway-aware connection string',
      description:
        'SDKs in general use the gateway only with the credential "key": the Node SDK leaves it out for "sas" and "x509", which ' +
        'gatepost-device mends.',
      tag,
      access: credentialIssuers,
      params: z.strictObject({ deviceId: idSchema }),
      body: credentialRequestSchema,
      bodyExample: { credential: 'key' },
      answers: { 200: { description: 'The connection string.', schema: issued, example: issuedExample } },
      problems: issueProblems,
      audit: issuing,
      act: async ({ params: { deviceId }, body, log }) => {
        const subject = await readSubject(await services.fleet(), deviceId, null);
        const credential = issueCredential(subject, body, services.clock());
        log.info('credential_issued', { deviceId, kind: body.credential });
        count('gatepost.credentials.issued', { kind: body.credential, route: 'issueConnectionString' });
        return { status: 200, json: credential, noStore: true };
      },
    }),
    defineRoute({
      name: 'issueModuleConnectionString',
      methods: ['POST'],
      path: 'api/v1/devices/{deviceId}/modules/{moduleId}/connection-string',
      summary: 'Issue a gateway-aware connection string of a module',
      tag,
      access: credentialIssuers,
      params: z.strictObject({ deviceId: idSchema, moduleId: idSchema }),
      body: credentialRequestSchema,
      bodyExample: { credential: 'key' },
      answers: { 200: { description: 'The connection string.', schema: issued, example: issuedExample } },
      problems: [...issueProblems, 'module_not_found', 'module_managed'],
      audit: issuing,
      act: async ({ params: { deviceId, moduleId }, body, log }) => {
        const subject = await readSubject(await services.fleet(), deviceId, moduleId);
        const credential = issueCredential(subject, body, services.clock());
        log.info('credential_issued', { deviceId, moduleId, kind: body.credential });
        count('gatepost.credentials.issued', { kind: body.credential, route: 'issueModuleConnectionString' });
        return { status: 200, json: credential, noStore: true };
      },
    }),
    defineRoute({
      name: 'rotateKey',
      methods: ['POST'],
      path: 'api/v1/devices/{deviceId}/keys/rotate',
      summary: 'Roll one key of a device and keep the other',
      tag,
      access: credentialIssuers,
      params: z.strictObject({ deviceId: idSchema }),
      body: z.strictObject({ key: whichKeySchema }),
      bodyExample: { key: 'secondary' },
      answers: {
        200: {
          description: 'It was rolled. No key is in the answer.',
          schema: rotationSchema,
          example: rotationExample,
        },
      },
      problems: ['device_not_found', 'device_is_gateway', 'credential_mismatch', 'precondition_failed', ...hubProblems],
      audit: { action: 'key.rotate', when: 'change', subject: ({ params }) => ({ deviceId: params.deviceId }) },
      act: async ({ params: { deviceId }, body, log }) => {
        const rotation = await rotateKey(await services.fleet(), deviceId, body.key, services.newDeviceKey);
        log.info('key_rotated', { deviceId });
        return { status: 200, json: rotation };
      },
    }),
  ];
}
