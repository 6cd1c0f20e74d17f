import { z } from 'zod';
import {
  createDocument,
  type ZodOpenApiOperationObject,
  type ZodOpenApiPathsObject,
  type ZodOpenApiResponsesObject,
} from 'zod-openapi';
import { type ProblemCode, problems } from '../errors.ts';
import { isLimited } from '../limits/policy.ts';
import type { AnswerDescription, Route } from './route.ts';

const problemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string().meta({ description: 'What to do about it.' }),
    instance: z.string().meta({ description: 'Quote this when asking for help.' }),
    code: z.string().meta({ description: 'Stable: programs decide by it.' }),
    errors: z
      .array(z.object({ pointer: z.string(), detail: z.string(), code: z.string().optional() }))
      .optional()
      .meta({ description: 'For bad input: JSON pointers into the body, or path/NAME and query/NAME.' }),
  })
  .meta({ id: 'Problem', description: 'RFC 9457 problem details.' });

const everywhere: readonly ProblemCode[] = ['invalid_request', 'internal'];
const withBody: readonly ProblemCode[] = [
  'invalid_json',
  'unsupported_media_type',
  'length_required',
  'payload_too_large',
];
const ofPlane: Record<Route['access']['plane'], readonly ProblemCode[]> = {
  public: [],
  operator: ['token_missing', 'token_invalid', 'token_expired', 'role_missing', 'upstream_unavailable'],
  device: [
    'device_token_invalid',
    'upstream_unavailable',
    'upstream_throttled',
    'upstream_timeout',
    'upstream_refused',
  ],
  join: ['join_token_invalid'],
};

const securitySchemes = {
  operator: {
    type: 'http',
    scheme: 'bearer',
    bearerFormat: 'JWT',
    description: 'An Entra ID access token for this API, with one of the app roles that the operation names.',
  },
  device: {
    type: 'apiKey',
    in: 'header',
    name: 'Authorization',
    description: 'The SAS token of the device or module: SharedAccessSignature sr=HUB/devices/ID&sig=...&se=....',
  },
} as const;

/** The codes of all problems that a route can answer, without doubles. */
export function problemsOf(route: Route): ProblemCode[] {
  return [
    ...new Set([
      ...everywhere,
      ...(route.body === undefined ? [] : withBody),
      ...ofPlane[route.access.plane],
      ...(isLimited(route) ? (['rate_limited'] as const) : []),
      ...route.problems,
    ]),
  ];
}

/** The OpenAPI 3.1 document of the routes, made from the very schemas that parse their requests. */
export function openApiDocument(routes: readonly Route[]): object {
  const paths: ZodOpenApiPathsObject = {};
  for (const route of routes) {
    const path = `/${route.path}`;
    const item = paths[path] ?? {};
    for (const method of route.methods) item[method.toLowerCase() as 'get'] = operationOf(route, method);
    paths[path] = item;
  }
  return createDocument({
    openapi: '3.1.1',
    info: {
      title: 'Gatepost',
      version: '1',
      description:
        'One call gives a device behind an Azure IoT Edge transparent gateway its trust, its identity and its way in.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    tags: [...new Set(routes.map((route) => route.tag))].map((name) => ({ name })),
    paths,
    components: { securitySchemes, schemas: { Problem: problemSchema }, examples: examplesOf(routes) },
  });
}

function operationOf(route: Route, method: string): ZodOpenApiOperationObject {
  const { params, query, body } = route;
  return {
    // One operationId per operation: HEAD is the GET without its body.
    operationId: method === 'HEAD' ? `${route.name}Head` : route.name,
    summary: route.summary,
    description: [route.description, accessText(route)].filter((part) => part !== undefined).join('\n\n'),
    tags: [route.tag],
    security: securityOf(route),
    ...(route.access.plane === 'operator' ? { 'x-app-roles': [...route.access.roles] } : {}),
    'x-problem-codes': problemsOf(route),
    requestParams: { ...(params === undefined ? {} : { path: params }), ...(query === undefined ? {} : { query }) },
    ...(body === undefined
      ? {}
      : {
          requestBody: {
            required: !body.safeParse(undefined).success,
            content: {
              'application/json': {
                schema: body,
                ...(route.bodyExample === undefined ? {} : { example: route.bodyExample }),
              },
            },
          },
        }),
    responses: { ...answersOf(route, method), ...problemAnswersOf(route) },
  };
}

function accessText({ access }: Route): string {
  switch (access.plane) {
    case 'public':
      return 'Public.';
    case 'operator':
      return `Needs the app role ${access.roles.join(' or ')}.`;
    case 'device':
      return "Needs the device's own SAS token.";
    case 'join':
      return 'Needs a join token, in the body.';
  }
}

function securityOf({ access }: Route): Record<string, string[]>[] {
  if (access.plane === 'operator') return [{ operator: [] }];
  return access.plane === 'device' ? [{ device: [] }] : [];
}

function answersOf(route: Route, method: string): ZodOpenApiResponsesObject {
  const answers: ZodOpenApiResponsesObject = {};
  for (const [status, answer] of Object.entries(route.answers)) {
    answers[status as '200'] = {
      description: answer.description,
      ...(answer.headers === undefined ? {} : { headers: headersOf(answer.headers) }),
      ...(method === 'HEAD' ? {} : contentOf(answer)),
    };
  }
  return answers;
}

function headersOf(headers: Readonly<Record<string, string>>) {
  const entries = Object.entries(headers);
  return Object.fromEntries(
    entries.map(([name, description]) => [name, { description, schema: { type: 'string' as const } }]),
  );
}

function contentOf({ schema, contentTypes, example }: AnswerDescription) {
  const types = contentTypes ?? (schema === undefined ? [] : ['application/json']);
  if (types.length === 0) return {};
  const content = types.map((type) => {
    const [bare = type] = type.split(';');
    if (!/json$/.test(bare)) return [bare, {}] as const;
    return [
      bare,
      { ...(schema === undefined ? {} : { schema }), ...(example === undefined ? {} : { example }) },
    ] as const;
  });
  return { content: Object.fromEntries(content) };
}

/** The problems of a route by status, since a status is what OpenAPI can tell apart. */
function problemAnswersOf(route: Route): ZodOpenApiResponsesObject {
  const byStatus = new Map<number, ProblemCode[]>();
  for (const code of problemsOf(route)) {
    const { status } = problems[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  const answers: ZodOpenApiResponsesObject = {};
  for (const [status, codes] of byStatus) {
    const examples = codes.map((code) => [code, { $ref: `#/components/examples/${code}` }] as const);
    answers[String(status) as '400'] = {
      description: codes.map((code) => `\`${code}\``).join(', '),
      content: { 'application/problem+json': { schema: problemSchema, examples: Object.fromEntries(examples) } },
    };
  }
  return answers;
}

/** Each problem once, however many operations refer to it. */
function examplesOf(routes: readonly Route[]) {
  const codes = [...new Set(routes.flatMap(problemsOf))].sort();
  return Object.fromEntries(codes.map((code) => [code, { summary: problems[code].title, value: exampleOf(code) }]));
}

function exampleOf(code: ProblemCode): object {
  const { status, title } = problems[code];
  const instance = '5f0d6a0e-7c1b-4f0e-9a53-2f6e1f0c9d11';
  return { type: `urn:gatepost:problem:${code}`, title, status, detail: 'What to do about it.', instance, code };
}
