import { purgeRecords } from '../lib/audit/purge.ts';
import type { Log } from '../lib/telemetry.ts';
import { expiryOf } from '../lib/trust/expiry.ts';
import type { Services } from './services.ts';

/** What the host runs by the clock. */
export interface Timer {
  /** The name of the function: letters and digits. */
  name: string;
  /** NCRONTAB with seconds, in UTC. */
  schedule: string;
  run(log: Log): Promise<void>;
}

export function allTimers(services: Services): Timer[] {
  return [measureRootExpiry(services), purge(services)];
}

/** Tells once a day how long each root is still valid: the alerts of infra/modules/alerts.bicep read these lines. */
function measureRootExpiry(services: Services): Timer {
  return {
    name: 'measureRootExpiry',
    schedule: '0 0 6 * * *',
    async run(log) {
      const { roots } = await (await services.trust()).roots.list();
      for (const measured of expiryOf(roots, services.clock())) log.info('root_expiry', { ...measured });
      // Said in any case: without it, no line would mean that all is well.
      log.info('roots_measured', { count: roots.length });
    },
  };
}

/** Deletes once a day what is kept no longer. */
function purge(services: Services): Timer {
  return {
    name: 'purgeRecords',
    schedule: '0 30 3 * * *',
    async run(log) {
      const [audit, joinTokens, limits] = await Promise.all([
        services.audit(),
        services.joinTokens(),
        services.limitTable(),
      ]);
      const { auditRetentionDays: retentionDays } = services.config;
      const purged = await purgeRecords({ audit, joinTokens, limits, retentionDays, now: services.clock() });
      for (const [kind, count] of Object.entries(purged)) log.info('records_purged', { kind, count });
    },
  };
}
