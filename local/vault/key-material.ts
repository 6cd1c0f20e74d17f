import { createPrivateKey, createPublicKey, generateKeyPairSync, type JsonWebKey, type KeyObject } from 'node:crypto';
import { readNumber, readText } from './checks.ts';
import { badParameter, VaultError } from './errors.ts';
import { curveOf } from './signatures.ts';

const curveNames: Record<string, string> = {
  'P-256': 'prime256v1',
  'P-384': 'secp384r1',
  'P-521': 'secp521r1',
  'P-256K': 'secp256k1',
};

const rsaSizes = [2048, 3072, 4096];

/** Makes a key as `kty`, `crv` and `key_size` ask for it: of a key's creation, or of a certificate's policy. */
export function generateKey(wanted: Record<string, unknown>): KeyObject {
  const type = readText(wanted, 'kty');
  if (type === 'EC') {
    const curve = readText(wanted, 'crv') ?? 'P-256';
    const namedCurve = curveNames[curve];
    if (namedCurve === undefined) throw badParameter(`Property crv has invalid value: '${curve}'.`);
    return generateKeyPairSync('ec', { namedCurve }).privateKey;
  }
  if (type === 'RSA') {
    const size = readNumber(wanted, 'key_size') ?? 2048;
    if (!rsaSizes.includes(size)) throw badParameter(`Property key_size has invalid value: ${size}.`);
    return generateKeyPairSync('rsa', { modulusLength: size }).privateKey;
  }
  refuseHsm(type);
  throw badParameter(`Property kty has invalid value: '${type ?? ''}'.`);
}

/** The private key behind a JSON web key that a caller brings. */
export function importKey(jwk: Record<string, unknown>): KeyObject {
  refuseHsm(readText(jwk, 'kty'));
  // RFC 8812 names the curve secp256k1, Key Vault P-256K.
  const key = jwk.crv === 'P-256K' ? { ...jwk, crv: 'secp256k1' } : jwk;
  try {
    return checkSupported(createPrivateKey({ key: key as JsonWebKey, format: 'jwk' }));
  } catch (error) {
    if (error instanceof VaultError) throw error;
    throw badParameter('Property key has invalid value: it is not a complete private key.');
  }
}

/** Key Vault holds RSA keys of 2048, 3072 and 4096 bits and elliptic curve keys on its four curves. */
export function checkSupported(key: KeyObject): KeyObject {
  if (key.asymmetricKeyType === 'ec' && curveOf(key) !== '') return key;
  if (key.asymmetricKeyType === 'rsa' && rsaSizes.includes(key.asymmetricKeyDetails?.modulusLength ?? 0)) return key;
  throw badParameter('The key is of a type or size that is not supported.');
}

/** The public JSON web key, in the vault's words. */
export function publicJwk(key: KeyObject): Record<string, unknown> {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  const { kty, n, e, x, y } = publicKey.export({ format: 'jwk' });
  return kty === 'EC' ? { kty, crv: curveOf(publicKey), x, y } : { kty, n, e };
}

export function toPkcs8(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }) as string;
}

export function defaultOperations(key: KeyObject): string[] {
  if (key.asymmetricKeyType === 'ec') return ['sign', 'verify'];
  return ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey'];
}

function refuseHsm(type: string | undefined): void {
  if (type?.endsWith('-HSM')) {
    throw badParameter(`Property kty has invalid value: '${type}' needs a vault of the premium tier.`);
  }
}
