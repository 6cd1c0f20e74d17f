import { z } from 'zod';
import { type CredentialKind, credentialKindSchema } from '../lib/credentials/issue.ts';
import { issueJoinToken, redeemJoinToken } from '../lib/enrollment/join.ts';
import { type Grant, joinTtlSchema } from '../lib/enrollment/join-tokens.ts';
import { currentTrust, onboardingDocumentSchema } from '../lib/enrollment/onboarding-document.ts';
import { GatepostError } from '../lib/errors.ts';
import { defineRoute, type Route } from '../lib/http/route.ts';
import { idSchema } from '../lib/identity/ids.ts';
import { count } from '../lib/telemetry/metrics.ts';
import { credentialIssuers, hubProblems } from './policies.ts';
import type { Services } from './services.ts';

export function joinRoutes(services: Services): Route[] {
  return [
    defineRoute({
      name: 'issueJoinToken',
      methods: ['POST'],
      path: 'api/v1/devices/{deviceId}/join-token',
      summary: 'Issue a one-time token with which one device fetches its own onboarding document',
      tag: 'Onboarding',
      access: credentialIssuers,
      params: z.strictObject({ deviceId: idSchema }),
      body: z
        .strictObject({
          ttlSeconds: joinTtlSchema.optional(),
          moduleId: idSchema.optional(),
          credential: credentialKindSchema.optional(),
        })
        .optional(),
      bodyExample: { ttlSeconds: 600 },
      answers: {
        201: {
          description: 'The token. Only its SHA-256 is kept.',
          schema: z.object({ token: z.string().meta({ description: 'Secret.' }), expiresAt: z.string() }),
          example: { token: 'the token, to be kept secret', expiresAt: '2026-01-02T08:40:00.000Z' },
        },
      },
      problems: [
        'device_not_found',
        'device_is_gateway',
        'device_disabled',
        'device_has_no_gateway',
        'gateway_not_configured',
        'module_not_found',
        'module_managed',
        'credential_mismatch',
        ...hubProblems,
      ],
      audit: {
        action: 'join_token.issue',
        when: 'change',
        subject: ({ params: { deviceId }, body }) => ({
          deviceId,
          moduleId: body?.moduleId,
          credential: body?.credential,
        }),
      },
      act: async ({ params: { deviceId }, body, log }) => {
        const [fleet, tokens] = await Promise.all([services.fleet(), services.joinTokens()]);
        const { token, expiresAt } = await issueJoinToken(fleet, tokens, deviceId, body ?? {});
        log.info('join_token_issued', { deviceId });
        count('gatepost.join_tokens.issued', {});
        return { status: 201, json: { token: token.reveal(), expiresAt }, noStore: true };
      },
    }),
    defineRoute({
      name: 'join',
      methods: ['POST'],
      path: 'api/v1/join',
      summary: 'Redeem a join token, once, for the onboarding document',
      description: 'A token that is wrong, used, expired or of another hub is refused in the same words.',
      tag: 'Onboarding',
      access: { plane: 'join' },
      body: z.strictObject({ token: z.string().min(1).max(256) }),
      bodyExample: { token: 'the token as it was issued' },
      answers: { 200: { description: 'The onboarding document.', schema: onboardingDocumentSchema } },
      problems: ['join_token_invalid', ...hubProblems],
      // Whom it is about is known once the token was looked up: a token that is none changes nothing, and is not recorded.
      audit: { action: 'join_token.redeem', when: 'act', subject: () => ({}) },
      act: async ({ body, log, audit }) => {
        const [fleet, tokens] = await Promise.all([services.fleet(), services.joinTokens()]);
        const trust = async () => currentTrust(await services.trust());
        let kind: CredentialKind = 'key';
        const record = ({ deviceId, moduleId, credential }: Grant) => {
          kind = credential;
          return audit.begin({ deviceId, moduleId, credential });
        };
        const document = await redeemJoinToken(fleet, tokens, body.token, trust, record).catch(countFailure);
        log.info('device_joined', { deviceId: document.device.id, kind });
        count('gatepost.join_tokens.redeemed', {});
        count('gatepost.credentials.issued', { kind, route: 'join' });
        return { status: 200, json: document, noStore: true };
      },
    }),
  ];
}

/** The reason is counted here and logged, and the caller hears none. */
function countFailure(error: unknown): never {
  const known = error instanceof GatepostError ? error : undefined;
  count('gatepost.join.failures', { reason: known?.reason ?? known?.code ?? 'internal' });
  throw error;
}
