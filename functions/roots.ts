import { z } from 'zod';
import { strongEtag } from '../lib/http/conditional.ts';
import { defineRoute, type Route } from '../lib/http/route.ts';
import { Redacted } from '../lib/redacted.ts';
import type { RootRecord } from '../lib/trust/ledger.ts';
import type { Services } from './services.ts';

const secret = z
  .string()
  .min(1)
  .transform((value) => new Redacted(value));

const name = z
  .string()
  .regex(
    /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/,
    '1 to 63 letters, digits, dots, dashes or underscores, the first a letter or digit',
  )
  .meta({ description: 'What the operators call the root.', examples: ['plant-2026'] });

const pemImport = z
  .strictObject({
    name,
    pem: z.string().min(1).meta({ description: 'One certificate, no private key.' }),
    key: secret.optional().meta({
      description:
        'The private key of the CA, PKCS#8 PEM, unencrypted. With it the CA is kept in Key Vault, its key not exportable.',
    }),
  })
  .meta({ id: 'RootImportPem' });

const pfxImport = z
  .strictObject({
    name,
    pfx: z
      .base64('a PFX in base64')
      .min(1)
      .transform((value) => new Redacted(value))
      .meta({ description: 'A PKCS#12 file with the certificate and its private key, in base64.' }),
    password: secret.optional(),
  })
  .meta({ id: 'RootImportPfx' });

const root = z
  .strictObject({
    name,
    kind: z.enum(['public', 'authority']).meta({ description: 'An authority is held together with its private key.' }),
    state: z.literal('active'),
    sha256: z.string().meta({ description: 'SHA-256 of the certificate, 64 lower-case hexadecimal digits.' }),
    subject: z.string(),
    serialNumber: z.string(),
    notBefore: z.iso.datetime(),
    notAfter: z.iso.datetime(),
    createdAt: z.iso.datetime(),
  })
  .meta({ id: 'Root' });

const example = {
  name: 'plant-2026',
  kind: 'public',
  state: 'active',
  sha256: '5f1c0d3e2b4a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0',
  subject: 'CN=Plant root 2026',
  serialNumber: '4a1b2c3d4e5f60718293a4b5c6d7e8f9',
  notBefore: '2026-01-01T00:00:00.000Z',
  notAfter: '2036-01-01T00:00:00.000Z',
  createdAt: '2026-01-02T08:30:00.000Z',
};

const tag = 'Trust';
const params = z.strictObject({ name });
/** A certificate with a key of 4096 bits is below 8 KiB, and a PFX of it below 16: this leaves room for a text above. */
const maxBodyBytes = 131_072;

/** The roots of the trust bundle, for operators. */
export function rootRoutes(services: Services): Route[] {
  return [importRoot(services), listRoots(services), getRoot(services), deleteRoot(services)];
}

function importRoot(services: Services): Route {
  return defineRoute({
    name: 'importRoot',
    methods: ['POST'],
    path: 'api/v1/roots',
    summary: 'Import a root CA',
    description:
      'Lints the certificate, keeps it in Key Vault and puts it into the trust bundle, whose sequence rises by one. The same certificate under the same name again changes nothing.',
    tag,
    access: { plane: 'operator', roles: ['Trust.Manage'] },
    body: z.union([pemImport, pfxImport]),
    bodyExample: { name: 'plant-2026', pem: '-----BEGIN CERTIFICATE-----\nMIIB...\n-----END CERTIFICATE-----\n' },
    maxBodyBytes,
    answers: {
      200: { description: 'It was there already.', schema: root, example },
      201: { description: 'It is in the bundle.', schema: root, headers: { location: 'Path of the root.' }, example },
    },
    problems: [
      'root_name_taken',
      'root_already_trusted',
      'root_not_pem',
      'root_not_pfx',
      'root_several_certificates',
      'root_private_key_present',
      'root_key_mismatch',
      'root_not_ca',
      'root_cannot_sign',
      'root_not_self_signed',
      'root_expired',
      'root_not_yet_valid',
      'root_weak_algorithm',
      'bundle_full',
      'upstream_throttled',
      'upstream_unavailable',
      'upstream_timeout',
      'upstream_refused',
    ],
    audit: { action: 'root.import', when: 'change', subject: ({ body }) => ({ root: body.name }) },
    act: async ({ body, log }) => {
      const { roots } = await services.trust();
      const { record, created } = await roots.importRoot(body);
      if (created) log.info('root_imported', { root: record.name, sha256: record.sha256 });
      const headers = { location: `/api/v1/roots/${record.name}` };
      return { status: created ? 201 : 200, json: shown(record), headers };
    },
  });
}

function listRoots(services: Services): Route {
  return defineRoute({
    name: 'listRoots',
    methods: ['GET'],
    path: 'api/v1/roots',
    summary: 'List the roots',
    tag,
    access: { plane: 'operator', roles: ['Trust.Read', 'Trust.Manage'] },
    answers: {
      200: {
        description: 'All roots, in the order in which they were imported.',
        schema: z.strictObject({ value: z.array(root), sequence: z.int() }).meta({ id: 'RootList' }),
        headers: { etag: 'Changes with every import and delete.' },
        example: { value: [example], sequence: 1 },
      },
    },
    problems: ['upstream_throttled', 'upstream_unavailable', 'upstream_timeout', 'upstream_refused'],
    act: async () => {
      const { roots, sequence } = await (await services.trust()).roots.list();
      return {
        status: 200,
        json: { value: roots.map(shown), sequence },
        headers: { etag: strongEtag(`roots-${sequence}`) },
      };
    },
  });
}

function getRoot(services: Services): Route {
  return defineRoute({
    name: 'getRoot',
    methods: ['GET'],
    path: 'api/v1/roots/{name}',
    summary: 'Read a root',
    tag,
    access: { plane: 'operator', roles: ['Trust.Read', 'Trust.Manage'] },
    params,
    answers: { 200: { description: 'The root.', schema: root, example } },
    problems: ['root_not_found', 'upstream_throttled', 'upstream_unavailable', 'upstream_timeout', 'upstream_refused'],
    act: async ({ params: { name: wanted } }) => {
      const record = await (await services.trust()).roots.get(wanted);
      return { status: 200, json: shown(record) };
    },
  });
}

function deleteRoot(services: Services): Route {
  return defineRoute({
    name: 'deleteRoot',
    methods: ['DELETE'],
    path: 'api/v1/roots/{name}',
    summary: 'Delete a root',
    description:
      'Takes the root out of the bundle, whose sequence rises by one, and then out of Key Vault. Devices that fetch the bundle from then on no longer trust what this root issued.',
    tag,
    access: { plane: 'operator', roles: ['Trust.Manage'] },
    params,
    answers: { 204: { description: 'It is gone.' } },
    problems: ['root_not_found', 'upstream_throttled', 'upstream_unavailable', 'upstream_timeout', 'upstream_refused'],
    audit: { action: 'root.delete', when: 'change', subject: ({ params }) => ({ root: params.name }) },
    act: async ({ params: { name: wanted }, log }) => {
      await (await services.trust()).roots.deleteRoot(wanted);
      log.info('root_deleted', { root: wanted });
      return { status: 204 };
    },
  });
}

/** What operators see of a record: not where the vault keeps it. */
function shown(record: RootRecord): z.output<typeof root> {
  const { name, kind, state, sha256, subject, serialNumber, notBefore, notAfter, createdAt } = record;
  return { name, kind, state, sha256, subject, serialNumber, notBefore, notAfter, createdAt };
}
