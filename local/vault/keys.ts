import { createPrivateKey, createPublicKey } from 'node:crypto';
import type { Reply } from '../kit/https-server.ts';
import { readAttributes, readFlag, readObject, readTags, readText, readTexts } from './checks.ts';
import { badParameter, forbiddenByAttribute, managedByKeyVault, VaultError } from './errors.ts';
import { defaultOperations, generateKey, importKey, publicJwk, toPkcs8 } from './key-material.ts';
import {
  amend,
  freshVersion,
  type ObjectStore,
  type StoredObject,
  type VaultSettings,
  type Version,
} from './object-store.ts';
import type { Call, Operation } from './operations.ts';
import { byVersion, latest, objectId, page, toAttributes, toDeletion } from './shapes.ts';
import { type SigningKeyPair, signDigest, verifyDigest } from './signatures.ts';

export interface KeyVersion extends Version {
  /** PKCS#8 PEM. It never leaves the double, but for the secret behind a certificate that is exportable. */
  privateKey: string;
  operations: string[];
  exportable?: boolean | undefined;
}

export type KeyStore = ObjectStore<KeyVersion>;

const knownOperations = ['encrypt', 'decrypt', 'sign', 'verify', 'wrapKey', 'unwrapKey', 'import', 'export'];

/** The operations on keys (Key Vault REST API, Keys). Encryption, wrapping, backup and rotation policies are not here. */
export function keyOperations(settings: VaultSettings, keys: KeyStore): Operation[] {
  const service = new Keys(settings, keys);
  const read: [string] = ['keys/read'];
  // A public key operation is open to whoever may read the key.
  const verify: [string, string] = ['keys/verify/action', 'keys/read'];
  const update: [string] = ['keys/update/action'];
  const sign: [string] = ['keys/sign/action'];
  return [
    {
      method: 'POST',
      path: '/keys/{name}/create',
      actions: ['keys/create/action'],
      act: (call) => service.create(call),
    },
    {
      method: 'POST',
      path: '/keys/{name}/rotate',
      actions: ['keys/rotate/action'],
      act: (call) => service.rotate(call),
    },
    { method: 'PUT', path: '/keys/{name}', actions: ['keys/import/action'], act: (call) => service.import(call) },
    { method: 'GET', path: '/keys', actions: read, act: (call) => service.list(call) },
    { method: 'GET', path: '/keys/{name}/versions', actions: read, act: (call) => service.versions(call) },
    { method: 'GET', path: '/keys/{name}', actions: read, act: (call) => service.get(call) },
    { method: 'GET', path: '/keys/{name}/{version}', actions: read, act: (call) => service.get(call) },
    { method: 'PATCH', path: '/keys/{name}', actions: update, act: (call) => service.update(call) },
    { method: 'PATCH', path: '/keys/{name}/{version}', actions: update, act: (call) => service.update(call) },
    // A key identifier without a version leaves its place in the path empty.
    { method: 'POST', path: '/keys/{name}//sign', actions: sign, act: (call) => service.sign(call) },
    { method: 'POST', path: '/keys/{name}/{version}/sign', actions: sign, act: (call) => service.sign(call) },
    { method: 'POST', path: '/keys/{name}//verify', actions: verify, act: (call) => service.verify(call) },
    { method: 'POST', path: '/keys/{name}/{version}/verify', actions: verify, act: (call) => service.verify(call) },
    { method: 'DELETE', path: '/keys/{name}', actions: ['keys/delete'], act: (call) => service.delete(call) },
    { method: 'GET', path: '/deletedkeys', actions: read, act: (call) => service.listDeleted(call) },
    { method: 'GET', path: '/deletedkeys/{name}', actions: read, act: (call) => service.getDeleted(call) },
    {
      method: 'POST',
      path: '/deletedkeys/{name}/recover',
      actions: ['keys/recover/action'],
      act: (call) => service.recover(call),
    },
    {
      method: 'DELETE',
      path: '/deletedkeys/{name}',
      actions: ['keys/purge/action'],
      act: (call) => service.purge(call),
    },
  ];
}

