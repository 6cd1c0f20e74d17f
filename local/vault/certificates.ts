import type { Reply } from '../kit/https-server.ts';
import { pkcs12, readContent } from './certificate-content.ts';
import { importPolicy, readContentType, readPolicy } from './certificate-policy.ts';
import {
  type CertificateStore,
  type CertificateVersion,
  type OwnedCertificates,
  type StoredCertificate,
  thumbprint,
} from './certificate-store.ts';
import { readAttributes, readFlag, readObject, readTags, readText } from './checks.ts';
import { badParameter, notFound } from './errors.ts';
import { amend, type VaultSettings } from './object-store.ts';
import type { Call, Operation } from './operations.ts';
import { byVersion, objectId, page, toAttributes, toDeletion } from './shapes.ts';

const read: [string] = ['certificates/read'];
const update: [string] = ['certificates/update/action'];

/** The operations on certificates (Key Vault REST API, Certificates), but for what makes and merges them. */
export function certificateOperations(settings: VaultSettings, owned: OwnedCertificates): Operation[] {
  const service = new Certificates(settings, owned);
  return [
    { method: 'GET', path: '/certificates', actions: read, act: (call) => service.list(call) },
    {
      method: 'POST',
      path: '/certificates/{name}/import',
      actions: ['certificates/import/action'],
      act: (call) => service.import(call),
    },
    { method: 'GET', path: '/certificates/{name}/versions', actions: read, act: (call) => service.versions(call) },
    { method: 'GET', path: '/certificates/{name}/policy', actions: read, act: (call) => service.policy(call) },
    {
      method: 'PATCH',
      path: '/certificates/{name}/policy',
      actions: update,
      act: (call) => service.updatePolicy(call),
    },
    { method: 'GET', path: '/certificates/{name}', actions: read, act: (call) => service.get(call) },
    { method: 'GET', path: '/certificates/{name}/{version}', actions: read, act: (call) => service.get(call) },
    { method: 'PATCH', path: '/certificates/{name}', actions: update, act: (call) => service.update(call) },
    { method: 'PATCH', path: '/certificates/{name}/{version}', actions: update, act: (call) => service.update(call) },
    {
      method: 'DELETE',
      path: '/certificates/{name}',
      actions: ['certificates/delete'],
      act: (call) => service.delete(call),
    },
    { method: 'GET', path: '/deletedcertificates', actions: read, act: (call) => service.listDeleted(call) },
    { method: 'GET', path: '/deletedcertificates/{name}', actions: read, act: (call) => service.getDeleted(call) },
    {
      method: 'POST',
      path: '/deletedcertificates/{name}/recover',
      actions: ['certificates/recover/action'],
      act: (call) => service.recover(call),
    },
    {
      method: 'DELETE',
      path: '/deletedcertificates/{name}',
      actions: ['certificates/purge/action'],
      act: (call) => service.purge(call),
    },
  ];
}

class Certificates {
  readonly #settings: VaultSettings;
  readonly #owned: OwnedCertificates;

  constructor(settings: VaultSettings, owned: OwnedCertificates) {
    this.#settings = settings;
    this.#owned = owned;
  }

