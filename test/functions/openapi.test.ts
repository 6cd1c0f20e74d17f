import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { allRoutes } from '../../functions/routes.ts';
import { createServices } from '../../functions/services.ts';
import { problems } from '../../lib/errors.ts';
import { problemsOf } from '../../lib/http/openapi.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';

interface Operation {
  operationId: string;
  summary: string;
  description: string;
  security: object[];
  parameters?: { in: string; name: string; required?: boolean }[];
  responses: Record<string, { description: string; content?: Record<string, { examples?: object }> }>;
  'x-app-roles'?: string[];
  'x-problem-codes': string[];
}

interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object> };
}

const routes = allRoutes(
  createServices({
    GATEPOST_HUB_HOSTNAME: 'plant.azure-devices.net',
    GATEPOST_VAULT_URL: 'https://plant.vault.azure.net',
    GATEPOST_ENTRA_ISSUER: 'https://login.microsoftonline.com/tenant/v2.0',
    GATEPOST_ENTRA_AUDIENCE: 'api://gatepost',
    AzureWebJobsStorage: 'UseDevelopmentStorage=true',
  }),
);

let api: TestCloud;
let document: Document;

beforeAll(async () => {
  api = await startTestCloud();
  document = (await api.call('GET', '/api/v1/openapi.json', { authorization: null })).json;
});
afterAll(() => api.close());

const operations = (): [string, string, Operation][] =>
  Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]): [string, string, Operation] => [path, method, operation]),
  );

function* referencesIn(value: unknown): Generator<string> {
  if (typeof value !== 'object' || value === null) return;
  for (const [name, inner] of Object.entries(value)) {
    if (name === '$ref' && typeof inner === 'string') yield inner;
    else yield* referencesIn(inner);
  }
}

/** A function as the host's admin API shows it. */
interface HostFunction {
  name: string;
  config: { bindings: { type: string }[] };
}

describe('the OpenAPI document', () => {
  it('is OpenAPI 3.1, whose references all lead somewhere', () => {
    expect(document.openapi).toMatch(/^3\.1\.\d+$/);
    for (const reference of referencesIn(document)) {
      const found = reference
        .replace(/^#\//, '')
        .split('/')
        .reduce((at: unknown, step) => (at as Record<string, unknown> | undefined)?.[step], document);
      expect(found, reference).toBeDefined();
    }
  });

  it('describes every function that HTTP starts and nothing else', async () => {
    const headers = { 'x-functions-key': api.cloud.host.masterKey };
    const { json: functions } = await api.call('GET', '/admin/functions', { authorization: null, headers });
    const registered = functions
      .filter(({ config }: HostFunction) => config.bindings.some(({ type }) => type === 'httpTrigger'))
      .map(({ name }: HostFunction) => name)
      .sort();
    const described = operations()
      .filter(([, method]) => method !== 'head')
      .map(([, , operation]) => operation.operationId);
    expect([...new Set(described)].sort()).toEqual(registered);
  });

  it('gives every operation an id of its own, its path parameters, its roles and its problems', () => {
    const ids = operations().map(([, , operation]) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const [path, method, operation] of operations()) {
      const where = `${method} ${path}`;
      const variables = [...path.matchAll(/\{(\w+)\}/g)].map((found) => found[1]);
      const declared = (operation.parameters ?? []).filter((each) => each.in === 'path');
      expect(declared.map((each) => each.name).sort(), where).toEqual(variables.sort());
      expect(
        declared.every((each) => each.required),
        where,
      ).toBe(true);
      expect(operation.summary.length, where).toBeGreaterThan(0);
      expect(
        Object.keys(operation.responses).some((status) => /^[23]/.test(status)),
        where,
      ).toBe(true);
      for (const code of operation['x-problem-codes']) {
        const { status } = problems[code as keyof typeof problems];
        const examples = operation.responses[status]?.content?.['application/problem+json']?.examples ?? {};
        expect(Object.keys(examples), where).toContain(code);
      }
    }
  });

  it('says which operations are public', () => {
    const open = operations().filter(([, method, { security }]) => method === 'get' && security.length === 0);
    expect(open.map(([path]) => path).sort()).toEqual([
      '/api/v1/health',
      '/api/v1/openapi.json',
      '/api/v1/trust-bundle',
      '/api/v1/trust-bundle/roots/{sha256}',
    ]);
    for (const [, , operation] of operations()) {
      const roles = operation['x-app-roles'];
      expect(operation.security.some((scheme) => 'operator' in scheme)).toBe(roles !== undefined && roles.length > 0);
    }
  });

  it('is to be kept until it changes', async () => {
    const { headers } = await api.call('GET', '/api/v1/openapi.json');
    const again = await api.call('GET', '/api/v1/openapi.json', {
      headers: { 'if-none-match': headers.get('etag') ?? '' },
    });
    expect(again.status).toBe(304);
  });
});

describe('the examples of the OpenAPI document', () => {
  it.each(routes.map((route) => [route.name, route] as const))('of %s are what its schemas accept', (_name, route) => {
    for (const answer of Object.values(route.answers)) {
      if (answer.schema === undefined) continue;
      const examples = answer.example === undefined ? answer.schema.meta()?.examples : [answer.example];
      expect(examples, 'an answer with a schema has an example').toHaveLength(1);
      expect(answer.schema.safeParse((examples as unknown[])[0]).error).toBeUndefined();
    }
    if (route.body === undefined) return;
    expect(route.bodyExample, 'a body has an example').toBeDefined();
    expect(route.body.safeParse(route.bodyExample).error).toBeUndefined();
  });
});

describe('the problems of a route', () => {
  it.each(routes.map((route) => [route.name, route] as const))('%s: are each listed once', (_name, route) => {
    const codes = problemsOf(route);
    expect(new Set(codes).size).toBe(codes.length);
    expect(new Set(route.problems).size).toBe(route.problems.length);
  });
});
