import { z } from 'zod';
import { isPlace } from '../lib/audit/keys.ts';
import { GatepostError } from '../lib/errors.ts';
import { pageAnswer, pageQueryShape, pageRequest, pageSchema } from '../lib/http/paging.ts';
import { defineRoute, type Route } from '../lib/http/route.ts';
import { idSchema } from '../lib/identity/ids.ts';
import { auditReaders, hubProblems } from './policies.ts';
import type { Services } from './services.ts';

const instant = z.iso.datetime({ offset: true }).transform((value) => new Date(value));

const query = z.strictObject({
  device: idSchema.optional().meta({ description: 'A device or a gateway, which is a device of the hub too.' }),
  root: z.string().min(1).max(63).optional().meta({ description: 'The name of a root.' }),
  caller: z.string().min(1).max(256).optional().meta({
    description: 'The object id of an operator, `device:ID` or `device:ID/MODULE`, or `join:ID` for a join token.',
  }),
  from: instant.optional().meta({ description: 'Default: as long ago as the log is kept.' }),
  to: instant.optional().meta({ description: 'Default: now.' }),
  ...pageQueryShape,
});

const entry = z
  .object({
    at: z.string(),
    action: z.string(),
    outcome: z.enum(['succeeded', 'refused', 'failed', 'unknown']).meta({
      description: 'unknown: it was begun, and how it ended was not recorded, or it goes on now.',
    }),
    status: z.int().nullable(),
    code: z.string().nullable().meta({ description: 'The problem code, where it did not succeed.' }),
    caller: z.object({ plane: z.string(), id: z.string(), name: z.string() }),
    device: z.string().nullable(),
    module: z.string().nullable(),
    gateway: z.string().nullable(),
    root: z.string().nullable(),
    credential: z.string().nullable().meta({ description: 'The kind that was given out, never the credential.' }),
    correlationId: z.string().meta({ description: 'As in the answer of the call, gatepost-correlation-id.' }),
    requestId: z.string().meta({ description: 'As in the answer of the call, x-ms-request-id.' }),
  })
  .meta({ id: 'AuditEntry' });

const example = {
  at: '2026-01-02T08:30:00.000Z',
  action: 'device.onboard',
  outcome: 'succeeded',
  status: 201,
  code: null,
  caller: { plane: 'operator', id: '5d0c4d0a-0b5e-4a3a-9e59-1c1f0f7a2b11', name: 'factory-1' },
  device: 'press-4',
  module: null,
  gateway: 'gateway-1',
  root: null,
  credential: 'key',
  correlationId: '4bf92f3577b34da6a3ce929d0e0e4736',
  requestId: '5f0d6a0e-7c1b-4f0e-9a53-2f6e1f0c9d11',
};
const dayMs = 86_400_000;

export function auditRoutes(services: Services): Route[] {
  return [
    defineRoute({
      name: 'listAudit',
      methods: ['GET'],
      path: 'api/v1/audit',
      summary: 'Who did what: every change and every credential that was given out',
      description:
        'Of a device or gateway, of a root, or of a caller; with a caller, the others show only what that one did. Latest first, ' +
        'in pages: follow nextLink until there is none. A page may be short and still have a next one.',
      tag: 'Audit',
      access: auditReaders,
      query,
      answers: { 200: { description: 'One page.', schema: pageSchema(entry), example: { value: [example] } } },
      problems: hubProblems,
      act: async ({ query, url }) => {
        const { device, root, caller } = query;
        requireSubject(query);
        const now = services.clock();
        const kept = new Date(now.getTime() - services.config.auditRetentionDays * dayMs);
        const list = `audit ${JSON.stringify([device, root, caller])}`;
        const { size, continuation } = pageRequest(query, list);
        if (continuation !== undefined && !isPlace(continuation)) throw notOfThisList();
        // Months are deleted as a whole: of the oldest there may be more than is kept.
        const oldest = new Date(kept.getTime() - 31 * dayMs);
        const asked = query.from ?? kept;
        const times = { from: asked > oldest ? asked : oldest, to: query.to ?? now };
        const page = await (await services.audit()).query({ device, root, caller, ...times, size, continuation });
        return { status: 200, json: pageAnswer(page, url, list) };
      },
    }),
  ];
}

function requireSubject({ device, root, caller }: z.output<typeof query>): void {
  const isOne = device === undefined || root === undefined;
  if (isOne && (device ?? root ?? caller) !== undefined) return;
  const detail = isOne ? 'Say of which device, root or caller.' : 'Ask for a device or for a root.';
  const errors = [{ pointer: isOne ? 'query/device' : 'query/root', detail }];
  throw new GatepostError('invalid_request', `query: ${detail}`, { errors });
}

function notOfThisList(): GatepostError {
  const detail = 'Follow nextLink as it was answered: this continuation is not of this list.';
  const errors = [{ pointer: 'query/continuation', detail }];
  return new GatepostError('invalid_request', `query/continuation: ${detail}`, { errors });
}
