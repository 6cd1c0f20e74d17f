import { beforeEach, describe, expect, test } from 'vitest';
import { defaultScopeTimes, ScopeCache } from '../../../local/gateway/scope-cache.ts';
import type { ScopedIdentity } from '../../../local/gateway/scope-client.ts';

let now: number;
let upstream: Map<string, ScopedIdentity>;
let asked: string[];
let events: string[];
let reachable: boolean;

beforeEach(() => {
  now = 0;
  upstream = new Map();
  asked = [];
  events = [];
  reachable = true;
});

function put(deviceId: string, status: 'enabled' | 'disabled' = 'enabled', primaryKey = 'a'): void {
  upstream.set(deviceId, { deviceId, status, authentication: { type: 'sas', symmetricKey: { primaryKey } } });
}

function newCache(stored?: ScopedIdentity[]): ScopeCache {
  const answer = async <T>(what: string, value: () => T): Promise<T> => {
    asked.push(what);
    if (!reachable) throw new Error('no way to the hub');
    return value();
  };
  return new ScopeCache({
    source: {
      everybody: () => answer('everybody', () => [...upstream.values()]),
      one: (deviceId) => answer(deviceId, () => upstream.get(deviceId)),
    },
    times: defaultScopeTimes,
    now: () => now,
    stored,
    changed: () => {},
    removed: (id) => events.push(`removed ${id}`),
    updated: (id) => events.push(`updated ${id}`),
  });
}

describe('the scope cache', () => {
  test('asks for an unknown identity every time', async () => {
    const cache = newCache();
    await cache.refreshIdentity('press-01', null);
    await cache.refreshIdentity('press-01', null);
    expect(asked).toEqual(['press-01', 'press-01']);
    put('press-01');
    await cache.refreshIdentity('press-01', null);
    expect(cache.get('press-01')?.deviceId).toBe('press-01');
  });

  test('asks for a known identity again only after 120 seconds', async () => {
    put('press-01');
    const cache = newCache();
    await cache.refreshIdentity('press-01', null);
    put('press-01', 'enabled', 'rolled');
    now += 120_000;
    await cache.refreshIdentity('press-01', null);
    expect(cache.get('press-01')?.authentication?.symmetricKey?.primaryKey).toBe('a');
    now += 1;
    await cache.refreshIdentity('press-01', null);
    expect(cache.get('press-01')?.authentication?.symmetricKey?.primaryKey).toBe('rolled');
    expect(events).toEqual(['updated press-01']);
  });

  test('a key that was rolled since the whole scope was read is seen at once', async () => {
    put('press-01');
    const cache = newCache();
    await cache.refreshAll();
    put('press-01', 'enabled', 'rolled');
    await cache.refreshIdentity('press-01', null);
    expect(cache.get('press-01')?.authentication?.symmetricKey?.primaryKey).toBe('rolled');
  });

  test('reads the whole scope on demand at most every 120 seconds', async () => {
    const cache = newCache();
    await cache.demandRefresh();
    now += 120_000;
    await cache.demandRefresh();
    expect(asked).toEqual(['everybody']);
    now += 1;
    await cache.demandRefresh();
    expect(asked).toEqual(['everybody', 'everybody']);
  });

  test('says which identities have left the scope, but not those that could not connect anyway', async () => {
    put('press-01');
    put('press-02', 'disabled');
    put('press-03');
    const cache = newCache();
    await cache.refreshAll();
    upstream.delete('press-01');
    upstream.delete('press-02');
    await cache.refreshAll();
    expect(events).toEqual(['removed press-01']);
    expect(cache.all().map(({ deviceId }) => deviceId)).toEqual(['press-03']);
  });

  test('stays as it is while the hub cannot be reached', async () => {
    put('press-01');
    const cache = newCache();
    await cache.refreshAll();
    reachable = false;
    await expect(cache.refreshAll()).rejects.toThrow('no way to the hub');
    await cache.refreshIdentity('press-01', null);
    await cache.demandRefresh();
    expect(cache.get('press-01')?.status).toBe('enabled');
    expect(events).toEqual([]);
  });

  test('begins with what was stored, where the hub cannot be reached', async () => {
    reachable = false;
    const cache = newCache([{ deviceId: 'press-01', status: 'enabled' }]);
    await cache.start();
    cache.stop();
    expect(cache.get('press-01')).toBeDefined();
  });
});
