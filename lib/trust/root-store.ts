import type { AuthorityMaterial } from './material.ts';

/** `public`: a certificate alone. `authority`: a CA whose key is held too, and never leaves the vault. */
export type RootKind = 'public' | 'authority';

/** Where the vault keeps one root: an object of a name of its own, in the version that was written. */
export interface RootReference {
  kind: RootKind;
  objectName: string;
  version: string;
}

/** What is written beside a root, for a person who looks into the vault. */
export interface RootTags {
  name: string;
  sha256: string;
  notAfter: string;
  state: string;
}

/** Keeps the certificates of roots. Every method throws a `GatepostError` where the vault fails. */
export interface RootStore {
  /** Writes a root, or finds the same one already written, or brings it back where it was deleted. Answers its version. */
  put(
    objectName: string,
    material: { pem: string; authority: AuthorityMaterial | undefined },
    tags: RootTags,
  ): Promise<string>;
  /** The certificate as PEM; undefined where the vault has no such version. */
  read(reference: RootReference): Promise<string | undefined>;
  /** Deletes a root. One that is not there is as good as deleted. */
  remove(reference: Pick<RootReference, 'kind' | 'objectName'>): Promise<void>;
}
