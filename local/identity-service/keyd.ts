import { createPublicKey, type KeyObject } from 'node:crypto';
import type { KeyStore } from './key-store.ts';
import { type Grant, isGranted } from './principals.ts';
import { bytes, type Call, fields, invalidParameter, ServiceError, type ServiceRoute, text } from './routing.ts';

export interface KeydContext {
  keys: KeyStore;
  grants(): readonly Grant[];
}

/** Also the routes that the documents give to 2021-05-01 answer on the first version. */
export const keydVersions = ['2020-09-01', '2021-05-01'] as const;

const usages = ['derive', 'encrypt', 'sign'];

/** The Keys Service: ids are guarded by uid, handles by nothing but being known (key/aziot-keyd/src/http). */
export function keydRoutes({ keys, grants }: KeydContext): ServiceRoute[] {
  const authorized = (call: Call, id: string): string => {
    const isAllowed =
      call.uid === 0 || grants().some((grant) => grant.uid === call.uid && isGranted(grant.keys ?? [], id));
    if (isAllowed) return id;
    throw new ServiceError(401, `user ${call.uid} is not authorized to access the key ${id}`);
  };
  const handle = (keyHandle: string) => ({ status: 200, body: { keyHandle } });
  return [
    {
      path: '/key',
      post: (call) => {
        // `usage` is required, whatever the documents say about imports.
        const { keyId, usage, keyBytes } = fields(call, 'keyId', 'usage', ...([] as 'keyBytes'[]));
        const id = text(call, keyId);
        checkUsage(call, text(call, usage));
        const imported = keyBytes === undefined ? undefined : bytes(call, keyBytes);
        authorized(call, id);
        return handle(imported === undefined ? keys.createKey(id) : keys.importKey(id, imported));
      },
      delete: (call) => {
        keys.deleteKey(text(call, fields(call, 'keyHandle').keyHandle));
        return { status: 204 };
      },
    },
    { path: '/key/{id}', get: (call) => handle(keys.loadKey(authorized(call, param(call)))) },
    {
      path: '/keypair',
      post: (call) => {
        const { keyId, preferredAlgorithms } = fields(call, 'keyId', ...([] as 'preferredAlgorithms'[]));
        const algorithms = preferredAlgorithms === undefined ? undefined : text(call, preferredAlgorithms);
        return handle(keys.createPair(authorized(call, text(call, keyId)), algorithms));
      },
      delete: (call) => {
        keys.deletePair(text(call, fields(call, 'keyHandle').keyHandle));
        return { status: 204 };
      },
    },
    {
      path: '/keypair/{id}',
      get: (call) => handle(keys.loadPair(authorized(call, param(call)))),
      post: (call) => {
        const from = authorized(call, text(call, fields(call, 'from').from));
        keys.movePair(from, authorized(call, param(call)));
        return { status: 204 };
      },
    },
    {
      path: '/parameters/{id}',
      post: (call) => {
        const pair = keys.pair(text(call, fields(call, 'keyHandle').keyHandle));
        return { status: 200, body: { value: parameterOf(pair, param(call)) } };
      },
    },
    ...derivedRoutes(keys),
    ...cryptoRoutes(keys),
  ];
}

function derivedRoutes(keys: KeyStore): ServiceRoute[] {
  return [
    {
      path: '/derivedkey',
      post: (call) => {
        const { baseKeyHandle, derivationData } = fields(call, 'baseKeyHandle', 'derivationData');
        const keyHandle = keys.derive(text(call, baseKeyHandle), bytes(call, derivationData));
        return { status: 200, body: { keyHandle } };
      },
    },
    {
      path: '/derivedkey/export',
      post: (call) => {
        const key = keys.exportDerived(text(call, fields(call, 'keyHandle').keyHandle));
        return { status: 200, body: { key: key.toString('base64') } };
      },
    },
  ];
}

