import { GatepostError } from '../errors.ts';
import { factsOf, toPem } from './certificate.ts';
import { type Held, type Ledger, mostRoots, type RemovalRecord, type RootRecord, type TrustState } from './ledger.ts';
import { type RootInput, type RootMaterial, readRoot } from './material.ts';
import type { RootKind, RootStore } from './root-store.ts';

export interface RootsOptions {
  ledger: Ledger;
  store: RootStore;
  clock: () => Date;
  /** Told of the state after a change that this instance made, before the call ends. */
  onState?(held: Held): Promise<void>;
}

const mostRestarts = 5;

/** The roots of the trust bundle, and what operators do with them. */
export interface Roots {
  /**
   * Lints a root, keeps it in the vault and puts it into the bundle. The same certificate under the same name again
   * changes nothing, but mends what a call that was cut off left undone.
   */
  importRoot(input: RootInput): Promise<{ record: RootRecord; created: boolean }>;
  list(): Promise<TrustState>;
  get(name: string): Promise<RootRecord>;
  /** Takes a root out of the bundle, then out of the vault. A call that was cut off is finished by the next. */
  deleteRoot(name: string): Promise<void>;
}

/**
 * The order of the two writes is what makes them safe to cut off: an import writes the vault before the ledger, a delete
 * the ledger before the vault. So the bundle never names a root that the vault lacks. What a cut-off delete leaves in the
 * vault is noted in the ledger, because it may be the key of a CA.
 */
export function rootsOf(options: RootsOptions): Roots {
  const { ledger, store, clock, onState = async () => {} } = options;

  const told = async (held: Held): Promise<TrustState> => {
    await onState(held);
    return held.state;
  };

  const finishRemoval = async (removal: RemovalRecord): Promise<void> => {
    await store.remove(removal);
    await told(
      await ledger.update((state) => {
        const removals = state.removals.filter((each) => each.objectName !== removal.objectName);
        return removals.length === state.removals.length ? undefined : { ...state, removals };
      }),
    );
  };

  /** Undefined where the same certificate was being deleted meanwhile: begin again. */
  const importOnce = async (material: RootMaterial, draft: RootRecord) => {
    const before = (await ledger.read()).state;
    checkConflicts(before, draft);
    const removal = before.removals.find((each) => each.objectName === draft.objectName);
    if (removal !== undefined) await finishRemoval(removal);
    // Also where the ledger has it already: the object may have been deleted from the vault by hand.
    const version = await store.put(draft.objectName, contentOf(material), tagsOf(draft));
    let created = false;
    let overtaken = false;
    const after = await ledger.update((state) => {
      overtaken = state.removals.some((each) => each.objectName === draft.objectName);
      if (overtaken) return undefined;
      checkConflicts(state, draft);
      const existing = state.roots.find((root) => root.name === draft.name);
      created = existing === undefined;
      if (existing?.version === version) return undefined;
      if (existing !== undefined) return withRoot(state, { ...existing, version });
      if (state.roots.length >= mostRoots) throw bundleFull();
      return nextState(state, [...state.roots, { ...draft, version }], state.removals, clock());
    });
    if (overtaken) return undefined;
    const record = (await told(after)).roots.find((root) => root.name === draft.name);
    return { record: record ?? { ...draft, version }, created };
  };

  return {
    async importRoot(input) {
      const material = await readRoot(input, clock());
      const draft = draftOf(input.name, material, clock());
      for (let attempt = 0; attempt < mostRestarts; attempt += 1) {
        const outcome = await importOnce(material, draft);
        if (outcome !== undefined) return outcome;
      }
      throw new GatepostError('upstream_unavailable', `The root ${input.name} is being deleted. Repeat the call.`);
    },

    async list() {
      return (await ledger.read()).state;
    },

    async get(name) {
      const { state } = await ledger.read();
      const found = state.roots.find((root) => root.name === name);
      if (found === undefined) throw notFound(name);
      return found;
    },

    async deleteRoot(name) {
      const after = await told(
        await ledger.update((state) => {
          const root = state.roots.find((each) => each.name === name);
          if (root === undefined) return undefined;
          const { kind, objectName, sha256 } = root;
          const roots = state.roots.filter((each) => each !== root);
          return nextState(state, roots, [...state.removals, { kind, objectName, name, sha256 }], clock());
        }),
      );
      const removals = after.removals.filter((removal) => removal.name === name);
      if (removals.length === 0) throw notFound(name);
      for (const removal of removals) await finishRemoval(removal);
    },
  };
}

function draftOf(name: string, material: RootMaterial, now: Date): RootRecord {
  const facts = factsOf(material.certificate);
  const kind = material.authority === undefined ? 'public' : 'authority';
  return {
    name,
    kind,
    state: 'active',
    ...facts,
    createdAt: now.toISOString(),
    objectName: objectNameOf(kind, name, facts.sha256),
    version: '',
  };
}

/**
 * Named after the root for people, and after the certificate so that two certificates never share an object. Key Vault
 * takes letters of any case as one, digits and dashes, 127 characters at most; and a certificate claims the names of a
 * secret and a key too, so that a public root and a CA must not share one either.
 */
function objectNameOf(kind: RootKind, name: string, sha256: string): string {
  return `${kind === 'public' ? 'root' : 'root-ca'}-${name.toLowerCase().replaceAll(/[^a-z0-9]/g, '-')}-${sha256.slice(0, 16)}`;
}

function contentOf(material: RootMaterial) {
  return { pem: toPem(material.certificate.raw), authority: material.authority };
}

function tagsOf({ name, sha256, notAfter, state }: RootRecord) {
  return { name, sha256, notAfter, state };
}

function checkConflicts(state: TrustState, draft: RootRecord): void {
  const sameName = state.roots.find((root) => root.name === draft.name);
  if (sameName !== undefined && sameName.sha256 !== draft.sha256) {
    const detail = `The name ${draft.name} is taken by the certificate ${sameName.sha256}. Import this one under another name, so that devices trust both while they change over.`;
    throw new GatepostError('root_name_taken', detail);
  }
  if (sameName !== undefined && sameName.kind !== draft.kind) {
    const held = sameName.kind === 'public' ? 'without its key' : 'with its key';
    throw new GatepostError(
      'root_name_taken',
      `The root ${draft.name} is held ${held}. Delete it first, then import it anew.`,
    );
  }
  const sameBytes = state.roots.find((root) => root.sha256 === draft.sha256);
  if (sameBytes !== undefined && sameBytes.name !== draft.name) {
    throw new GatepostError(
      'root_already_trusted',
      `The certificate is in the bundle as ${sameBytes.name}: nothing to do.`,
    );
  }
}

function nextState(
  state: TrustState,
  roots: readonly RootRecord[],
  removals: readonly RemovalRecord[],
  now: Date,
): TrustState {
  return { sequence: state.sequence + 1, updatedAt: now.toISOString(), roots, removals };
}

/** The same roots, one of them kept in another version of its object: no change of the bundle. */
function withRoot(state: TrustState, record: RootRecord): TrustState {
  return { ...state, roots: state.roots.map((root) => (root.name === record.name ? record : root)) };
}

function bundleFull(): GatepostError {
  return new GatepostError('bundle_full', `There are ${mostRoots} roots. Delete those that no device needs any more.`);
}

function notFound(name: string): GatepostError {
  return new GatepostError('root_not_found', `There is no root ${name}. GET /api/v1/roots lists them.`);
}
