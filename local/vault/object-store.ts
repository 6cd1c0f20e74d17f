import { randomBytes } from 'node:crypto';
import type { GivenAttributes } from './checks.ts';
import {
  deletedButRecoverable,
  deletedNotFound,
  type Kind,
  managedByKeyVault,
  notFound,
  purgeProtected,
} from './errors.ts';

/** What every version of every object has. Times are seconds since 1970. */
export interface Version {
  version: string;
  enabled: boolean;
  nbf?: number | undefined;
  exp?: number | undefined;
  created: number;
  updated: number;
  tags?: Record<string, string> | undefined;
}

/** An object with its versions, the latest last. */
export interface StoredObject<V extends Version> {
  name: string;
  /** It belongs to the certificate of the same name. */
  managed?: boolean;
  versions: V[];
  deleted?: { deletedDate: number; scheduledPurgeDate: number };
}

export interface VaultSettings {
  /** `gatepost`, of `https://gatepost.vault.azure.net`. */
  name: string;
  url: string;
  softDeleteSeconds: number;
  purgeProtection: boolean;
  /** Seconds since 1970. */
  now(): number;
  /** Says that the state has changed. */
  touch(): void;
}

/** All secrets, keys or certificates of the vault: versions, soft delete, recovery, purge. */
export class ObjectStore<V extends Version, O extends StoredObject<V> = StoredObject<V>> {
  readonly kind: Kind;
  readonly #settings: VaultSettings;
  readonly #objects: Map<string, O>;

  constructor(kind: Kind, settings: VaultSettings, stored: O[] = []) {
    this.kind = kind;
    this.#settings = settings;
    // Names are case-insensitive, and keep the case that they were made with.
    this.#objects = new Map(stored.map((object) => [object.name.toLowerCase(), object]));
  }

  all(): O[] {
    return [...this.#objects.values()];
  }

  live(): O[] {
    return this.all()
      .filter(({ deleted }) => deleted === undefined)
      .sort(byName);
  }

  /** Deleted objects; those of a deleted certificate are not listed, only found by name. */
  listDeleted(): O[] {
    for (const { name } of this.all()) this.#expire(name);
    return this.all()
      .filter(({ deleted, managed }) => deleted !== undefined && managed !== true)
      .sort(byName);
  }

  find(name: string): O | undefined {
    this.#expire(name);
    const object = this.#objects.get(name.toLowerCase());
    return object?.deleted === undefined ? object : undefined;
  }

  get(name: string): O {
    const object = this.find(name);
    if (object === undefined) throw notFound(this.kind, name);
    return object;
  }

  /** The named version, or the latest where `version` is absent or empty. */
  version(name: string, version: string | undefined): V {
    const { versions } = this.get(name);
    const found = version ? versions.find((known) => known.version === version) : versions.at(-1);
    if (found === undefined) throw notFound(this.kind, version ? `${name}/${version}` : name);
    return found;
  }

  /** Makes sure that `name` may be written: not a deleted object's, and not a certificate's own. */
  checkWritable(name: string, operation: string): void {
    this.checkFree(name);
    if (this.find(name)?.managed) throw managedByKeyVault(this.kind, operation);
  }

  /** Makes sure that a certificate does not own the object, deleted or not. */
  checkNotOwned(name: string, operation: string): void {
    if (this.#objects.get(name.toLowerCase())?.managed) throw managedByKeyVault(this.kind, operation);
  }

  checkFree(name: string): void {
    this.#expire(name);
    if (this.#objects.get(name.toLowerCase())?.deleted !== undefined) throw deletedButRecoverable(this.kind, name);
  }

  /** Tells whether there is an object of this name, deleted or not. */
  holds(name: string): boolean {
    this.#expire(name);
    return this.#objects.has(name.toLowerCase());
  }

  findOrMake(name: string, fresh: () => O): O {
    const object = this.find(name) ?? fresh();
    this.#objects.set(name.toLowerCase(), object);
    return object;
  }

  /** Puts the version on top, and makes the object where there is none. */
  add(name: string, version: V, fresh: () => O): O {
    const object = this.findOrMake(name, fresh);
    object.versions.push(version);
    this.#settings.touch();
    return object;
  }

  delete(name: string): O {
    const object = this.get(name);
    const deletedDate = this.#settings.now();
    object.deleted = { deletedDate, scheduledPurgeDate: deletedDate + this.#settings.softDeleteSeconds };
    this.#settings.touch();
    return object;
  }

  getDeleted(name: string): O {
    this.#expire(name);
    const object = this.#objects.get(name.toLowerCase());
    if (object?.deleted === undefined) throw deletedNotFound(this.kind, name);
    return object;
  }

  recover(name: string): O {
    this.#expire(name);
    const object = this.#objects.get(name.toLowerCase());
    // The recordings of the clients' own tests show that the service misses the object, not the deleted object.
    if (object?.deleted === undefined) throw notFound(this.kind, name);
    delete object.deleted;
    this.#settings.touch();
    return object;
  }

  purge(name: string): void {
    this.getDeleted(name);
    if (this.#settings.purgeProtection) throw purgeProtected(this.#settings.name);
    this.remove(name);
  }

  remove(name: string): void {
    this.#objects.delete(name.toLowerCase());
    this.#settings.touch();
  }

  /** The vault purges by itself when the retention is over. */
  #expire(name: string): void {
    const purgeDate = this.#objects.get(name.toLowerCase())?.deleted?.scheduledPurgeDate;
    if (purgeDate !== undefined && purgeDate <= this.#settings.now()) this.remove(name);
  }
}

export function newVersion(): string {
  return randomBytes(16).toString('hex');
}

/** What every new version starts with. */
export function freshVersion(settings: VaultSettings, attributes: GivenAttributes): Version {
  const now = settings.now();
  return { version: newVersion(), enabled: true, created: now, updated: now, ...attributes };
}

/** Changes what a PATCH may change, and dates it. */
export function amend(
  settings: VaultSettings,
  version: Version,
  attributes: GivenAttributes,
  tags: Record<string, string> | undefined,
): void {
  Object.assign(version, attributes);
  if (tags !== undefined) version.tags = tags;
  version.updated = settings.now();
  settings.touch();
}

function byName(left: { name: string }, right: { name: string }): number {
  return left.name < right.name ? -1 : 1;
}
