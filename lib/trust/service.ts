import { type Bundle, type BundleCache, bundleCache } from './bundle.ts';
import type { Ledger } from './ledger.ts';
import type { RootStore } from './root-store.ts';
import { type Roots, rootsOf } from './roots.ts';

/** Roots for operators, the bundle for everybody. */
export interface TrustService {
  roots: Roots;
  /** See {@link BundleCache.current}. */
  current(): Promise<{ bundle: Bundle; stale: boolean }>;
}

export interface TrustOptions {
  ledger: Ledger;
  store: RootStore;
  refreshHintSeconds: number;
  checkSeconds: number;
  clock: () => Date;
  onFailure?(error: unknown): void;
}

/** The trust part of the backend, over a ledger and a vault. */
export function trustService(options: TrustOptions): TrustService {
  const cache: BundleCache = bundleCache(options);
  const roots = rootsOf({ ...options, onState: cache.offer });
  return { roots, current: cache.current };
}
