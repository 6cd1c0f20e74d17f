import type { ScopedIdentity } from './scope-client.ts';

export interface ScopeTimes {
  /** How often the whole scope is read again. Default 3600 s, as edgeHub's DeviceScopeCacheRefreshRateSecs. */
  fullRefreshMs: number;
  /** How long a known identity, or the whole scope, is not read again on demand. Default 120 s, as DeviceScopeCacheRefreshDelaySecs. */
  identityRefreshDelayMs: number;
  /** How often connected clients are authenticated again. Default 5 minutes, as ConnectionReauthenticator's. */
  reauthenticateMs: number;
}

export const defaultScopeTimes: ScopeTimes = {
  fullRefreshMs: 3_600_000,
  identityRefreshDelayMs: 120_000,
  reauthenticateMs: 300_000,
};

/** Where the scope is read from: the hub. Both throw while there is no way to it. */
export interface ScopeSource {
  everybody(): Promise<ScopedIdentity[]>;
  one(deviceId: string, moduleId: string | null): Promise<ScopedIdentity | undefined>;
}

export interface ScopeCacheOptions {
  source: ScopeSource;
  times: ScopeTimes;
  now?: () => number;
  stored?: ScopedIdentity[] | undefined;
  changed(): void;
  /** An identity that could connect has left the scope. */
  removed(id: string): void;
  /** An identity has other data than before. */
  updated(id: string): void;
}

/** `{deviceId}` or `{deviceId}/{moduleId}`. */
export function scopeId(identity: { deviceId: string; moduleId?: string | null }): string {
  return identity.moduleId ? `${identity.deviceId}/${identity.moduleId}` : identity.deviceId;
}

/** Who may connect, as edgeHub remembers it (Azure/iotedge, DeviceScopeIdentitiesCache.cs). */
export class ScopeCache {
  readonly #identities = new Map<string, ScopedIdentity>();
  readonly #lastRefresh = new Map<string, number>();
  readonly #options: ScopeCacheOptions;
  readonly #now: () => number;
  #lastDemandedRefresh = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ScopeCacheOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    for (const identity of options.stored ?? []) this.#identities.set(scopeId(identity), identity);
  }

  /** Reads the whole scope now and then again and again. */
  async start(): Promise<void> {
    this.#timer = setInterval(() => void this.refreshAll().catch(() => {}), this.#options.times.fullRefreshMs);
    this.#timer.unref();
    // Without a way to the hub, what was stored is what there is.
    await this.refreshAll().catch(() => {});
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  get(id: string): ScopedIdentity | undefined {
    return this.#identities.get(id);
  }

  all(): ScopedIdentity[] {
    return [...this.#identities.values()];
  }

  /**
   * Asks the hub about one identity. A known one is not asked for again within the delay; an unknown one is asked for
   * every time (ShouldRefreshIdentity). Where the hub cannot say, the cache stays as it is.
   */
  async refreshIdentity(deviceId: string, moduleId: string | null): Promise<void> {
    const id = scopeId({ deviceId, moduleId });
    const last = this.#lastRefresh.get(id);
    const { identityRefreshDelayMs } = this.#options.times;
    const isRecent = last !== undefined && this.#now() - last <= identityRefreshDelayMs;
    if (isRecent && this.#identities.has(id)) return;
    let found: ScopedIdentity | undefined;
    try {
      found = await this.#options.source.one(deviceId, moduleId);
    } catch {
      return;
    }
    if (found === undefined) this.#remove(id);
    else this.#put(found);
    this.#lastRefresh.set(id, this.#now());
  }

  /** Reads the whole scope because somebody needs it, unless that was done within the delay (InitiateCacheRefresh). */
  async demandRefresh(): Promise<void> {
    const isRecent = this.#now() - this.#lastDemandedRefresh <= this.#options.times.identityRefreshDelayMs;
    if (!isRecent) {
      this.#lastDemandedRefresh = this.#now();
      await this.refreshAll().catch(() => {});
    } else {
      await this.#refreshing?.catch(() => {});
    }
  }

  /** Reads the whole scope now. Rejects where the hub cannot say. */
  refreshAll(): Promise<void> {
    this.#refreshing ??= this.#readEverybody().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #readEverybody(): Promise<void> {
    const everybody = await this.#options.source.everybody();
    const current = new Set(everybody.map(scopeId));
    for (const identity of everybody) this.#put(identity);
    for (const id of [...this.#identities.keys()]) if (!current.has(id)) this.#remove(id);
  }

  #put(identity: ScopedIdentity): void {
    const id = scopeId(identity);
    const before = this.#identities.get(id);
    this.#identities.set(id, identity);
    if (before !== undefined && JSON.stringify(before) === JSON.stringify(identity)) return;
    this.#options.changed();
    if (before !== undefined) this.#options.updated(id);
  }

  #remove(id: string): void {
    const before = this.#identities.get(id);
    if (before === undefined) return;
    this.#identities.delete(id);
    this.#options.changed();
    if (isEnabled(before)) this.#options.removed(id);
  }
}

/** Modules have no status of their own: the hub's answer makes them enabled (DeviceScopeApiClient's Module.cs). */
export function isEnabled(identity: ScopedIdentity): boolean {
  return identity.moduleId !== undefined || identity.status !== 'disabled';
}
