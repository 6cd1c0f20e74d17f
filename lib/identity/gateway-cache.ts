import { GatepostError } from '../errors.ts';
import { type GatewaySettings, gatewaySettings } from './gateway-record.ts';
import { gatewayIdOfScope, sqlText } from './ids.ts';
import { Recent } from './recent.ts';
import type { Registry, Status, TwinRecord } from './registry.ts';

/** A gateway as an instance remembers it. */
export interface KnownGateway extends GatewaySettings {
  id: string;
  scope: string;
  status: Status;
}

interface Entry {
  gateway: KnownGateway;
  readAt: number;
}

interface Count {
  devices: number;
  readAt: number;
  /** Places that were taken for devices whose write has not ended yet. */
  pending: Set<Promise<void>>;
}

/** A place behind a gateway, taken before the device is written. End it in one of both ways. */
export interface Place {
  keep(): unknown;
  giveBack(): void;
}

const mostGateways = 1_000;
/** Queries are the scarcest of all hub calls (20 a minute and unit on S1): a count kept in step is good for long. */
const countHeldMs = 10 * 60_000;

/**
 * The gateways that this instance has met, so that onboarding a device costs no read of its gateway. What is remembered may
 * be as old as the cache time; a gateway that was made anew is found out by the hub refusing its scope: then {@link drop} it.
 */
export class GatewayCache {
  readonly #registry: Registry;
  readonly #heldMs: number;
  readonly #now: () => number;
  readonly #entries = new Recent<string, Entry>(mostGateways);
  readonly #counts = new Recent<string, Count>(mostGateways);
  readonly #reads = new Map<string, Promise<KnownGateway>>();
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(registry: Registry, seconds: number, now: () => number) {
    this.#registry = registry;
    this.#heldMs = seconds * 1000;
    this.#now = now;
  }

