import { createHash } from 'node:crypto';
import { defineRoute, type Route } from '../lib/http/route.ts';
import { lazily } from './services.ts';

/** The description of the API, made of the routes that are registered. */
export function openApiRoutes(routes: () => readonly Route[]): Route[] {
  const document = lazily(async () => {
    const { openApiDocument } = await import('../lib/http/openapi.ts');
    const body = JSON.stringify(openApiDocument(routes()));
    return { body, etag: `"${createHash('sha256').update(body).digest('hex').slice(0, 32)}"` };
  });
  return [
    defineRoute({
      name: 'getOpenApi',
      methods: ['GET', 'HEAD'],
      path: 'api/v1/openapi.json',
      summary: 'This document',
      tag: 'Operation',
      access: { plane: 'public' },
      answers: {
        200: {
          description: 'The OpenAPI 3.1 description of this API.',
          contentTypes: ['application/json'],
          headers: { etag: 'Changes with the API.' },
        },
        304: { description: 'It has not changed.' },
      },
      problems: [],
      act: async () => {
        const { body, etag } = await document();
        const headers = { 'content-type': 'application/json', etag, 'cache-control': 'public, max-age=300' };
        return { status: 200, body, headers };
      },
    }),
  ];
}
