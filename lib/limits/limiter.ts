import { createHash } from 'node:crypto';
import { GatepostError } from '../errors.ts';
import { Recent } from '../identity/recent.ts';
import type { Entity, Table } from '../table.ts';
import { count } from '../telemetry/metrics.ts';
import { describeError, type Log } from '../telemetry.ts';
import { type Bucket, draw } from './bucket.ts';

/** What is counted together: the calls of or for one device, of one operator, or from one address. */
export type LimitKind = 'device' | 'caller' | 'address';

/** Whose calls one call counts as. */
export interface LimitKey {
  kind: LimitKind;
  key: string;
}

/** Calls in a minute; 0 for no limit. */
export type Limits = Readonly<Record<LimitKind, number>>;

export interface Limiter {
  /** Counts a call. Throws `rate_limited`, or what storage throws where its kind fails closed. */
  take(limit: LimitKey): Promise<void>;
}

export interface LimiterOptions {
  limits: Limits;
  table: () => Promise<Table>;
  clock: () => Date;
  /** For a limit that is not shared for the time, since storage fails. */
  log: Log;
}

/** What this instance holds of one bucket. */
interface Lease {
  left: number;
  until: number;
  /** Nobody has a permit before this time. */
  emptyUntil: number;
  /** The bucket as this instance last wrote it: good until another instance writes. */
  known: { bucket: Bucket; etag: string } | undefined;
  /** Calls take their turn, so that a burst draws once. */
  turn: Promise<void>;
  /** In place of the shared bucket while storage fails. */
  own: Bucket | undefined;
}

/** A tenth of a minute's permits are drawn at once, and go back to nobody: the share that instances may be short of. */
const leaseShare = 10;
const leaseMs = 10_000;
const mostKeys = 10_000;
const mostTries = 5;
/** How long a kind that fails open does not ask storage again after a fault. */
const faultHeldMs = 5_000;

/**
 * Counts calls over all instances of the app, in token buckets in a table, each changed under its ETag. An instance draws
 * permits in leases, so that most calls cost no call of storage; a caller who is over the limit costs none either.
 *
 * Where storage fails, calls of devices go on under a limit that each instance keeps by itself: devices must be able to
 * renew their credentials, and have proven themselves. The others fail closed: what they are for cannot be done then.
 */
export function limiter({ limits, table, clock, log }: LimiterOptions): Limiter {
  const leases = new Recent<string, Lease>(mostKeys);
  let faultUntil = 0;

  const leaseOf = (id: string): Lease => {
    const known = leases.get(id);
    const lease: Lease = known ?? {
      left: 0,
      until: 0,
      emptyUntil: 0,
      known: undefined,
      turn: Promise.resolve(),
      own: undefined,
    };
    if (known === undefined) leases.set(id, lease);
    return lease;
  };

  const acquire = async ({ kind, key }: LimitKey, lease: Lease): Promise<void> => {
    const now = clock().getTime();
    if (spend(lease, kind, now)) return;
    if (kind === 'device' && now < faultUntil) return spendOwn(lease, kind, limits[kind], now);
    try {
      await refill(await table(), keysOf(kind, key), lease, limits[kind], now);
    } catch (error) {
      lease.known = undefined;
      if (kind !== 'device') throw error;
      faultUntil = now + faultHeldMs;
      log.warn('rate_limit_not_shared', { limit: kind, ...describeError(error) });
      return spendOwn(lease, kind, limits[kind], now);
    }
    if (!spend(lease, kind, now)) throw refused(kind, 1000);
  };

  return {
    async take(limit) {
      if (limits[limit.kind] === 0) return;
      const lease = leaseOf(`${limit.kind} ${limit.key}`);
      const taken = lease.turn.then(() => acquire(limit, lease));
      lease.turn = taken.catch(() => {});
      await taken;
    },
  };
}

/** Uses a permit of the lease. Throws where it is known that nobody has one. */
function spend(lease: Lease, kind: LimitKind, now: number): boolean {
  if (now < lease.emptyUntil) throw refused(kind, lease.emptyUntil - now);
  if (lease.left === 0 || now >= lease.until) return false;
  lease.left -= 1;
  return true;
}

function spendOwn(lease: Lease, kind: LimitKind, perMinute: number, now: number): void {
  const drawn = draw(lease.own, perMinute, 1, now);
  if ('waitMs' in drawn) throw refused(kind, drawn.waitMs);
  lease.own = drawn.left;
}

/** Draws a lease from the shared bucket, or learns that it is empty. Where others are always faster, neither. */
async function refill(
  table: Table,
  keys: { partitionKey: string; rowKey: string },
  lease: Lease,
  perMinute: number,
  now: number,
): Promise<void> {
  const wanted = Math.max(1, Math.floor(perMinute / leaseShare));
  for (let tries = 0; tries < mostTries; tries += 1) {
    const held = lease.known ?? (await read(table, keys));
    const drawn = draw(held?.bucket, perMinute, wanted, now);
    if ('waitMs' in drawn) {
      // What this instance wrote last is the most that can be left: others only take.
      lease.emptyUntil = now + Math.max(1, drawn.waitMs);
      lease.known = held;
      return;
    }
    const entity: Entity = { ...keys, permits: drawn.left.permits, at: new Date(drawn.left.at) };
    const written = held === undefined ? await table.insert(entity) : await table.replace(entity, held.etag);
    if (typeof written === 'string') {
      lease.known = undefined;
      continue;
    }
    Object.assign(lease, {
      left: drawn.granted,
      until: now + leaseMs,
      known: { bucket: drawn.left, etag: written.etag },
    });
    return;
  }
}

async function read(
  table: Table,
  { partitionKey, rowKey }: { partitionKey: string; rowKey: string },
): Promise<Lease['known']> {
  const found = await table.get(partitionKey, rowKey);
  if (found === undefined) return undefined;
  const { permits, at } = found.entity;
  const bucket = { permits: Number(permits), at: at instanceof Date ? at.getTime() : Date.parse(String(at)) };
  return { bucket, etag: found.etag };
}

/** Two digits of a hash spread the buckets, and a row key of a hash holds any id or address, and shows none. */
function keysOf(kind: LimitKind, key: string): { partitionKey: string; rowKey: string } {
  const hash = createHash('sha256').update(`${kind} ${key}`).digest('hex');
  return { partitionKey: hash.slice(0, 2), rowKey: `${kind}.${hash}` };
}

function refused(kind: LimitKind, waitMs: number): GatepostError {
  count('gatepost.rate_limited', { limit: kind });
  const whose = { device: 'for this device', caller: 'of this caller', address: 'from this address' }[kind];
  const detail = `Too many calls ${whose} in a short time. Repeat the call after as many seconds as Retry-After says.`;
  return new GatepostError('rate_limited', detail, { retryAfterSeconds: waitMs / 1000, reason: `limit_${kind}` });
}
