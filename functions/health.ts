import { z } from 'zod';
import { defineRoute, type Route } from '../lib/http/route.ts';

/** Liveness: says that this instance runs, and asks nothing of anybody. */
export function healthRoutes(): Route[] {
  return [
    defineRoute({
      name: 'getHealth',
      methods: ['GET', 'HEAD'],
      path: 'api/v1/health',
      summary: 'Whether this instance runs',
      description: 'Looks at no service behind this one: use it as a liveness probe. For the dependencies see /ready.',
      tag: 'Operation',
      access: { plane: 'public' },
      answers: {
        200: {
          description: 'It runs.',
          schema: z.strictObject({ status: z.literal('ok') }),
          example: { status: 'ok' },
        },
      },
      problems: [],
      act: async () => ({ status: 200, json: { status: 'ok' } }),
    }),
  ];
}
