import { createPrivateKey, type KeyObject, randomBytes } from 'node:crypto';
import forge from 'node-forge';

/** What a PFX (PKCS#12, RFC 7292) holds: keys, and certificates as DER in the order of the file. */
export interface PfxContent {
  keys: KeyObject[];
  certificates: Buffer[];
}

const { asn1 } = forge;
const oids = forge.pki.oids;

/**
 * Opens a PFX as OpenSSL 3 (PBES2 with AES) and as Windows and older OpenSSL write it (3DES, 40-bit RC2). node-forge
 * decrypts and checks the MAC; it knows no elliptic curves, but hands what it does not know on as ASN.1.
 * Throws where the file cannot be read or the password is wrong.
 */
export function readPfx(file: Buffer, password: string | undefined): PfxContent {
  const parsed = openPfx(asn1.fromDer(toForge(file)), password);
  const bags = parsed.safeContents.flatMap(({ safeBags }) => safeBags);
  const keyTypes: unknown[] = [oids.keyBag, oids.pkcs8ShroudedKeyBag];
  return {
    keys: bags.filter(({ type }) => keyTypes.includes(type)).map(toKey),
    certificates: bags
      .filter(({ type }) => type === oids.certBag)
      .map(({ cert, asn1: unknown }) => toDer(cert ? forge.pki.certificateToAsn1(cert) : unknown)),
  };
}

/** Files without a password exist in two forms: made with an empty one, and made with none at all. */
function openPfx(file: forge.asn1.Asn1, password: string | undefined): forge.pkcs12.Pkcs12Pfx {
  try {
    return forge.pkcs12.pkcs12FromAsn1(file, false, password ?? '');
  } catch (error) {
    if (password) throw error;
    return forge.pkcs12.pkcs12FromAsn1(file, false);
  }
}

function toKey(bag: forge.pkcs12.Bag): KeyObject {
  if (bag.key) {
    const der = toDer(forge.pki.wrapRsaPrivateKey(forge.pki.privateKeyToAsn1(bag.key)));
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  }
  return createPrivateKey({ key: toDer(bag.asn1), format: 'der', type: 'pkcs8' });
}

/**
 * Writes a PFX with an empty password, as the secret behind a certificate holds it: nothing is encrypted, the MAC is
 * there (SHA-256). Without a key it holds the certificates alone.
 */
export function writePfx(key: KeyObject | undefined, certificates: Buffer[]): Buffer {
  const keyId = attributes(randomBytes(20));
  const certificateBags = certificates.map((certificate, index) =>
    safeBag(oids.certBag, certBag(certificate), index === 0 ? keyId : undefined),
  );
  const keyBags = key === undefined ? [] : [safeBag(oids.keyBag, pkcs8(key), keyId)];
  const contents = [certificateBags, keyBags].filter((bags) => bags.length > 0);
  const safe = asn1.toDer(sequence(contents.map((bags) => data(asn1.toDer(sequence(bags)).getBytes())))).getBytes();
  return toDer(sequence([integer(3), data(safe), macData(safe)]));
}

function pkcs8(key: KeyObject): forge.asn1.Asn1 {
  return asn1.fromDer(toForge(key.export({ type: 'pkcs8', format: 'der' })));
}

function certBag(certificate: Buffer): forge.asn1.Asn1 {
  return sequence([oid(oids.x509Certificate), explicit(octets(certificate.toString('binary')))]);
}

function safeBag(
  type: string | undefined,
  value: forge.asn1.Asn1,
  extra: forge.asn1.Asn1 | undefined,
): forge.asn1.Asn1 {
  return sequence([oid(type), explicit(value), ...(extra === undefined ? [] : [extra])]);
}

/** The local key id, which says what certificate belongs to the key. */
function attributes(keyId: Buffer): forge.asn1.Asn1 {
  return set([sequence([oid(oids.localKeyId), set([octets(keyId.toString('binary'))])])]);
}

function data(content: string): forge.asn1.Asn1 {
  return sequence([oid(oids.data), explicit(octets(content))]);
}

/** RFC 7292 section 4 and appendix B.4: an HMAC under a key that is made from the (empty) password. */
function macData(content: string): forge.asn1.Asn1 {
  const iterations = 2000;
  const salt = forge.util.createBuffer(randomBytes(8).toString('binary'));
  const md = forge.md.sha256.create();
  const key = forge.pkcs12.generateKey('', forge.util.createBuffer(salt.bytes()), 3, iterations, 32, md);
  const hmac = forge.hmac.create();
  hmac.start(md, key);
  hmac.update(content);
  const noParameters = asn1.create(asn1.Class.UNIVERSAL, asn1.Type.NULL, false, '');
  const digest = sequence([sequence([oid(oids.sha256), noParameters]), octets(hmac.getMac().getBytes())]);
  return sequence([digest, octets(salt.bytes()), integer(iterations)]);
}

function sequence(items: forge.asn1.Asn1[]): forge.asn1.Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.SEQUENCE, true, items);
}

function set(items: forge.asn1.Asn1[]): forge.asn1.Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.SET, true, items);
}

function explicit(item: forge.asn1.Asn1): forge.asn1.Asn1 {
  return asn1.create(asn1.Class.CONTEXT_SPECIFIC, 0 as forge.asn1.Type, true, [item]);
}

function octets(bytes: string): forge.asn1.Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.OCTETSTRING, false, bytes);
}

function oid(dotted: string | undefined): forge.asn1.Asn1 {
  const bytes = asn1.oidToDer(dotted ?? '').getBytes();
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.OID, false, bytes);
}

function integer(value: number): forge.asn1.Asn1 {
  return asn1.create(asn1.Class.UNIVERSAL, asn1.Type.INTEGER, false, asn1.integerToDer(value).getBytes());
}

function toDer(value: forge.asn1.Asn1): Buffer {
  return Buffer.from(asn1.toDer(value).getBytes(), 'binary');
}

function toForge(bytes: Buffer): forge.util.ByteStringBuffer {
  return forge.util.createBuffer(bytes.toString('binary'));
}
