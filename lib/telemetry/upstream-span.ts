import { GatepostError } from '../errors.ts';
import { currentLog, failSpan, runCall } from './activity.ts';
import { count, measure } from './metrics.ts';

/** What is told of a call to a service behind this one while it goes on. */
export interface Observed {
  /** An attempt was answered with a status, or not at all: then with the name of the fault. */
  answered(outcome: number | string): void;
  /** There will be another attempt after so many milliseconds. */
  retrying(waitMs: number): void;
}

/**
 * One call to a service, all of its attempts in one span: how long it took, how often it was throttled and repeated, and
 * how it ended. A call that needed more than one attempt, or failed, is logged too, since spans may be kept by nobody.
 *
 * @param operation of few values: a verb and what it is done to, never an id.
 */
export function observeCall<T>(
  upstream: string,
  operation: string,
  make: (observed: Observed) => Promise<T>,
): Promise<T> {
  return runCall(`${upstream}: ${operation}`, { 'peer.service': upstream, operation }, async (span) => {
    const began = performance.now();
    const seen = { attempts: 0, throttled: 0, waitMs: 0, last: 0 as number | string };
    const observed: Observed = {
      answered(outcome) {
        seen.attempts += 1;
        seen.last = outcome;
        if (outcome !== 429) return;
        seen.throttled += 1;
        count('gatepost.upstream.throttled', { upstream, operation });
      },
      retrying(waitMs) {
        seen.waitMs += waitMs;
        span.addEvent('retry', { after: seen.last, waitMs: Math.round(waitMs) });
        count('gatepost.upstream.retries', { upstream, operation });
      },
    };
    const end = (outcome: string) => {
      const durationMs = Math.round(performance.now() - began);
      measure('gatepost.upstream.duration', durationMs, { upstream, operation, outcome });
      span.setAttributes({
        outcome,
        attempts: seen.attempts,
        throttled: seen.throttled,
        waitMs: Math.round(seen.waitMs),
      });
      const isAnswer = outcome === 'ok' || outcome.startsWith('answered_');
      if (!isAnswer) failSpan(span, outcome);
      if (isAnswer && seen.attempts < 2) return;
      const told = { upstream, operation, outcome, attempt: seen.attempts, throttled: seen.throttled, durationMs };
      const status = typeof seen.last === 'number' ? { upstreamStatus: seen.last } : { errorCode: seen.last };
      currentLog()?.info('upstream_call', { ...told, ...status, waitMs: Math.round(seen.waitMs) });
    };
    try {
      const value = await make(observed);
      end('ok');
      return value;
    } catch (error) {
      end(outcomeOf(error, seen.last));
      throw error;
    }
  });
}

/** A status below 500 is an answer: what it means is for the one who asked. */
function outcomeOf(error: unknown, last: number | string): string {
  if (typeof last === 'number' && last >= 400 && last < 500 && last !== 429) return `answered_${last}`;
  return error instanceof GatepostError ? error.code : 'failed';
}
