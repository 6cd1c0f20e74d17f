import type { JoinTokens } from '../enrollment/join-tokens.ts';
import { removeAll, type Table } from '../table.ts';
import type { AuditLog } from './log.ts';

export interface PurgeOptions {
  audit: Pick<AuditLog, 'purge'>;
  joinTokens: Pick<JoinTokens, 'purge'>;
  /** The buckets of the limiter: one that nobody drew from is full, as one that is not there. */
  limits: Table;
  retentionDays: number;
  now: Date;
}

export interface Purged {
  months: number;
  joinTokens: number;
  limits: number;
}

const dayMs = 86_400_000;
/** Entities that one run deletes of a kind: a minute's work, and more than a day brings forth. What is left is for tomorrow. */
const most = 20_000;

/**
 * Deletes what is kept no longer: the months of the audit log that ended before the retention, join tokens that expired a day
 * ago (until then the log can tell an expired token from a made-up one), and limits that nobody has met for a day.
 */
export async function purgeRecords({ audit, joinTokens, limits, retentionDays, now }: PurgeOptions): Promise<Purged> {
  const yesterday = new Date(now.getTime() - dayMs);
  const months = await audit.purge(new Date(now.getTime() - retentionDays * dayMs));
  return {
    months: months.length,
    joinTokens: await joinTokens.purge(yesterday, most),
    limits: await removeAll(limits, await limits.before('at', yesterday, most)),
  };
}