  get #store(): CertificateStore {
    return this.#owned.certificates;
  }

  import({ params: { name = '' }, body }: Call): Reply {
    const value = readText(body, 'value');
    if (!value) throw badParameter('Property value has invalid value');
    const raw = readObject(body, 'policy') ?? {};
    const contentType = readContentType(raw) ?? pkcs12;
    const tags = readTags(body);
    const { enabled = true } = readAttributes(body);
    const content = readContent(value, readText(body, 'pwd'), contentType);
    this.#owned.checkFree(name);
    const policy = importPolicy(raw, content.privateKey, content.certificate, this.#settings.now());
    const preserveOrder = readFlag(body, 'preserveCertOrder');
    const version = this.#owned.add(name, { ...content, policy, tags, enabled, preserveOrder });
    return { status: 200, body: bundle(this.#settings, this.#store.get(name), version) };
  }

  /** A certificate whose first version is not made yet is there, but has nothing to show. */
  get({ params: { name = '', version } }: Call): Reply {
    const object = this.#store.get(name);
    if (!version && object.versions.length === 0) return { status: 200, body: unfinished(this.#settings, object) };
    const found = this.#store.version(name, version);
    return { status: 200, body: bundle(this.#settings, object, found) };
  }

  list({ query }: Call): Reply {
    const withPending = query.get('includePending') === 'true';
    const items = this.#store
      .live()
      .filter(({ versions, pending }) => versions.length > 0 || (withPending && pending !== undefined))
      .map((object) => item(this.#settings, object, object.versions.at(-1)));
    return page(this.#settings, '/certificates', query, items);
  }

  versions({ params: { name = '' }, query }: Call): Reply {
    const object = this.#store.get(name);
    const items = [...object.versions]
      .sort(byVersion)
      .map((version) => ({ ...item(this.#settings, object, version), id: id(this.#settings, object, version) }));
    return page(this.#settings, `/certificates/${name}/versions`, query, items);
  }

  policy({ params: { name = '' } }: Call): Reply {
    return { status: 200, body: policyBody(this.#settings, this.#store.get(name)) };
  }

  updatePolicy({ params: { name = '' }, body }: Call): Reply {
    const object = this.#store.get(name);
    object.policy = readPolicy(body, this.#settings.now(), object.policy);
    this.#settings.touch();
    return { status: 200, body: policyBody(this.#settings, object) };
  }

  /** A certificate's dates are its own: of the attributes only `enabled` can be changed. */
  update({ params: { name = '', version }, body }: Call): Reply {
    const found = this.#store.version(name, version);
    const { enabled } = readAttributes(body);
    amend(this.#settings, found, enabled === undefined ? {} : { enabled }, readTags(body));
    if (enabled !== undefined) this.#owned.setEnabled(name, found.version, enabled);
    return { status: 200, body: bundle(this.#settings, this.#store.get(name), found) };
  }

  delete({ params: { name = '' } }: Call): Reply {
    return { status: 200, body: this.#deletedBundle(this.#owned.delete(name)) };
  }

  listDeleted({ query }: Call): Reply {
    const items = this.#store.listDeleted().map((object) => ({
      ...toDeletion(this.#settings, 'certificates', object),
      ...item(this.#settings, object, object.versions.at(-1)),
    }));
    return page(this.#settings, '/deletedcertificates', query, items);
  }

  getDeleted({ params: { name = '' } }: Call): Reply {
    return { status: 200, body: this.#deletedBundle(this.#store.getDeleted(name)) };
  }

  recover({ params: { name = '' } }: Call): Reply {
    const object = this.#owned.recover(name);
    const version = object.versions.at(-1);
    const body = version === undefined ? unfinished(this.#settings, object) : bundle(this.#settings, object, version);
    return { status: 200, body };
  }

  purge({ params: { name = '' } }: Call): Reply {
    this.#owned.purge(name);
    return { status: 204 };
  }

  #deletedBundle(object: StoredCertificate): Record<string, unknown> {
    const version = object.versions.at(-1);
    const shown = version === undefined ? unfinished(this.#settings, object) : bundle(this.#settings, object, version);
    return { ...toDeletion(this.#settings, 'certificates', object), ...shown };
  }
}

/** The certificate as it is answered: its public part, its policy, and where its key and secret are. */
export function bundle(
  settings: VaultSettings,
  object: StoredCertificate,
  version: CertificateVersion | undefined,
): Record<string, unknown> {
  if (version === undefined) throw notFound('certificates', object.name);
  return {
    id: id(settings, object, version),
    kid: objectId(settings, 'keys', object.name, version.version),
    sid: objectId(settings, 'secrets', object.name, version.version),
    x5t: thumbprint(version),
    cer: version.cer,
    attributes: toAttributes(settings, version),
    ...(version.tags === undefined ? {} : { tags: version.tags }),
    ...(version.preserveOrder === undefined ? {} : { preserveCertOrder: version.preserveOrder }),
    policy: policyBody(settings, object),
    ...pendingLink(settings, object),
  };
}

function unfinished(settings: VaultSettings, object: StoredCertificate): Record<string, unknown> {
  const { created, updated } = object.policy.attributes;
  return {
    id: objectId(settings, 'certificates', object.name),
    attributes: { enabled: false, created, updated },
    policy: policyBody(settings, object),
    ...pendingLink(settings, object),
  };
}

function pendingLink(settings: VaultSettings, object: StoredCertificate): Record<string, unknown> {
  if (object.pending === undefined) return {};
  return { pending: { id: `${objectId(settings, 'certificates', object.name)}/pending` } };
}

function policyBody(settings: VaultSettings, object: StoredCertificate): Record<string, unknown> {
  return { id: `${objectId(settings, 'certificates', object.name)}/policy`, ...object.policy };
}

/** Lists of certificates leave the recovery attributes out (james-gould/azure-keyvault-emulator pull request 399). */
function item(
  settings: VaultSettings,
  object: StoredCertificate,
  version: CertificateVersion | undefined,
): Record<string, unknown> {
  if (version === undefined)
    return { id: objectId(settings, 'certificates', object.name), attributes: { enabled: false } };
  const { recoveryLevel: _level, recoverableDays: _days, ...attributes } = toAttributes(settings, version);
  return {
    id: objectId(settings, 'certificates', object.name),
    x5t: thumbprint(version),
    attributes,
    subject: '',
    ...(version.tags === undefined ? {} : { tags: version.tags }),
  };
}

function id(settings: VaultSettings, object: StoredCertificate, version: CertificateVersion): string {
  return objectId(settings, 'certificates', object.name, version.version);
}
