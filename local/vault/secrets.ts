import type { Reply } from '../kit/https-server.ts';
import { readAttributes, readContentType, readSecretValue, readTags } from './checks.ts';
import { forbiddenByAttribute, managedByKeyVault } from './errors.ts';
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

export interface SecretVersion extends Version {
  value: string;
  contentType?: string | undefined;
}

export type SecretStore = ObjectStore<SecretVersion>;

/** The operations on secrets (Key Vault REST API, Secrets). */
export function secretOperations(settings: VaultSettings, secrets: SecretStore): Operation[] {
  const service = new Secrets(settings, secrets);
  const read = 'secrets/getSecret/action';
  const readMetadata = 'secrets/readMetadata/action';
  return [
    { method: 'PUT', path: '/secrets/{name}', actions: ['secrets/setSecret/action'], act: (call) => service.set(call) },
    { method: 'GET', path: '/secrets', actions: [readMetadata], act: (call) => service.list(call) },
    { method: 'GET', path: '/secrets/{name}/versions', actions: [readMetadata], act: (call) => service.versions(call) },
    { method: 'GET', path: '/secrets/{name}', actions: [read], act: (call) => service.get(call) },
    { method: 'GET', path: '/secrets/{name}/{version}', actions: [read], act: (call) => service.get(call) },
    ...['/secrets/{name}', '/secrets/{name}/{version}'].map(
      (path): Operation => ({
        method: 'PATCH',
        path,
        actions: ['secrets/update/action'],
        act: (call) => service.update(call),
      }),
    ),
    { method: 'DELETE', path: '/secrets/{name}', actions: ['secrets/delete'], act: (call) => service.delete(call) },
    { method: 'GET', path: '/deletedsecrets', actions: [readMetadata], act: (call) => service.listDeleted(call) },
    { method: 'GET', path: '/deletedsecrets/{name}', actions: [readMetadata], act: (call) => service.getDeleted(call) },
    {
      method: 'POST',
      path: '/deletedsecrets/{name}/recover',
      actions: ['secrets/recover/action'],
      act: (call) => service.recover(call),
    },
    {
      method: 'DELETE',
      path: '/deletedsecrets/{name}',
      actions: ['secrets/purge/action'],
      act: (call) => service.purge(call),
    },
  ];
}

class Secrets {
  readonly #settings: VaultSettings;
  readonly #secrets: SecretStore;

  constructor(settings: VaultSettings, secrets: SecretStore) {
    this.#settings = settings;
    this.#secrets = secrets;
  }

  set({ params: { name = '' }, body }: Call): Reply {
    const version: SecretVersion = {
      ...freshVersion(this.#settings, readAttributes(body)),
      value: readSecretValue(body),
      contentType: readContentType(body),
      tags: readTags(body),
    };
    this.#secrets.checkWritable(name, 'set');
    const object = this.#secrets.add(name, version, () => ({ name, versions: [] }));
    return { status: 200, body: { value: version.value, ...this.#bundle(object, version) } };
  }

  /** Neither `nbf` nor `exp` keeps a value from being read, only `enabled` does (Azure/AzureKeyVault issue 19). */
  get({ params: { name = '', version } }: Call): Reply {
    const found = this.#secrets.version(name, version);
    if (!found.enabled) throw forbiddenByAttribute('secrets', 'get', 'Disabled');
    return { status: 200, body: { value: found.value, ...this.#bundle(this.#secrets.get(name), found) } };
  }

  list({ query }: Call): Reply {
    const items = this.#secrets.live().map((object) => this.#item(object, latest(object)));
    return page(this.#settings, '/secrets', query, items);
  }

  versions({ params: { name = '' }, query }: Call): Reply {
    const object = this.#secrets.get(name);
    const items = [...object.versions]
      .sort(byVersion)
      .map((version) => ({ ...this.#item(object, version), id: this.#id(object, version) }));
    return page(this.#settings, `/secrets/${name}/versions`, query, items);
  }

  update({ params: { name = '', version }, body }: Call): Reply {
    const found = this.#secrets.version(name, version);
    const object = this.#secrets.get(name);
    if (object.managed) throw managedByKeyVault('secrets', 'update');
    const contentType = readContentType(body);
    amend(this.#settings, found, readAttributes(body), readTags(body));
    if (contentType !== undefined) found.contentType = contentType;
    return { status: 200, body: this.#bundle(object, found) };
  }

  delete({ params: { name = '' } }: Call): Reply {
    if (this.#secrets.get(name).managed) throw managedByKeyVault('secrets', 'delete');
    return { status: 200, body: this.#deletedBundle(this.#secrets.delete(name)) };
  }

  listDeleted({ query }: Call): Reply {
    const items = this.#secrets
      .listDeleted()
      .map((object) => ({ ...toDeletion(this.#settings, 'secrets', object), ...this.#item(object, latest(object)) }));
    return page(this.#settings, '/deletedsecrets', query, items);
  }

  getDeleted({ params: { name = '' } }: Call): Reply {
    return { status: 200, body: this.#deletedBundle(this.#secrets.getDeleted(name)) };
  }

  recover({ params: { name = '' } }: Call): Reply {
    this.#secrets.checkNotOwned(name, 'recover');
    const object = this.#secrets.recover(name);
    return { status: 200, body: this.#bundle(object, latest(object)) };
  }

  purge({ params: { name = '' } }: Call): Reply {
    if (this.#secrets.getDeleted(name).managed) throw managedByKeyVault('secrets', 'purge');
    this.#secrets.purge(name);
    return { status: 204 };
  }

  #id(object: StoredObject<SecretVersion>, version: SecretVersion): string {
    return objectId(this.#settings, 'secrets', object.name, version.version);
  }

  #bundle(object: StoredObject<SecretVersion>, version: SecretVersion): Record<string, unknown> {
    return {
      id: this.#id(object, version),
      ...describe(this.#settings, object, version),
      ...(object.managed ? { kid: objectId(this.#settings, 'keys', object.name, version.version) } : {}),
    };
  }

  #deletedBundle(object: StoredObject<SecretVersion>): Record<string, unknown> {
    return { ...toDeletion(this.#settings, 'secrets', object), ...this.#bundle(object, latest(object)) };
  }

  #item(object: StoredObject<SecretVersion>, version: SecretVersion): Record<string, unknown> {
    return { id: objectId(this.#settings, 'secrets', object.name), ...describe(this.#settings, object, version) };
  }
}

function describe(
  settings: VaultSettings,
  object: StoredObject<SecretVersion>,
  version: SecretVersion,
): Record<string, unknown> {
  return {
    ...(version.contentType === undefined ? {} : { contentType: version.contentType }),
    ...(object.managed ? { managed: true } : {}),
    attributes: toAttributes(settings, version),
    ...(version.tags === undefined ? {} : { tags: version.tags }),
  };
}