class Keys {
  readonly #settings: VaultSettings;
  readonly #keys: KeyStore;

  constructor(settings: VaultSettings, keys: KeyStore) {
    this.#settings = settings;
    this.#keys = keys;
  }

  create({ params: { name = '' }, body }: Call): Reply {
    this.#keys.checkWritable(name, 'create');
    const privateKey = generateKey(body);
    return this.#add(name, body, toPkcs8(privateKey), readOperations(body) ?? defaultOperations(privateKey));
  }

  import({ params: { name = '' }, body }: Call): Reply {
    this.#keys.checkWritable(name, 'import');
    const jwk = readObject(body, 'key');
    if (jwk === undefined) throw badParameter('Property key has invalid value');
    const privateKey = importKey(jwk);
    return this.#add(name, body, toPkcs8(privateKey), readOperations(jwk) ?? defaultOperations(privateKey));
  }

  /** A new version of the same kind as the last. */
  rotate({ params: { name = '' } }: Call): Reply {
    const last = latest(this.#keys.get(name));
    this.#keys.checkWritable(name, 'rotate');
    const { kty, crv } = publicJwk(createPrivateKey(last.privateKey));
    const size = createPrivateKey(last.privateKey).asymmetricKeyDetails?.modulusLength;
    const privateKey = toPkcs8(generateKey({ kty, crv, key_size: size }));
    return this.#add(name, { tags: last.tags }, privateKey, last.operations);
  }

  get({ params: { name = '', version } }: Call): Reply {
    const found = this.#keys.version(name, version);
    return { status: 200, body: this.#bundle(this.#keys.get(name), found) };
  }

  list({ query }: Call): Reply {
    const items = this.#keys.live().map((object) => this.#item(object, latest(object)));
    return page(this.#settings, '/keys', query, items);
  }

  versions({ params: { name = '' }, query }: Call): Reply {
    const object = this.#keys.get(name);
    const items = [...object.versions]
      .sort(byVersion)
      .map((version) => ({ ...this.#item(object, version), kid: this.#kid(object, version) }));
    return page(this.#settings, `/keys/${name}/versions`, query, items);
  }

  update({ params: { name = '', version }, body }: Call): Reply {
    const found = this.#keys.version(name, version);
    const object = this.#keys.get(name);
    if (object.managed) throw managedByKeyVault('keys', 'update');
    const operations = readOperations(body);
    amend(this.#settings, found, readAttributes(body), readTags(body));
    if (operations !== undefined) found.operations = operations;
    return { status: 200, body: this.#bundle(object, found) };
  }

  sign(call: Call): Reply {
    const { key, found, algorithm } = this.#open(call, 'sign');
    // Only what makes something new minds the dates: verify goes on (Azure/azure-sdk-for-net issue 7677).
    const now = this.#settings.now();
    if (found.nbf !== undefined && now < found.nbf) throw forbiddenByAttribute('keys', 'sign', 'NotYetValid');
    if (found.exp !== undefined && now >= found.exp) throw forbiddenByAttribute('keys', 'sign', 'Expired');
    const signature = signDigest(key, algorithm, readBytes(call.body, 'value'));
    return { status: 200, body: { kid: key.kid, value: signature.toString('base64url') } };
  }

  verify(call: Call): Reply {
    const { key, algorithm } = this.#open(call, 'verify');
    const signature = readBytes(call.body, 'value');
    return { status: 200, body: { value: verifyDigest(key, algorithm, readBytes(call.body, 'digest'), signature) } };
  }

  delete({ params: { name = '' } }: Call): Reply {
    if (this.#keys.get(name).managed) throw managedByKeyVault('keys', 'delete');
    return { status: 200, body: this.#deletedBundle(this.#keys.delete(name)) };
  }

  listDeleted({ query }: Call): Reply {
    const items = this.#keys
      .listDeleted()
      .map((object) => ({ ...toDeletion(this.#settings, 'keys', object), ...this.#item(object, latest(object)) }));
    return page(this.#settings, '/deletedkeys', query, items);
  }

  getDeleted({ params: { name = '' } }: Call): Reply {
    return { status: 200, body: this.#deletedBundle(this.#keys.getDeleted(name)) };
  }

  recover({ params: { name = '' } }: Call): Reply {
    this.#keys.checkNotOwned(name, 'recover');
    const object = this.#keys.recover(name);
    return { status: 200, body: this.#bundle(object, latest(object)) };
  }

  purge({ params: { name = '' } }: Call): Reply {
    if (this.#keys.getDeleted(name).managed) throw managedByKeyVault('keys', 'purge');
    this.#keys.purge(name);
    return { status: 204 };
  }

  #add(name: string, body: Record<string, unknown>, privateKey: string, operations: string[]): Reply {
    const attributes = readObject(body, 'attributes') ?? {};
    if (readFlag(attributes, 'exportable')) {
      throw badParameter('Property exportable has invalid value: only a key with a release policy can be exported.');
    }
    const version = {
      ...freshVersion(this.#settings, readAttributes(body)),
      privateKey,
      operations,
      tags: readTags(body),
    };
    const object = this.#keys.add(name, version, () => ({ name, versions: [] }));
    return { status: 200, body: this.#bundle(object, version) };
  }

  /** The key of a cryptographic operation, which its attributes and its `key_ops` must allow. */
  #open(call: Call, operation: 'sign' | 'verify'): { key: SigningKeyPair; found: KeyVersion; algorithm: string } {
    const { name = '', version } = call.params;
    const found = this.#keys.version(name, version);
    if (!found.enabled) throw forbiddenByAttribute('keys', operation, 'Disabled');
    if (!found.operations.includes(operation)) {
      const message = `Operation ${operation} is not permitted on this key.`;
      throw new VaultError(403, 'Forbidden', message, 'KeyOperationForbidden');
    }
    const privateKey = createPrivateKey(found.privateKey);
    const kid = this.#kid(this.#keys.get(name), found);
    const algorithm = readText(call.body, 'alg') ?? '';
    return { key: { kid, privateKey, publicKey: createPublicKey(privateKey) }, found, algorithm };
  }

  #kid(object: StoredObject<KeyVersion>, version: KeyVersion): string {
    return objectId(this.#settings, 'keys', object.name, version.version);
  }

  #bundle(object: StoredObject<KeyVersion>, version: KeyVersion): Record<string, unknown> {
    const jwk = publicJwk(createPrivateKey(version.privateKey));
    return {
      key: { kid: this.#kid(object, version), key_ops: version.operations, ...jwk },
      ...describe(this.#settings, object, version),
    };
  }

  #deletedBundle(object: StoredObject<KeyVersion>): Record<string, unknown> {
    return { ...toDeletion(this.#settings, 'keys', object), ...this.#bundle(object, latest(object)) };
  }

  #item(object: StoredObject<KeyVersion>, version: KeyVersion): Record<string, unknown> {
    return { kid: objectId(this.#settings, 'keys', object.name), ...describe(this.#settings, object, version) };
  }
}

function describe(
  settings: VaultSettings,
  object: StoredObject<KeyVersion>,
  version: KeyVersion,
): Record<string, unknown> {
  return {
    ...(object.managed ? { managed: true } : {}),
    attributes: { ...toAttributes(settings, version), exportable: version.exportable ?? false },
    ...(version.tags === undefined ? {} : { tags: version.tags }),
  };
}

function readOperations(holder: Record<string, unknown>): string[] | undefined {
  const operations = readTexts(holder, 'key_ops');
  const unknown = operations?.find((operation) => !knownOperations.includes(operation));
  if (unknown !== undefined) throw badParameter(`Property key_ops has invalid value: '${unknown}'.`);
  return operations;
}

function readBytes(body: Record<string, unknown>, field: string): Buffer {
  const text = readText(body, field);
  if (text === undefined || !/^[\w-]+$/.test(text)) throw badParameter(`Property ${field} has invalid value`);
  return Buffer.from(text, 'base64url');
}