function cryptoRoutes(keys: KeyStore): ServiceRoute[] {
  return [
    {
      path: '/sign',
      post: (call) => {
        const { keyHandle, algorithm, parameters } = fields(call, 'keyHandle', 'algorithm', 'parameters');
        const of = text(call, keyHandle);
        const by = variant(call, algorithm, 'HMAC-SHA256', 'ECDSA');
        const inner = nested(call, parameters);
        const field = by === 'ECDSA' ? 'digest' : 'message';
        const data = bytes(call, fields(inner, field)[field]);
        return { status: 200, body: { signature: keys.sign(of, by, data).toString('base64') } };
      },
    },
    {
      path: '/encrypt',
      post: (call) => {
        const { keyHandle, algorithm, parameters, plaintext } = fields(
          call,
          'keyHandle',
          'algorithm',
          'plaintext',
          ...([] as 'parameters'[]),
        );
        const of = text(call, keyHandle);
        const by = variant(call, algorithm, 'AEAD', 'RSA-PKCS1', 'RSA-NO-PADDING');
        const plain = bytes(call, plaintext);
        const sealed =
          by === 'AEAD'
            ? keys.seal(of, ...aeadParameters(call, parameters), plain)
            : keys.encryptRsa(of, by === 'RSA-PKCS1' ? 'pkcs1' : 'none', plain);
        return { status: 200, body: { ciphertext: sealed.toString('base64') } };
      },
    },
    {
      path: '/decrypt',
      post: (call) => {
        const { keyHandle, algorithm, parameters, ciphertext } = fields(
          call,
          'keyHandle',
          'algorithm',
          'parameters',
          'ciphertext',
        );
        variant(call, algorithm, 'AEAD');
        const [iv, aad] = aeadParameters(call, parameters);
        const plain = keys.unseal(text(call, keyHandle), iv, aad, bytes(call, ciphertext));
        return { status: 200, body: { plaintext: plain.toString('base64') } };
      },
    },
  ];
}

function aeadParameters(call: Call, parameters: unknown): [iv: Buffer, aad: Buffer] {
  const inner = nested(call, parameters);
  const { iv, aad } = fields(inner, 'iv', 'aad');
  return [bytes(call, iv), bytes(call, aad)];
}

/** A field that is a struct of its own; missing, it is missing. */
function nested(call: Call, body: unknown): Call {
  if (body === undefined) throw new ServiceError(422, `missing field \`parameters\` at ${call.end}`);
  return { ...call, body };
}

function variant<V extends string>(call: Call, value: unknown, ...known: V[]): V {
  const found = known.find((each) => each === value);
  if (found !== undefined) return found;
  const names = known.map((each) => `\`${each}\``).join(', ');
  throw new ServiceError(422, `unknown variant \`${text(call, value)}\`, expected one of ${names} at ${call.end}`);
}

function checkUsage(call: Call, usage: string): void {
  if (usage.split(',').every((each) => usages.includes(each))) return;
  throw new ServiceError(422, `invalid value: string "${usage}", expected key usage at ${call.end}`);
}

function param(call: Call): string {
  return call.params.id ?? '';
}

function parameterOf(pair: KeyObject, name: string): string {
  const jwk = createPublicKey(pair).export({ format: 'jwk' });
  const isEc = jwk.kty === 'EC';
  const decoded = (value: string | undefined) => Buffer.from(value ?? '', 'base64url');
  switch (name) {
    case 'algorithm':
      return isEc ? 'ECDSA' : 'RSA';
    case 'ec-curve-oid':
      // 1.2.840.10045.3.1.7, P-256, in DER.
      if (isEc) return Buffer.from('06082a8648ce3d030107', 'hex').toString('base64');
      break;
    case 'ec-point':
      if (isEc) return Buffer.concat([Buffer.of(4), decoded(jwk.x), decoded(jwk.y)]).toString('base64');
      break;
    case 'rsa-modulus':
      if (!isEc) return decoded(jwk.n).toString('base64');
      break;
    case 'rsa-exponent':
      if (!isEc) return decoded(jwk.e).toString('base64');
      break;
    default:
      throw invalidParameter('parameter_name', 'unrecognized value');
  }
  throw new ServiceError(400, 'a parameter has an invalid value');
}
