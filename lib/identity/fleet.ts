import { GatewayCache } from './gateway-cache.ts';
import { Recent } from './recent.ts';
import type { Registry } from './registry.ts';

/** What the calls on identities share within one instance. */
export interface Fleet {
  registry: Registry;
  gateways: GatewayCache;
  /** Devices that this instance has seen in the hub: asked for again, they are read first; others are created first. */
  seen: Recent<string, true>;
  clock: () => Date;
}

const mostSeen = 20_000;

export function createFleet(registry: Registry, options: { gatewayCacheSeconds: number; clock: () => Date }): Fleet {
  const { clock, gatewayCacheSeconds } = options;
  return {
    registry,
    gateways: new GatewayCache(registry, gatewayCacheSeconds, () => clock().getTime()),
    seen: new Recent(mostSeen),
    clock,
  };
}
