import { z } from 'zod';
import { GatepostError } from '../errors.ts';
import type { Entity, Table } from '../table.ts';
import type { RootReference } from './root-store.ts';

/** What the ledger says of one root. */
export interface RootRecord extends RootReference {
  name: string;
  state: 'active';
  sha256: string;
  subject: string;
  serialNumber: string;
  notBefore: string;
  notAfter: string;
  createdAt: string;
}

/** Which roots there are, and how often that has changed. */
export interface TrustState {
  /** Raised by exactly one with each change of `roots`; 0 before the first. */
  sequence: number;
  updatedAt: string;
  roots: readonly RootRecord[];
  /** Roots that are out of the bundle but, as far as is known, still in the vault. */
  removals: readonly RemovalRecord[];
}

export interface RemovalRecord extends Omit<RootReference, 'version'> {
  name: string;
  sha256: string;
}

export interface Held {
  state: TrustState;
  /** Undefined where the ledger has not been begun. */
  etag: string | undefined;
}

/** The one record of the trust bundle. */
export interface Ledger {
  read(): Promise<Held>;
  /**
   * Applies a change to what is there and writes it under its ETag; where somebody else was faster, applies it anew to
   * what they wrote. `change` answers the next state, or undefined where there is nothing to do; what it throws ends the
   * attempt. Answers the state as it is then.
   */
  update(change: (state: TrustState) => TrustState | undefined): Promise<Held>;
}

/** Every root is a property of its own, since one property holds 64 KiB and an entity 252 properties. */
export const mostRoots = 100;

const partitionKey = 'trust';
const rowKey = 'bundle';
const mostAttempts = 60;
const longestPauseMs = 150;

const reference = z.object({ kind: z.enum(['public', 'authority']), objectName: z.string(), version: z.string() });
const rootSchema = reference.extend({
  name: z.string(),
  state: z.literal('active'),
  sha256: z.string(),
  subject: z.string(),
  serialNumber: z.string(),
  notBefore: z.string(),
  notAfter: z.string(),
  createdAt: z.string(),
});
const removalSchema = reference.omit({ version: true }).extend({ name: z.string(), sha256: z.string() });
const headSchema = z.object({ sequence: z.number().int().min(0), updatedAt: z.string() });

export interface LedgerOptions {
  table: Table;
  wait?: (ms: number) => Promise<void>;
  random?: () => number;
}

/** A ledger in one entity of a table, changed under its ETag: the sequence can neither go back nor fork. */
export function tableLedger(options: LedgerOptions): Ledger {
  const { table, random = Math.random } = options;
  const wait = options.wait ?? ((ms) => new Promise<void>((resolve) => setTimeout(resolve, ms)));

  const read = async (): Promise<Held> => {
    const found = await table.get(partitionKey, rowKey);
    return found === undefined
      ? { state: emptyState(), etag: undefined }
      : { state: toState(found.entity), etag: found.etag };
  };

  return {
    read,
    async update(change) {
      for (let attempt = 0; attempt < mostAttempts; attempt += 1) {
        const held = await read();
        const next = change(held.state);
        if (next === undefined) return held;
        const entity = toEntity(next);
        const outcome = held.etag === undefined ? await table.insert(entity) : await table.replace(entity, held.etag);
        if (typeof outcome === 'object') return { state: next, etag: outcome.etag };
        // Whoever lost goes again at a time of its own, or the same callers would meet again.
        await wait(random() * Math.min(longestPauseMs, 10 * (attempt + 1)));
      }
      throw new GatepostError('upstream_unavailable', 'Too many changes of the trust bundle at once. Repeat the call.');
    },
  };
}

function emptyState(): TrustState {
  return { sequence: 0, updatedAt: new Date(0).toISOString(), roots: [], removals: [] };
}

function toEntity(state: TrustState): Entity {
  const entity: Entity = { partitionKey, rowKey, sequence: state.sequence, updatedAt: state.updatedAt };
  for (const [prefix, records] of Object.entries({ root: state.roots, removal: state.removals })) {
    for (const [index, record] of records.entries()) entity[`${prefix}${index}`] = JSON.stringify(record);
  }
  return entity;
}

function toState(entity: Entity): TrustState {
  const head = headSchema.parse(entity);
  return {
    ...head,
    roots: recordsOf(entity, 'root', rootSchema),
    removals: recordsOf(entity, 'removal', removalSchema),
  };
}

function recordsOf<S extends z.ZodType>(entity: Entity, prefix: string, schema: S): z.output<S>[] {
  const records: z.output<S>[] = [];
  for (let index = 0; ; index += 1) {
    const text = entity[`${prefix}${index}`];
    if (typeof text !== 'string') return records;
    records.push(schema.parse(JSON.parse(text)));
  }
}
