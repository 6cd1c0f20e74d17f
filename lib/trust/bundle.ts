import { GatepostError } from '../errors.ts';
import { certificateOf, factsOf } from './certificate.ts';
import type { Held, Ledger, RootRecord } from './ledger.ts';
import type { RootStore } from './root-store.ts';

/** One root as devices get it. */
export interface BundleRoot {
  sha256: string;
  subject: string;
  notAfter: string;
  pem: string;
}

/** The roots that a device must trust now. The same object is answered until the bundle changes. */
export interface Bundle {
  /** Strictly increasing. */
  sequence: number;
  /** Seconds after which a device should ask again. */
  refreshHintSeconds: number;
  roots: readonly BundleRoot[];
}

export interface BundleOptions {
  ledger: Ledger;
  store: RootStore;
  refreshHintSeconds: number;
  /** Seconds between two looks at the ledger. */
  checkSeconds: number;
  clock: () => Date;
  /** Told why a look behind the callers' backs failed. */
  onFailure?(error: unknown): void;
}

/** This instance's copy of the trust bundle. */
export interface BundleCache {
  /**
   * The bundle, at once where there is one. `stale` where the last look at it failed. Throws `upstream_unavailable` only
   * where this instance never had one.
   */
  current(): Promise<{ bundle: Bundle; stale: boolean }>;
  /**
   * Takes over a state that this instance wrote or read, so that whoever imports a root finds it in the bundle. Never
   * rejects: what could not be taken over is looked for again.
   */
  offer(held: Held): Promise<void>;
}

interface Copy {
  bundle: Bundle;
  etag: string | undefined;
}

/** After a first load that failed: callers in this time get the same answer, and wait for no timeout of their own. */
const failureHeldMs = 1_000;

/**
 * Serves what it has and looks for changes behind the callers' backs: at most one look each `checkSeconds`, one read of
 * the ledger each, and the vault only for roots not held yet.
 */
export function bundleCache(options: BundleOptions): BundleCache {
  const { ledger, clock, onFailure = () => {} } = options;
  const held: { copy?: Copy; failure?: { at: number; error: unknown } } = {};
  let lookedAt = Number.NEGATIVE_INFINITY;
  let looking: Promise<void> | undefined;
  let queue: Promise<void> = Promise.resolve();

  const adopt = async ({ state, etag }: Held): Promise<void> => {
    if (held.copy !== undefined && etag === held.copy.etag) return;
    const roots = await rootsFrom(options.store, state.roots, held.copy?.bundle.roots ?? []);
    const bundle = { sequence: state.sequence, refreshHintSeconds: options.refreshHintSeconds, roots };
    // The same sequence is the same bundle, and keeping the object keeps its encodings.
    held.copy = { etag, bundle: held.copy?.bundle.sequence === state.sequence ? held.copy.bundle : bundle };
  };

  /** One after the other, so that an older state never replaces a newer one. */
  const enqueue = (task: () => Promise<void>): Promise<void> => {
    queue = queue.then(task).then(
      () => {
        delete held.failure;
      },
      (error: unknown) => {
        held.failure = { at: clock().getTime(), error };
        onFailure(error);
      },
    );
    return queue;
  };

  const isOlder = (other: Held) => held.copy !== undefined && other.state.sequence < held.copy.bundle.sequence;

  const look = (): Promise<void> => {
    looking ??= enqueue(async () => {
      const read = await ledger.read();
      // Only a ledger that was lost or restored from an old copy goes back. Devices refuse a lower sequence: so must we.
      if (isOlder(read)) throw new SequenceWentBackError();
      await adopt(read);
    }).finally(() => {
      lookedAt = clock().getTime();
      looking = undefined;
    });
    return looking;
  };

  return {
    async current() {
      const now = clock().getTime();
      if (held.copy === undefined) {
        const rested = held.failure === undefined || now - held.failure.at >= failureHeldMs;
        if (rested) await look();
      } else if (now - lookedAt >= options.checkSeconds * 1000) {
        const looked = look();
        // An instance that stood still for long would answer from another time: this caller waits for the look.
        if (now - lookedAt >= options.refreshHintSeconds * 1000) await looked;
      }
      if (held.copy === undefined) throw unavailable(held.failure?.error);
      return { bundle: held.copy.bundle, stale: held.failure !== undefined };
    },
    offer: (offered) => enqueue(async () => (isOlder(offered) ? undefined : adopt(offered))),
  };
}

class SequenceWentBackError extends Error {
  override readonly name = 'SequenceWentBackError';
}

function unavailable(error: unknown): GatepostError {
  const known = error instanceof GatepostError ? error : undefined;
  return new GatepostError('upstream_unavailable', 'The trust bundle cannot be read now. Repeat the call.', {
    cause: error,
    retryAfterSeconds: known?.retryAfterSeconds ?? 5,
  });
}

async function rootsFrom(
  store: RootStore,
  records: readonly RootRecord[],
  held: readonly BundleRoot[],
): Promise<BundleRoot[]> {
  const known = new Map(held.map((root) => [root.sha256, root]));
  return Promise.all(records.map(async (record) => known.get(record.sha256) ?? (await rootFrom(store, record))));
}

async function rootFrom(store: RootStore, record: RootRecord): Promise<BundleRoot> {
  const certificate = certificateOf((await store.read(record)) ?? '');
  // What devices are told to trust is what was linted, whoever may write to the vault.
  if (certificate === undefined || factsOf(certificate).sha256 !== record.sha256) {
    const detail = `Key Vault does not hold the root ${record.name} as it was imported. Import it again.`;
    throw new GatepostError('upstream_unavailable', detail);
  }
  const { sha256, subject, notAfter } = record;
  return { sha256, subject, notAfter, pem: certificate.toString() };
}
