import type { X509Certificate } from 'node:crypto';

/** What Node does not show of a certificate: its extensions as they stand there (RFC 5280, section 4.2). */
export interface KeyExtensions {
  /** CA:TRUE in the basic constraints. Node's `ca` also looks at the key usage. */
  isCa: boolean;
  subjectKeyId: boolean;
  authorityKeyId: boolean;
  /** Undefined where there is no key usage at all, which allows everything. */
  mayCertify: boolean | undefined;
}

const extensionsTag = 0xa3;
const booleanTag = 1;
const oids = {
  // 2.5.29.14, 2.5.29.15, 2.5.29.19 and 2.5.29.35.
  subjectKeyId: '551d0e',
  keyUsage: '551d0f',
  basicConstraints: '551d13',
  authorityKeyId: '551d23',
};

export function extensionsOf(certificate: X509Certificate): KeyExtensions {
  const found = new Map<string, Buffer>();
  const [whole] = children(certificate.raw);
  const [toBeSigned] = whole === undefined ? [] : children(whole.content);
  const explicit = toBeSigned && children(toBeSigned.content).find(({ tag }) => tag === extensionsTag);
  const [list] = explicit === undefined ? [] : children(explicit.content);
  for (const extension of list === undefined ? [] : children(list.content)) {
    const parts = children(extension.content);
    const [oid] = parts;
    const value = parts.at(-1);
    if (oid !== undefined && value !== undefined) found.set(oid.content.toString('hex'), value.content);
  }
  return {
    isCa: isCa(found.get(oids.basicConstraints)),
    subjectKeyId: found.has(oids.subjectKeyId),
    authorityKeyId: found.has(oids.authorityKeyId),
    mayCertify: mayCertify(found.get(oids.keyUsage)),
  };
}

/** The first of the basic constraints is a boolean, left out where it is false. */
function isCa(constraints: Buffer | undefined): boolean {
  const [sequence] = constraints === undefined ? [] : children(constraints);
  const [first] = sequence === undefined ? [] : children(sequence.content);
  return first?.tag === booleanTag && first.content[0] !== 0;
}

/** keyCertSign is bit 5 of a bit string, the highest bit of its first byte being bit 0. */
function mayCertify(usage: Buffer | undefined): boolean | undefined {
  const [bits] = usage === undefined ? [] : children(usage);
  const first = bits?.content[1];
  return first === undefined ? undefined : (first & 0x04) !== 0;
}

interface Element {
  tag: number;
  content: Buffer;
}

/** The elements of a DER value, one level deep. OpenSSL has read the certificate before: it is well-formed. */
function children(der: Buffer): Element[] {
  const found: Element[] = [];
  let at = 0;
  while (at + 2 <= der.length) {
    const tag = der[at] ?? 0;
    const first = der[at + 1] ?? 0;
    const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
    const length = lengthBytes === 0 ? first : der.readUIntBE(at + 2, lengthBytes);
    const start = at + 2 + lengthBytes;
    found.push({ tag, content: der.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}