  /** Throws `gateway_not_found`, `gateway_not_edge` or `gateway_not_configured`. */
  async get(id: string): Promise<KnownGateway> {
    const entry = this.#entries.get(id);
    if (entry !== undefined && this.#now() - entry.readAt < this.#heldMs) return entry.gateway;
    const running = this.#reads.get(id);
    if (running !== undefined) return running;
    const read = this.#read(id).finally(() => this.#reads.delete(id));
    this.#reads.set(id, read);
    return read;
  }

  /** A gateway that something may be put behind: as {@link get}, and `gateway_disabled`. */
  async parent(id: string): Promise<KnownGateway> {
    const gateway = await this.get(id);
    if (gateway.status === 'enabled') return gateway;
    throw new GatepostError('gateway_disabled', `Enable the gateway ${id} before putting devices behind it.`);
  }

  /** The gateway that a device stands behind by its scope; throws `device_has_no_gateway` where that no longer is one. */
  async ofScope(deviceId: string, scope: string | undefined): Promise<KnownGateway> {
    const id = gatewayIdOfScope(scope);
    if (id === undefined) {
      throw new GatepostError('device_has_no_gateway', `PUT the device ${deviceId} with a gateway first.`);
    }
    const remembered = await this.get(id).catch(orphaned(deviceId, id));
    if (remembered.scope === scope) return remembered;
    this.drop(id);
    const current = await this.get(id).catch(orphaned(deviceId, id));
    if (current.scope === scope) return current;
    throw orphan(deviceId, id);
  }

  /** How many devices and gateways are directly behind a scope, asked of the hub now. */
  async countNow(scope: string): Promise<number> {
    const devices = await this.#registry.count(childrenOf(scope));
    const pending = this.#counts.get(scope)?.pending ?? new Set();
    // While writes are on their way the count kept in step knows better.
    if (pending.size === 0) this.#counts.set(scope, { devices, readAt: this.#now(), pending });
    return devices;
  }

  /**
   * Takes a place behind a gateway; throws `gateway_full`. Two instances may each give away the last place, and the hub's
   * queries lag behind its writes: the limit protects a gateway, it is not a licence.
   */
  async reserve(gateway: KnownGateway): Promise<Place> {
    const { scope } = gateway;
    const seen = this.#counts.get(scope);
    const turn = (this.#turns.get(scope) ?? Promise.resolve()).then(() => this.#take(gateway, seen));
    const settled = turn.then(noop, noop).then(() => {
      if (this.#turns.get(scope) === settled) this.#turns.delete(scope);
    });
    this.#turns.set(scope, settled);
    return turn;
  }

  /** @param seen the count when the caller came: a later one has been asked for meanwhile and need not be again. */
  async #take({ scope, maxDevices, id }: KnownGateway, seen: Count | undefined): Promise<Place> {
    const held = this.#counts.get(scope);
    const isFresh = held !== undefined && (held !== seen || this.#now() - held.readAt <= countHeldMs);
    if (!isFresh || (held.devices >= maxDevices && held === seen)) {
      // A write on its way is in the hub's count or it is not: only when it has ended does the count mean something.
      await Promise.all(held?.pending ?? []);
      await this.countNow(scope);
    }
    const count = this.#counts.get(scope);
    if (count === undefined || count.devices >= maxDevices) {
      const detail = `The gateway ${id} has ${count?.devices} of at most ${maxDevices} devices. Raise maxDevices or use another.`;
      throw new GatepostError('gateway_full', detail);
    }
    count.devices += 1;
    const { promise, resolve } = Promise.withResolvers<void>();
    count.pending.add(promise);
    const end = () => {
      resolve();
      return count.pending.delete(promise);
    };
    return {
      keep: end,
      giveBack: () => {
        if (end()) this.left(scope);
      },
    };
  }

  /** One device fewer behind a scope. */
  left(scope: string | undefined): void {
    const count = scope === undefined ? undefined : this.#counts.get(scope);
    if (count !== undefined) count.devices = Math.max(0, count.devices - 1);
  }

  drop(id: string): void {
    this.#entries.delete(id);
  }

  /** Notes what the caller has read or written anyway, so that the next device behind this gateway costs no read. */
  remember(twin: TwinRecord, readAt: number): void {
    const id = twin.deviceId;
    this.#entries.set(id, { gateway: knownGateway(id, twin), readAt });
  }

  async #read(id: string): Promise<KnownGateway> {
    const readAt = this.#now();
    const gateway = knownGateway(id, await this.#registry.twin(id));
    // What was noted meanwhile is younger than this answer.
    const noted = this.#entries.get(id);
    if (noted === undefined || noted.readAt <= readAt) this.#entries.set(id, { gateway, readAt });
    return gateway;
  }
}

function noop(): void {}

/** The gateway that a twin describes; throws where there is none. */
export function knownGateway(id: string, twin: TwinRecord | undefined): KnownGateway {
  if (twin === undefined) {
    throw new GatepostError('gateway_not_found', `PUT /api/v1/gateways/${id} first, or name another gateway.`);
  }
  if (!twin.isEdge || twin.deviceScope === undefined) throw notEdge(id);
  const settings = gatewaySettings(twin.tags);
  if (settings === undefined) {
    const detail = `PUT /api/v1/gateways/${id} with its host name first: devices must know how to reach it.`;
    throw new GatepostError('gateway_not_configured', detail);
  }
  return { id, scope: twin.deviceScope, status: twin.status, ...settings };
}

export function notEdge(id: string): GatepostError {
  const detail = `${id} is a device without the Edge capability, which cannot be added to it. Use another id, or delete it first.`;
  return new GatepostError('gateway_not_edge', detail);
}

/** The condition of a query for everything directly behind a scope: the hub fills `parentScopes` for leaves too. */
export function childrenOf(scope: string): string {
  return `array_contains(parentScopes, ${sqlText(scope)})`;
}

function orphan(deviceId: string, gatewayId: string): GatepostError {
  const detail =
    `The gateway ${gatewayId} that the device ${deviceId} stood behind was deleted or made anew. ` +
    'PUT the device with a gateway again.';
  return new GatepostError('device_has_no_gateway', detail);
}

function orphaned(deviceId: string, gatewayId: string): (error: unknown) => never {
  return (error) => {
    const gone = error instanceof GatepostError && ['gateway_not_found', 'gateway_not_edge'].includes(error.code);
    throw gone ? orphan(deviceId, gatewayId) : error;
  };
}
