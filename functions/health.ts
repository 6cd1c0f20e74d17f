import { z } from 'zod';
import { defineRoute, type Route } from '../lib/http/route.ts';
import type { Services } from './services.ts';

const healthy = z.strictObject({ status: z.literal('ok') }).meta({ id: 'Health' });

const check = z.enum(['ok', 'failed']);
const readiness = z
  .strictObject({
    status: z.enum(['ready', 'notReady']),
    checks: z.strictObject({ hub: check, vault: check, storage: check }),
    checkedAt: z.iso.datetime(),
  })
  .meta({ id: 'Readiness' });

type Readiness = z.output<typeof readiness>;

/** Several probers cost the services behind this one no more than one does. */
const heldMs = 5_000;

/** Liveness, which asks nothing of anybody, and readiness, which asks the services behind this one. */
export function healthRoutes(services: Services): Route[] {
  return [getHealth(), getReadiness(services)];
}

function getHealth(): Route {
  return defineRoute({
    name: 'getHealth',
    methods: ['GET', 'HEAD'],
    path: 'api/v1/health',
    summary: 'Whether this instance runs',
    description: 'Looks at no service behind this one: use it as a liveness probe. For the dependencies see /ready.',
    tag: 'Operation',
    access: { plane: 'public' },
    answers: { 200: { description: 'It runs.', schema: healthy, example: { status: 'ok' } } },
    problems: [],
    act: async () => ({ status: 200, json: { status: 'ok' } }),
  });
}

function getReadiness(services: Services): Route {
  const current = readinessOf(services);
  const example = {
    status: 'ready',
    checks: { hub: 'ok', vault: 'ok', storage: 'ok' },
    checkedAt: '2026-01-02T08:30:00.000Z',
  };
  return defineRoute({
    name: 'getReadiness',
    methods: ['GET'],
    path: 'api/v1/ready',
    summary: 'Whether the services behind this one answer',
    description: `Asks IoT Hub, Key Vault and storage, at most once in ${heldMs / 1000} seconds.`,
    tag: 'Operation',
    access: {
      plane: 'operator',
      roles: ['Fleet.Read', 'Trust.Read', 'Fleet.Provision', 'Trust.Manage', 'Credential.Issue', 'Audit.Read'],
    },
    answers: {
      200: { description: 'All of them answer.', schema: readiness, example },
      503: {
        description: 'Some do not.',
        schema: readiness,
        headers: { 'retry-after': 'Seconds after which to look again.' },
        example: { ...example, status: 'notReady', checks: { hub: 'ok', vault: 'failed', storage: 'ok' } },
      },
    },
    problems: [],
    act: async () => {
      const found = await current();
      if (found.status === 'ready') return { status: 200, json: found };
      return { status: 503, json: found, headers: { 'retry-after': String(heldMs / 1000) } };
    },
  });
}

function readinessOf(services: Services): () => Promise<Readiness> {
  let held: { at: number; found: Promise<Readiness> } | undefined;
  return () => {
    const now = services.clock().getTime();
    if (held === undefined || now - held.at >= heldMs) held = { at: now, found: look() };
    return held.found;
  };

  async function look(): Promise<Readiness> {
    const { hub, vault, storage } = await services.probes();
    const [hubFound, vaultFound, storageFound] = await Promise.all([hub, vault, storage].map(outcomeOf));
    const found = { hub: hubFound ?? 'failed', vault: vaultFound ?? 'failed', storage: storageFound ?? 'failed' };
    const ready = Object.values(found).every((outcome) => outcome === 'ok');
    return { status: ready ? 'ready' : 'notReady', checks: found, checkedAt: services.clock().toISOString() };
  }
}

async function outcomeOf(attempt: () => Promise<void>): Promise<'ok' | 'failed'> {
  return attempt().then(
    () => 'ok',
    () => 'failed',
  );
}
