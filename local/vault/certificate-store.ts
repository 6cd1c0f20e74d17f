import { createHash, createPrivateKey, type KeyObject, randomUUID, type X509Certificate } from 'node:crypto';
import { writeContent } from './certificate-content.ts';
import type { CertificatePolicy } from './certificate-policy.ts';
import { noun, VaultError } from './errors.ts';
import { defaultOperations, toPkcs8 } from './key-material.ts';
import type { KeyStore } from './keys.ts';
import { newVersion, type ObjectStore, type StoredObject, type VaultSettings, type Version } from './object-store.ts';
import type { SecretStore } from './secrets.ts';

export interface CertificateVersion extends Version {
  /** DER as base64, and what came along with it. */
  cer: string;
  chain: string[];
  preserveOrder?: boolean | undefined;
}

/** A certificate that is being made. The key exists already, but cannot be used before it is complete. */
export interface PendingOperation {
  privateKey: string;
  csr: string;
  issuer: string;
  status: 'inProgress' | 'completed';
  cancellationRequested: boolean;
  requestId: string;
  enabled: boolean;
  tags?: Record<string, string> | undefined;
}

export interface StoredCertificate extends StoredObject<CertificateVersion> {
  policy: CertificatePolicy;
  pending?: PendingOperation | undefined;
}

export type CertificateStore = ObjectStore<CertificateVersion, StoredCertificate>;

export interface CertificateParts {
  certificate: X509Certificate;
  privateKey: KeyObject;
  chain: Buffer[];
  policy: CertificatePolicy;
  enabled: boolean;
  tags?: Record<string, string> | undefined;
  preserveOrder?: boolean | undefined;
}

/** A certificate together with the key and the secret of the same name, which it owns. */
export class OwnedCertificates {
  readonly #settings: VaultSettings;
  readonly certificates: CertificateStore;
  readonly #keys: KeyStore;
  readonly #secrets: SecretStore;

  constructor(settings: VaultSettings, certificates: CertificateStore, keys: KeyStore, secrets: SecretStore) {
    this.#settings = settings;
    this.certificates = certificates;
    this.#keys = keys;
    this.#secrets = secrets;
  }

  /** Makes sure that a certificate of this name can be made, or get a new version. */
  checkFree(name: string): void {
    for (const store of [this.certificates, this.#keys, this.#secrets]) store.checkFree(name);
    const foreign = [this.#keys, this.#secrets].find((store) => {
      const object = store.find(name);
      return object !== undefined && !object.managed;
    });
    if (foreign !== undefined) {
      const message = `A ${noun(foreign.kind).toLowerCase()} named ${name} exists already, and is not a certificate's.`;
      throw new VaultError(409, 'Conflict', message);
    }
    if (this.certificates.find(name)?.pending?.status === 'inProgress') {
      const message =
        "A new key vault certificate can not be created or imported while a pending key vault certificate's status is inProgress.";
      // The status says conflict, the code forbidden (Monitor and manage certificate creation, Key Vault documentation).
      throw new VaultError(409, 'Forbidden', message);
    }
  }

  /** Adds a version to the certificate, its key and its secret: all three have the same version id. */
  add(name: string, parts: CertificateParts): CertificateVersion {
    const { certificate, privateKey, chain, policy } = parts;
    const now = this.#settings.now();
    const common = {
      version: newVersion(),
      enabled: parts.enabled,
      nbf: Math.floor(certificate.validFromDate.getTime() / 1000),
      exp: Math.floor(certificate.validToDate.getTime() / 1000),
      created: now,
      updated: now,
      tags: parts.tags,
    };
    const version: CertificateVersion = {
      ...common,
      cer: certificate.raw.toString('base64'),
      chain: chain.map((der) => der.toString('base64')),
      preserveOrder: parts.preserveOrder,
    };
    const object = this.certificates.add(name, version, () => ({ name, versions: [], policy }));
    object.policy = policy;
    const { exportable } = policy.key_props;
    const { contentType } = policy.secret_props;
    const operations = defaultOperations(privateKey);
    this.#keys.add(name, { ...common, privateKey: toPkcs8(privateKey), operations, exportable }, () => ({
      name,
      managed: true,
      versions: [],
    }));
    const value = writeContent(contentType, exportable ? privateKey : undefined, [certificate.raw, ...chain]);
    this.#secrets.add(name, { ...common, value, contentType }, () => ({ name, managed: true, versions: [] }));
    return version;
  }

  /** Begins to make a certificate; a new name is taken from now on. */
  begin(name: string, policy: CertificatePolicy, pending: Omit<PendingOperation, 'requestId'>): StoredCertificate {
    const object = this.certificates.findOrMake(name, () => ({ name, versions: [], policy }));
    object.policy = policy;
    object.pending = { ...pending, requestId: randomUUID().replaceAll('-', '') };
    this.#settings.touch();
    return object;
  }

  /** The key that `reuse_key` keeps for the next version. */
  lastKey(name: string): KeyObject | undefined {
    const last = this.#keys.find(name)?.versions.at(-1);
    return last === undefined ? undefined : createPrivateKey(last.privateKey);
  }

  /** A version is enabled or disabled together with its key and secret. */
  setEnabled(name: string, version: string, enabled: boolean): void {
    for (const store of [this.#keys, this.#secrets]) store.version(name, version).enabled = enabled;
  }

  delete(name: string): StoredCertificate {
    const object = this.certificates.delete(name);
    for (const store of this.#owned(name)) store.delete(name);
    return object;
  }

  recover(name: string): StoredCertificate {
    const object = this.certificates.recover(name);
    for (const store of this.#owned(name)) store.recover(name);
    return object;
  }

  purge(name: string): void {
    const hasVersions = this.certificates.getDeleted(name).versions.length > 0;
    this.certificates.purge(name);
    if (hasVersions) for (const store of this.#owned(name)) store.purge(name);
  }

  /** A certificate that was never completed owns nothing yet. */
  #owned(name: string): (KeyStore | SecretStore)[] {
    return [this.#keys, this.#secrets].filter((store) => store.holds(name));
  }
}

/** RFC 7517's x5t: SHA-1 over the DER. */
export function thumbprint(version: CertificateVersion): string {
  return createHash('sha1').update(Buffer.from(version.cer, 'base64')).digest('base64url');
}
