import {
  constants,
  createCipheriv,
  createDecipheriv,
  createHmac,
  generateKeyPairSync,
  type KeyObject,
  privateEncrypt,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';
import { p256 } from '@noble/curves/nist.js';
import { invalidParameter, ServiceError } from './routing.ts';

/** What a handle stands for, as it is written inside one (key/aziot-keyd/src/lib.rs, KeyId). */
type KeyId = { Key: string } | { KeyPair: string } | { Derived: [handle: string, data: number[]] };

/** The key that signs handles. */
const validationKeyId = 'handle-validation-key';
const invalidHandle = () => invalidParameter('handle', 'invalid handle');
/** libaziot-keys says no more about a key that is not there. */
const unknownKey = () => new ServiceError(400, 'a parameter has an invalid value');
const wrongMechanism = () => invalidParameter('mechanism', 'mechanism cannot be used with this key type');

/** What keyd holds, and what it does with it. */
export class KeyStore {
  readonly #keys = new Map<string, Buffer>();
  readonly #pairs = new Map<string, KeyObject>();

  importKey(id: string, bytes: Buffer): string {
    if (bytes.length === 0) throw unknownKey();
    this.#keys.set(id, bytes);
    return this.#handle({ Key: id });
  }

  createKey(id: string): string {
    if (!this.#keys.has(id)) this.#keys.set(id, randomBytes(32));
    return this.#handle({ Key: id });
  }

  loadKey(id: string): string {
    if (!this.#keys.has(id)) throw unknownKey();
    return this.#handle({ Key: id });
  }

  deleteKey(handle: string): void {
    const id = this.#open(handle);
    if (!('Key' in id)) throw invalidParameter('handle', 'handle is not for a key');
    this.#keys.delete(id.Key);
  }

  /** `algorithms`: `ec-p256:rsa-2048:rsa-4096:*`, the first that is known is taken. */
  createPair(id: string, algorithms: string | undefined): string {
    if (!this.#pairs.has(id)) this.#pairs.set(id, newPair(algorithms));
    return this.#handle({ KeyPair: id });
  }

  importPair(id: string, privateKey: KeyObject): void {
    this.#pairs.set(id, privateKey);
  }

  loadPair(id: string): string {
    if (!this.#pairs.has(id)) throw unknownKey();
    return this.#handle({ KeyPair: id });
  }

  deletePair(handle: string): void {
    const id = this.#open(handle);
    if (!('KeyPair' in id)) throw invalidParameter('handle', 'handle is not for a key pair');
    this.#pairs.delete(id.KeyPair);
  }

  movePair(from: string, to: string): void {
    const pair = this.#pairs.get(from);
    if (pair === undefined || from === to) throw unknownKey();
    this.#pairs.delete(from);
    this.#pairs.set(to, pair);
  }

  pair(handle: string): KeyObject {
    const id = this.#open(handle);
    const pair = 'KeyPair' in id ? this.#pairs.get(id.KeyPair) : undefined;
    if (pair === undefined) throw unknownKey();
    return pair;
  }

  derive(baseHandle: string, data: Buffer): string {
    if ('Derived' in this.#open(baseHandle)) {
      const cause = 'nested derived keys are not supported, import the outer derived key first';
      throw invalidParameter('handle', cause);
    }
    return this.#handle({ Derived: [baseHandle, [...data]] });
  }

  exportDerived(handle: string): Buffer {
    const id = this.#open(handle);
    if (!('Derived' in id)) throw invalidParameter('handle', 'handle is not for a derived key');
    return this.#symmetric(id);
  }

  sign(handle: string, algorithm: 'HMAC-SHA256' | 'ECDSA', data: Buffer): Buffer {
    const id = this.#open(handle);
    if ('KeyPair' in id) {
      if (algorithm !== 'ECDSA') throw wrongMechanism();
      return ecdsa(this.pair(handle), data);
    }
    if (algorithm !== 'HMAC-SHA256') throw wrongMechanism();
    return createHmac('sha256', this.#symmetric(id)).update(data).digest();
  }

  /** AES-256-GCM: a version byte, the ciphertext, the tag (key/aziot-keys/src/key.rs). */
  seal(handle: string, iv: Buffer, aad: Buffer, plaintext: Buffer): Buffer {
    const id = this.#open(handle);
    if ('KeyPair' in id) throw wrongMechanism();
    const cipher = createCipheriv('aes-256-gcm', aesKey(this.#symmetric(id)), iv).setAAD(aad);
    const sealed = Buffer.concat([cipher.update(plaintext), cipher.final()]);
    return Buffer.concat([Buffer.of(2), sealed, cipher.getAuthTag()]);
  }

  unseal(handle: string, iv: Buffer, aad: Buffer, ciphertext: Buffer): Buffer {
    const id = this.#open(handle);
    if ('KeyPair' in id) throw wrongMechanism();
    const [version] = ciphertext;
    if (ciphertext.length < 17 || (version !== 1 && version !== 2)) throw unknownKey();
    const [sealed, tag] =
      version === 2
        ? [ciphertext.subarray(1, -16), ciphertext.subarray(-16)]
        : [ciphertext.subarray(17), ciphertext.subarray(1, 17)];
    try {
      const cipher = createDecipheriv('aes-256-gcm', aesKey(this.#symmetric(id)), iv)
        .setAAD(aad)
        .setAuthTag(tag);
      return Buffer.concat([cipher.update(sealed), cipher.final()]);
    } catch {
      throw new ServiceError(500, 'internal error');
    }
  }

  /** The private-key operation of RSA, which is what keyd calls encryption. */
  encryptRsa(handle: string, padding: 'pkcs1' | 'none', plaintext: Buffer): Buffer {
    if (!('KeyPair' in this.#open(handle))) throw wrongMechanism();
    const key = this.pair(handle);
    if (key.asymmetricKeyType !== 'rsa') throw unknownKey();
    try {
      const mode = padding === 'pkcs1' ? constants.RSA_PKCS1_PADDING : constants.RSA_NO_PADDING;
      return privateEncrypt({ key, padding: mode }, plaintext);
    } catch {
      throw new ServiceError(500, 'internal error');
    }
  }

  /** As when keyd's home folder is lost, or `aziotctl` has reset it: every handle so far is worth nothing. */
  forgetHandles(): void {
    this.#keys.delete(validationKeyId);
  }

  #symmetric(id: KeyId): Buffer {
    if ('KeyPair' in id) throw wrongMechanism();
    if ('Key' in id) {
      const key = this.#keys.get(id.Key);
      if (key === undefined) throw unknownKey();
      return key;
    }
    const [base, data] = id.Derived;
    const of = this.#open(base);
    if ('KeyPair' in of) throw unknownKey();
    return createHmac('sha256', this.#symmetric(of)).update(Buffer.from(data)).digest();
  }

  /** A capability: whoever has it may use the key. Another one at every call, for the nonce. */
  #handle(keyId: KeyId): string {
    const sr = JSON.stringify({ key_id: keyId, nonce: randomBytes(64).toString('base64') });
    return `sr=${Buffer.from(sr).toString('base64')}&sig=${this.#signHandle(sr).toString('base64')}`;
  }

  #open(handle: string): KeyId {
    const { sr: encoded, sig } = Object.fromEntries(
      handle.split('&').map((part) => [part.slice(0, part.indexOf('=')), part.slice(part.indexOf('=') + 1)]),
    );
    const sr = decode(encoded).toString('utf8');
    const given = decode(sig);
    const made = this.#signHandle(sr);
    if (given.length !== made.length || !timingSafeEqual(given, made)) throw invalidHandle();
    return (JSON.parse(sr) as { key_id: KeyId }).key_id;
  }

  #signHandle(sr: string): Buffer {
    this.#createValidationKey();
    return createHmac('sha256', this.#keys.get(validationKeyId) ?? Buffer.alloc(0))
      .update(sr)
      .digest();
  }

  #createValidationKey(): void {
    if (!this.#keys.has(validationKeyId)) this.#keys.set(validationKeyId, randomBytes(32));
  }
}

/** Base64 as strict as Rust's: with its padding, and nothing after it. */
function decode(encoded: string | undefined): Buffer {
  const bytes = Buffer.from(encoded ?? '', 'base64');
  if (encoded === undefined || bytes.toString('base64') !== encoded) throw invalidHandle();
  return bytes;
}

function newPair(algorithms: string | undefined): KeyObject {
  for (const algorithm of (algorithms ?? '*').split(':')) {
    if (algorithm === 'ec-p256') return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    if (algorithm === 'rsa-2048' || algorithm === '*') {
      return generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    }
    if (algorithm === 'rsa-4096') return generateKeyPairSync('rsa', { modulusLength: 4096 }).privateKey;
  }
  throw unknownKey();
}

/** DER ECDSA-Sig over a digest: Node would hash once more. */
function ecdsa(key: KeyObject, digest: Buffer): Buffer {
  if (key.asymmetricKeyType !== 'ec') throw unknownKey();
  const secret = Buffer.from(key.export({ format: 'jwk' }).d ?? '', 'base64url');
  return Buffer.from(p256.sign(digest, secret, { prehash: false, lowS: false, format: 'der' }));
}

function aesKey(key: Buffer): Buffer {
  if (key.length === 32) return key;
  throw unknownKey();
}
