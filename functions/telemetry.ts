import type { Export } from '../lib/telemetry/export.ts';
import { tellMetrics } from '../lib/telemetry/metrics.ts';
import { describeError } from '../lib/telemetry.ts';
import type { Services } from './services.ts';

/** What is exported, and how it ends. */
export interface Telemetry {
  /** Says that a first call was answered: what is loaded from now on delays nobody's start. */
  answered(): void;
  stop(): Promise<void>;
}

const tellEveryMs = 60_000;

/**
 * Spans and metrics to a collector, where one is configured, from the first answer on: the SDK takes as long to load as the
 * app itself. Metrics to the log in any case, also those of an instance that nobody calls any more.
 */
export function telemetry({ config, log }: Pick<Services, 'config' | 'log'>): Telemetry {
  let begun = false;
  let exporting: Promise<Export | undefined> = Promise.resolve(undefined);
  let timer: NodeJS.Timeout | undefined;
  return {
    answered() {
      if (begun) return;
      begun = true;
      timer = setInterval(() => tellMetrics(log, true), tellEveryMs).unref();
      const { otlpEndpoint } = config;
      if (otlpEndpoint === undefined) return;
      exporting = import('../lib/telemetry/export.ts')
        .then(({ startExport }) => startExport(otlpEndpoint))
        .catch((error: unknown) => {
          log.error('telemetry_not_exported', describeError(error));
          return undefined;
        });
    },
    async stop() {
      clearInterval(timer);
      tellMetrics(log, true);
      await (await exporting)?.stop();
    },
  };
}
