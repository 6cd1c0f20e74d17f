import { z } from 'zod';
import { GatepostError } from '../lib/errors.ts';
import { type Answer, defineRoute, type Route } from '../lib/http/route.ts';
import { count } from '../lib/telemetry/metrics.ts';
import type { Bundle } from '../lib/trust/bundle.ts';
import { fingerprint } from '../lib/trust/certificate.ts';
import { type BundleFormat, contentTypes, encode, negotiate } from '../lib/trust/encodings.ts';
import type { Services } from './services.ts';

const query = z.strictObject({
  format: z.enum(['pem', 'json', 'pkcs7']).optional().meta({ description: 'Wins over the Accept header.' }),
});

const sha256 = z
  .string()
  .transform((value, context) => {
    const digits = fingerprint(value);
    if (digits !== undefined) return digits;
    context.addIssue({
      code: 'custom',
      message: 'the SHA-256 of a certificate: 64 hexadecimal digits, with or without colons',
    });
    return z.NEVER;
  })
  .meta({ description: 'SHA-256 of the certificate in hexadecimal: any case, with or without colons.' });

const bundle = z
  .strictObject({
    sequence: z.int().meta({ description: 'Rises by one with each change. A device refuses a lower one than it has.' }),
    refreshHintSeconds: z.int(),
    roots: z.array(
      z.strictObject({ sha256: z.string(), subject: z.string(), notAfter: z.iso.datetime(), pem: z.string() }),
    ),
  })
  .meta({ id: 'TrustBundle' });

const example = {
  sequence: 7,
  refreshHintSeconds: 3600,
  roots: [
    {
      sha256: '5f1c0d3e2b4a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0',
      subject: 'CN=Plant root 2026',
      notAfter: '2036-01-01T00:00:00.000Z',
      pem: '-----BEGIN CERTIFICATE-----\nMIIB...\n-----END CERTIFICATE-----\n',
    },
  ],
};

const headers = {
  etag: 'Strong: send it as If-None-Match.',
  'cache-control': 'How long any cache may serve it: the refresh hint.',
  'gatepost-sequence': 'The sequence of the bundle.',
  warning: '110 where the bundle may be out of date, because a service behind this one cannot be reached.',
  vary: 'Accept.',
};

const tag = 'Trust';
const answered = {
  schema: bundle,
  contentTypes: Object.values(contentTypes),
  headers,
  example,
};

/** The trust bundle, for everybody: a root certificate is no secret, and a device has to begin somewhere. */
export function trustBundleRoutes(services: Services): Route[] {
  return [getTrustBundle(services), getTrustBundleRoot(services)];
}

function getTrustBundle(services: Services): Route {
  return defineRoute({
    name: 'getTrustBundle',
    methods: ['GET', 'HEAD'],
    path: 'api/v1/trust-bundle',
    summary: 'The roots that a device must trust now',
    description: 'As PEM, JSON, or PKCS#7 with certificates only, by ?format or Accept.',
    tag,
    access: { plane: 'public' },
    query,
    answers: { 200: { description: 'The bundle.', ...answered }, 304: { description: 'It has not changed.' } },
    problems: ['not_acceptable', 'upstream_unavailable'],
    act: async ({ query: { format }, headers: sent }) => {
      const wanted = format ?? negotiate(sent.get('accept'));
      const { bundle: current, stale } = await (await services.trust()).current();
      return answerOf(current, wanted, stale);
    },
  });
}

function getTrustBundleRoot(services: Services): Route {
  return defineRoute({
    name: 'getTrustBundleRoot',
    methods: ['GET', 'HEAD'],
    path: 'api/v1/trust-bundle/roots/{sha256}',
    summary: 'One root by its fingerprint',
    description:
      'For a device that was given the fingerprint of its root: it compares what it gets and needs to trust nobody.',
    tag,
    access: { plane: 'public' },
    params: z.strictObject({ sha256 }),
    query,
    answers: {
      200: { description: 'A bundle of the one root.', ...answered },
      304: { description: 'It has not changed.' },
    },
    problems: ['not_acceptable', 'root_not_found', 'upstream_unavailable'],
    act: async ({ params, query: { format }, headers: sent }) => {
      const wanted = format ?? negotiate(sent.get('accept'));
      const { bundle: current, stale } = await (await services.trust()).current();
      const roots = current.roots.filter((root) => root.sha256 === params.sha256);
      if (roots.length === 0) {
        throw new GatepostError(
          'root_not_found',
          'No root of that fingerprint is in the bundle. Ask for a new fingerprint.',
        );
      }
      return answerOf({ ...current, roots }, wanted, stale);
    },
  });
}

async function answerOf(current: Bundle, format: BundleFormat, stale: boolean): Promise<Answer> {
  const { body, contentType, etag } = await encode(current, format);
  count('gatepost.bundle.fetches', { sequence: current.sequence, format });
  return {
    status: 200,
    body,
    headers: {
      'content-type': contentType,
      etag,
      'cache-control': `public, max-age=${current.refreshHintSeconds}`,
      'gatepost-sequence': String(current.sequence),
      vary: 'Accept',
      // RFC 7234 section 5.5.1. RFC 9111 obsoletes the field, but there is no other that says it.
      ...(stale ? { warning: '110 gatepost "Response is Stale"' } : {}),
    },
  };
}
