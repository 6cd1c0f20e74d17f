import { createHash } from 'node:crypto';
import { GatepostError } from '../errors.ts';
import type { BundleRoot } from './bundle.ts';

export type BundleFormat = 'pem' | 'json' | 'pkcs7';

/** What a bundle, or one root of it, looks like on the wire. */
export interface Encoded {
  body: string | Uint8Array;
  contentType: string;
  /** Strong: the same tag is the same bytes. */
  etag: string;
}

/** What is encoded: a {@link Bundle}, or a single root with the sequence it was read at. */
export interface Encodable {
  sequence: number;
  refreshHintSeconds: number;
  roots: readonly BundleRoot[];
}

export const contentTypes = {
  pem: 'application/x-pem-file',
  json: 'application/json; charset=utf-8',
  pkcs7: 'application/pkcs7-mime; smime-type=certs-only',
} as const satisfies Record<BundleFormat, string>;

/** Media types by which each format may be asked for, the format answered to a wildcard first. */
const asked: readonly (readonly [BundleFormat, readonly string[]])[] = [
  ['pem', ['application/x-pem-file', 'application/pem-certificate-chain', 'application/x-x509-ca-cert', 'text/plain']],
  ['json', ['application/json']],
  ['pkcs7', ['application/pkcs7-mime', 'application/x-pkcs7-certificates', 'application/x-pkcs7-mime']],
];

const encoded = new WeakMap<Encodable, Partial<Record<BundleFormat, Promise<Encoded>>>>();

/** Encodes a bundle; the same object is encoded once in each format. */
export function encode(bundle: Encodable, format: BundleFormat): Promise<Encoded> {
  const done = encoded.get(bundle) ?? {};
  encoded.set(bundle, done);
  done[format] ??= encodeAnew(bundle, format);
  return done[format];
}

async function encodeAnew(bundle: Encodable, format: BundleFormat): Promise<Encoded> {
  const body = await bodyOf(bundle, format);
  const digest = createHash('sha256').update(body).digest('hex').slice(0, 16);
  return { body, contentType: contentTypes[format], etag: `"${bundle.sequence}-${format}-${digest}"` };
}

async function bodyOf(bundle: Encodable, format: BundleFormat): Promise<string | Uint8Array> {
  switch (format) {
    case 'pem':
      // Readers of PEM skip what stands outside of the blocks (RFC 7468 section 2), so people may be told what they see.
      return bundle.roots.map((root) => `# ${root.subject}\n# SHA-256 ${root.sha256}\n${root.pem}`).join('\n');
    case 'json':
      return JSON.stringify({
        sequence: bundle.sequence,
        refreshHintSeconds: bundle.refreshHintSeconds,
        roots: bundle.roots.map(({ sha256, subject, notAfter, pem }) => ({ sha256, subject, notAfter, pem })),
      });
    case 'pkcs7': {
      const { certsOnly } = await import('./pkcs7.ts');
      return certsOnly(bundle.roots.map((root) => root.pem));
    }
  }
}

/**
 * The format that an Accept header prefers (RFC 9110 section 12.5.1): the highest quality, among equals the order of the
 * list, a wildcard meaning PEM. Throws `not_acceptable`.
 */
export function negotiate(accept: string | undefined | null): BundleFormat {
  if (accept === undefined || accept === null || accept.trim() === '') return 'pem';
  const ranges = accept.split(',').map(toRange);
  let best: { format: BundleFormat; quality: number; place: number } | undefined;
  for (const [format, types] of asked) {
    for (const type of types) {
      const range = mostSpecific(ranges, type);
      if (range === undefined || range.quality === 0) continue;
      const place = ranges.indexOf(range);
      const better =
        best === undefined || range.quality > best.quality || (range.quality === best.quality && place < best.place);
      if (better) best = { format, quality: range.quality, place };
    }
  }
  if (best !== undefined) return best.format;
  const offered = Object.values(contentTypes).join(', ');
  throw new GatepostError('not_acceptable', `Accept one of ${offered}; or say ?format=pem, json or pkcs7.`);
}

interface Range {
  type: string;
  quality: number;
}

function toRange(text: string): Range {
  const [type = '', ...parameters] = text.split(';').map((part) => part.trim().toLowerCase());
  const quality = parameters
    .map((each) => /^q=([01](?:\.\d{0,3})?)$/.exec(each)?.[1])
    .find((each) => each !== undefined);
  return { type, quality: quality === undefined ? 1 : Number(quality) };
}

function mostSpecific(ranges: readonly Range[], type: string): Range | undefined {
  const family = `${type.split('/')[0]}/*`;
  return [type, family, '*/*']
    .map((each) => ranges.find((range) => range.type === each))
    .find((range) => range !== undefined);
}
