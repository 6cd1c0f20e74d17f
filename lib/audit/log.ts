import type { Entity, Table, Tables } from '../table.ts';
import {
  auditTables,
  callerPartition,
  devicePartition,
  endOf,
  rootPartition,
  subjectPartition,
  tableOf,
  timeKey,
  timeOf,
} from './keys.ts';
import type { AuditAction, AuditCaller, AuditOutcome, AuditSubject } from './record.ts';

/** One thing that somebody did: a row before it, a row after it, each under its subject and under its caller. */
export interface AuditEvent {
  /** Its own, and the same for all of its rows. */
  id: string;
  at: Date;
  action: AuditAction;
  caller: AuditCaller;
  subject: AuditSubject;
  correlationId: string;
  requestId: string;
}

export interface AuditResult {
  outcome: AuditOutcome;
  status: number;
  /** The problem, where it did not succeed. */
  code?: string | undefined;
}

/** What a query answers. */
export interface AuditEntry {
  at: string;
  action: string;
  /** `unknown`: it was begun, and its outcome was never recorded. Or it is going on now. */
  outcome: AuditOutcome | 'unknown';
  status: number | null;
  code: string | null;
  caller: { plane: string; id: string; name: string };
  device: string | null;
  module: string | null;
  gateway: string | null;
  root: string | null;
  credential: string | null;
  correlationId: string;
  requestId: string;
}

export interface AuditQuery {
  device?: string | undefined;
  root?: string | undefined;
  caller?: string | undefined;
  from: Date;
  to: Date;
  size: number;
  /** As the last page answered it. */
  continuation?: string | undefined;
}

export interface AuditLog {
  /** Appends the rows of an event: those that it begins, without a result, or those that it ends. */
  append(event: AuditEvent, result?: AuditResult): Promise<void>;
  /** Latest first. A page may be short and still have a next one. */
  query(query: AuditQuery): Promise<{ rows: AuditEntry[]; continuation?: string }>;
  /** Deletes the months that ended before an instant. Answers their tables. */
  purge(before: Date): Promise<string[]>;
}

// Behind one time and id, the end of an event comes before its beginning: all of an event is read with its first row.
const phases = { end: '1', begin: '2', past: '9' };
/** Tables that one query looks into: what a caller may wait for. The rest is in the next page. */
const mostTables = 14;
/** A month in which nothing happened has no table: which have is read anew after a minute. */
const monthsHeldMs = 60_000;

/** The audit log in tables, one for each month. Rows are only ever added, and go with their month. */
export function auditLog(tables: Tables): AuditLog {
  const opened = new Map<string, Table>();
  const open = (name: string): Table => {
    const table = opened.get(name) ?? tables(name);
    opened.set(name, table);
    return table;
  };
  let known: { names: Set<string>; readAt: number } | undefined;
  const months = async (): Promise<ReadonlySet<string>> => {
    if (known === undefined || performance.now() - known.readAt > monthsHeldMs) {
      known = { names: new Set(await tables.names(auditTables)), readAt: performance.now() };
    }
    return known.names;
  };
  return {
    async append(event, result) {
      const name = tableOf(event.at);
      const table = open(name);
      const partitions = [subjectPartition(event.subject), callerPartition(event.caller.id)];
      const rows = partitions.filter((each) => each !== undefined).map((partition) => rowOf(partition, event, result));
      await Promise.all(rows.map((row) => table.append(row)));
      known?.names.add(name);
    },
    query: async (query) => search(open, await months(), query),
    async purge(before) {
      const names = await tables.names(auditTables);
      const old = names.filter((name) => (endOf(name) ?? before).getTime() < before.getTime());
      for (const name of old) {
        await tables.drop(name);
        opened.delete(name);
        known?.names.delete(name);
      }
      return old;
    },
  };
}

function rowOf(partitionKey: string, event: AuditEvent, result: AuditResult | undefined): Entity {
  const { id, at, action, caller, subject, correlationId, requestId } = event;
  const phase = result === undefined ? phases.begin : phases.end;
  const row: Record<string, string | number | Date | null | undefined> = {
    at,
    action,
    callerPlane: caller.plane,
    callerId: caller.id,
    callerName: caller.name,
    device: subject.deviceId,
    module: subject.moduleId,
    gateway: subject.gatewayId,
    root: subject.root,
    credential: subject.credential,
    correlationId,
    requestId,
    outcome: result?.outcome,
    status: result?.status,
    code: result?.code,
  };
  const entity: Entity = { partitionKey, rowKey: `${timeKey(at)}.${id}.${phase}` };
  for (const [name, value] of Object.entries(row)) if (value !== undefined && value !== null) entity[name] = value;
  return entity;
}

async function search(
  open: (name: string) => Table,
  months: ReadonlySet<string>,
  query: AuditQuery,
): Promise<{ rows: AuditEntry[]; continuation?: string }> {
  const { from, size, caller } = query;
  const partition = partitionOf(query);
  // Row keys count down: what is after a key is earlier. A dot is before a slash.
  let after = query.continuation ?? `${timeKey(query.to)}`;
  const before = `${timeKey(from)}/`;
  const rows: AuditEntry[] = [];
  let month = timeOf(after);
  for (let looked = 0; looked < mostTables; looked += 1) {
    const wanted = size - rows.length;
    // Each event has at most two rows, and the row behind them shows that they are all.
    // The latest may be younger than what is known.
    const isThere = looked < 2 || months.has(tableOf(month));
    const found = isThere ? await open(tableOf(month)).range(partition, after, before, wanted * 2 + 1) : [];
    const events = eventsOf(found);
    for (const { entry, key } of events.slice(0, wanted)) {
      after = `${key}.${phases.past}`;
      if (caller === undefined || entry.caller.id === caller) rows.push(entry);
    }
    const isMore = found.length > wanted * 2 || events.length > wanted;
    if (isMore || rows.length >= size) return { rows, continuation: after };
    month = lastOfMonthBefore(month);
    if (month.getTime() < from.getTime()) return { rows };
    after = timeKey(month);
  }
  return { rows, continuation: after };
}

function partitionOf({ device, root, caller }: AuditQuery): string {
  if (device !== undefined) return devicePartition(device);
  if (root !== undefined) return rootPartition(root);
  return callerPartition(caller ?? '');
}

function lastOfMonthBefore(at: Date): Date {
  return new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), 1) - 1);
}

/** The rows of each event as one. */
function eventsOf(rows: readonly Entity[]): { entry: AuditEntry; key: string }[] {
  const events = new Map<string, Entity>();
  for (const row of rows) {
    const key = row.rowKey.slice(0, row.rowKey.lastIndexOf('.'));
    if (!events.has(key)) events.set(key, row);
  }
  return [...events].map(([key, row]) => ({ key, entry: entryOf(row) }));
}

function entryOf(row: Entity): AuditEntry {
  const text = (name: string): string | null => (typeof row[name] === 'string' ? row[name] : null);
  return {
    at: timeOf(row.rowKey).toISOString(),
    action: text('action') ?? '',
    outcome: (text('outcome') as AuditOutcome | null) ?? 'unknown',
    status: typeof row.status === 'number' ? row.status : null,
    code: text('code'),
    caller: { plane: text('callerPlane') ?? '', id: text('callerId') ?? '', name: text('callerName') ?? '' },
    device: text('device'),
    module: text('module'),
    gateway: text('gateway'),
    root: text('root'),
    credential: text('credential'),
    correlationId: text('correlationId') ?? '',
    requestId: text('requestId') ?? '',
  };
}
