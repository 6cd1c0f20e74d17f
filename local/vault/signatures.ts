import {
  constants,
  createHash,
  type KeyObject,
  privateEncrypt,
  publicDecrypt,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { badParameter } from './errors.ts';

type HashName = 'sha256' | 'sha384' | 'sha512';

interface EcAlgorithm {
  type: 'EC';
  curve: string;
  hash: HashName;
}

interface RsaAlgorithm {
  type: 'RSA';
  scheme: 'pkcs1' | 'pss';
  hash: HashName;
}

/** The algorithms of the sign operation (Key Vault REST API, JsonWebKeySignatureAlgorithm). */
const algorithms: Record<string, EcAlgorithm | RsaAlgorithm> = {
  ES256: { type: 'EC', curve: 'P-256', hash: 'sha256' },
  ES384: { type: 'EC', curve: 'P-384', hash: 'sha384' },
  ES512: { type: 'EC', curve: 'P-521', hash: 'sha512' },
  ES256K: { type: 'EC', curve: 'P-256K', hash: 'sha256' },
  RS256: { type: 'RSA', scheme: 'pkcs1', hash: 'sha256' },
  RS384: { type: 'RSA', scheme: 'pkcs1', hash: 'sha384' },
  RS512: { type: 'RSA', scheme: 'pkcs1', hash: 'sha512' },
  PS256: { type: 'RSA', scheme: 'pss', hash: 'sha256' },
  PS384: { type: 'RSA', scheme: 'pss', hash: 'sha384' },
  PS512: { type: 'RSA', scheme: 'pss', hash: 'sha512' },
};

const hashLength: Record<HashName, number> = { sha256: 32, sha384: 48, sha512: 64 };

// Node signs messages, not digests: crypto.sign() always hashes first. Key Vault gets the digest, so that elliptic
// curves are signed with @noble/curves, and RSA with the raw operation over a padding of our own.
const curves = { 'P-256': p256, 'P-384': p384, 'P-521': p521, 'P-256K': secp256k1 } as const;

const plain = { prehash: false, lowS: false } as const;

export interface SigningKeyPair {
  /** The full identifier, for messages. */
  kid: string;
  privateKey: KeyObject;
  publicKey: KeyObject;
}

/** Signs a digest. Answers r||s for elliptic curves (RFC 7518 section 3.4), the bare signature for RSA. */
export function signDigest(key: SigningKeyPair, name: string, digest: Buffer): Buffer {
  const algorithm = checkedAlgorithm(key, name, digest, 'value');
  if (algorithm.type === 'EC') {
    const { d } = key.privateKey.export({ format: 'jwk' });
    return Buffer.from(curveNamed(algorithm.curve).sign(digest, Buffer.from(d ?? '', 'base64url'), plain));
  }
  if (algorithm.scheme === 'pkcs1') {
    const info = Buffer.concat([digestInfo(algorithm.hash), digest]);
    return privateEncrypt({ key: key.privateKey, padding: constants.RSA_PKCS1_PADDING }, info);
  }
  const encoded = encodePss(algorithm.hash, digest, modulusBits(key.publicKey) - 1);
  return privateEncrypt({ key: key.privateKey, padding: constants.RSA_NO_PADDING }, leftPad(encoded, key.publicKey));
}

/** Tells whether `signature` is one of `digest`. */
export function verifyDigest(key: SigningKeyPair, name: string, digest: Buffer, signature: Buffer): boolean {
  const algorithm = checkedAlgorithm(key, name, digest, 'digest');
  try {
    if (algorithm.type === 'EC') return verifyEc(key.publicKey, algorithm, digest, signature);
    if (algorithm.scheme === 'pkcs1') {
      const info = publicDecrypt({ key: key.publicKey, padding: constants.RSA_PKCS1_PADDING }, signature);
      return sameBytes(info, Buffer.concat([digestInfo(algorithm.hash), digest]));
    }
    const encoded = publicDecrypt({ key: key.publicKey, padding: constants.RSA_NO_PADDING }, signature);
    return verifyPss(algorithm.hash, digest, encoded, modulusBits(key.publicKey) - 1);
  } catch {
    // Whatever cannot be a signature at all (its length, a point off the curve, a wrong padding) is a wrong one.
    return false;
  }
}

export function curveOf(key: KeyObject): string {
  const names: Record<string, string> = {
    prime256v1: 'P-256',
    secp384r1: 'P-384',
    secp521r1: 'P-521',
    secp256k1: 'P-256K',
  };
  return names[key.asymmetricKeyDetails?.namedCurve ?? ''] ?? '';
}

function verifyEc(publicKey: KeyObject, algorithm: EcAlgorithm, digest: Buffer, signature: Buffer): boolean {
  const point = publicKey.export({ format: 'jwk' });
  const bytes = [point.x, point.y].map((part) => Buffer.from(part ?? '', 'base64url'));
  return curveNamed(algorithm.curve).verify(signature, digest, Buffer.concat([Buffer.of(4), ...bytes]), plain);
}

function curveNamed(name: string): (typeof curves)[keyof typeof curves] {
  const curve = curves[name as keyof typeof curves];
  if (curve === undefined) throw new Error(`No curve ${name}.`);
  return curve;
}

function checkedAlgorithm(
  key: SigningKeyPair,
  name: string,
  digest: Buffer,
  field: string,
): EcAlgorithm | RsaAlgorithm {
  const algorithm = algorithms[name];
  if (algorithm === undefined) throw badParameter(`Property alg has invalid value: '${name}' is no signing algorithm.`);
  const type = key.publicKey.asymmetricKeyType === 'ec' ? 'EC' : 'RSA';
  const incompatible = `Key and signing algorithm are incompatible. Key ${key.kid}`;
  if (type !== algorithm.type) {
    throw badParameter(
      `${incompatible} is of type '${type}', and algorithm '${name}' can only be used with a key of type '${algorithm.type}' or '${algorithm.type}-HSM'.`,
    );
  }
  if (algorithm.type === 'EC' && curveOf(key.publicKey) !== algorithm.curve) {
    throw badParameter(
      `${incompatible} uses curve '${curveOf(key.publicKey)}', and algorithm '${name}' can only be used with curve '${algorithm.curve}'.`,
    );
  }
  const expected = hashLength[algorithm.hash];
  if (digest.length !== expected) {
    throw badParameter(
      `Invalid length of '${field}': ${digest.length} bytes. ${name} requires ${expected} bytes, encoded with base64url.`,
    );
  }
  return algorithm;
}

/** The DER prefix of a DigestInfo (RFC 8017 section 9.2, note 1). */
function digestInfo(hash: HashName): Buffer {
  const prefixes = {
    sha256: '3031300d060960864801650304020105000420',
    sha384: '3041300d060960864801650304020205000430',
    sha512: '3051300d060960864801650304020305000440',
  };
  return Buffer.from(prefixes[hash], 'hex');
}

/** EMSA-PSS-ENCODE with a salt as long as the hash (RFC 8017 section 9.1.1, RFC 7518 section 3.5). */
function encodePss(hash: HashName, digest: Buffer, bits: number): Buffer {
  const length = Math.ceil(bits / 8);
  const size = hashLength[hash];
  const salt = randomBytes(size);
  const inner = createHash(hash).update(Buffer.alloc(8)).update(digest).update(salt).digest();
  const block = Buffer.concat([Buffer.alloc(length - 2 * size - 2), Buffer.of(1), salt]);
  const masked = xor(block, mask(hash, inner, block.length));
  masked[0] = (masked[0] ?? 0) & (0xff >> (8 * length - bits));
  return Buffer.concat([masked, inner, Buffer.of(0xbc)]);
}

/** EMSA-PSS-VERIFY (RFC 8017 section 9.1.2). */
function verifyPss(hash: HashName, digest: Buffer, padded: Buffer, bits: number): boolean {
  const length = Math.ceil(bits / 8);
  const size = hashLength[hash];
  const encoded = padded.subarray(padded.length - length);
  const masked = encoded.subarray(0, length - size - 1);
  const inner = encoded.subarray(length - size - 1, length - 1);
  if (encoded.at(-1) !== 0xbc) return false;
  const block = xor(masked, mask(hash, inner, masked.length));
  block[0] = (block[0] ?? 0) & (0xff >> (8 * length - bits));
  const salt = block.subarray(block.length - size);
  const expected = Buffer.concat([Buffer.alloc(length - 2 * size - 2), Buffer.of(1), salt]);
  const again = createHash(hash).update(Buffer.alloc(8)).update(digest).update(salt).digest();
  return sameBytes(block, expected) && sameBytes(inner, again);
}

/** MGF1 (RFC 8017 appendix B.2.1). */
function mask(hash: HashName, seed: Buffer, length: number): Buffer {
  const parts: Buffer[] = [];
  for (let counter = 0; counter * hashLength[hash] < length; counter += 1) {
    const suffix = Buffer.alloc(4);
    suffix.writeUInt32BE(counter);
    parts.push(createHash(hash).update(seed).update(suffix).digest());
  }
  return Buffer.concat(parts).subarray(0, length);
}

function xor(left: Buffer, right: Buffer): Buffer {
  return Buffer.from(left.map((byte, index) => byte ^ (right[index] ?? 0)));
}

function modulusBits(key: KeyObject): number {
  return key.asymmetricKeyDetails?.modulusLength ?? 0;
}

function leftPad(bytes: Buffer, key: KeyObject): Buffer {
  const length = Math.ceil(modulusBits(key) / 8);
  return Buffer.concat([Buffer.alloc(length - bytes.length), bytes]);
}

function sameBytes(left: Buffer, right: Buffer): boolean {
  return left.length === right.length && timingSafeEqual(left, right);
}
