import { setTimeout as sleep } from 'node:timers/promises';
import type { IndexedFunction } from './function-index.ts';
import type { Invoker } from './invoker.ts';
import { parseSchedule, type Schedule } from './ncrontab.ts';
import type { RetryContext, RetryOptions, TypedData } from './protocol.ts';

const longestTimeout = 2 ** 31 - 1;
const never = '0001-01-01T00:00:00+00:00';

/** Runs one timer function at its times, never twice at once. */
export class TimerListener {
  readonly #target: IndexedFunction;
  readonly #invoker: Invoker;
  readonly #schedule: Schedule;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  readonly #stopping = new AbortController();
  #last: Date | undefined;

  /** @throws where the schedule cannot be read. */
  constructor(target: IndexedFunction, invoker: Invoker) {
    this.#target = target;
    this.#invoker = invoker;
    this.#schedule = parseSchedule(String(target.trigger.schedule ?? ''));
  }

  start(): void {
    if (this.#target.trigger.runOnStartup === true) void this.#occur(new Date());
    else this.#arm(this.#schedule.next(new Date()));
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer);
    await this.#running;
  }

  async trigger(): Promise<void> {
    await this.#run('This function was programmatically called via the host APIs.');
  }

  #arm(at: Date): void {
    if (this.#stopping.signal.aborted) return;
    const wait = Math.max(0, at.getTime() - Date.now());
    // A timeout holds 24.8 days at most; a longer wait is made of several.
    this.#timer =
      wait > longestTimeout
        ? setTimeout(() => this.#arm(at), longestTimeout)
        : setTimeout(() => void this.#occur(at), wait);
  }

  async #occur(at: Date): Promise<void> {
    this.#last = at;
    this.#running = this.#run(`Timer fired at ${new Date().toISOString()}`);
    await this.#running;
    // A timeout may come a moment early: the next occurrence lies after this one in any case.
    this.#arm(this.#schedule.next(new Date(Math.max(Date.now(), at.getTime()))));
  }

  /** One occurrence with its retries. What fails is in the log; the schedule goes on. */
  async #run(reason: string): Promise<void> {
    const { retry } = this.#target;
    let context = retry === undefined ? undefined : newRetryContext(retry);
    while (true) {
      try {
        await this.#invoker.run(this.#target, {
          data: this.#timerData(),
          reason,
          ...(context && { retryContext: context }),
        });
        return;
      } catch (error) {
        if (retry === undefined || context === undefined) return;
        if (retry.maxRetryCount >= 0 && context.retryCount >= retry.maxRetryCount) return;
        const { signal } = this.#stopping;
        await sleep(retryDelay(retry, context.retryCount), undefined, { signal }).catch(() => {});
        if (signal.aborted) return;
        context = nextTry(context, error);
      }
    }
  }

  #timerData(): TypedData {
    return {
      json: JSON.stringify({
        Schedule: { AdjustForDST: this.#schedule.calendar },
        ScheduleStatus: {
          Last: this.#last === undefined ? never : dotNetDate(this.#last),
          Next: dotNetDate(this.#schedule.next(new Date())),
          LastUpdated: this.#last === undefined ? never : dotNetDate(this.#last),
        },
        IsPastDue: false,
      }),
    };
  }
}

function newRetryContext(retry: RetryOptions): RetryContext {
  return { retryCount: 0, maxRetryCount: retry.maxRetryCount };
}

function nextTry(context: RetryContext, error: unknown): RetryContext {
  const message = error instanceof Error ? error.message : String(error);
  const stackTrace = error instanceof Error && error.stack !== undefined ? { stackTrace: error.stack } : {};
  return { ...context, retryCount: context.retryCount + 1, exception: { message, ...stackTrace } };
}

/** Milliseconds before the next try: fixed, or doubling between two bounds. */
function retryDelay(retry: RetryOptions, retryCount: number): number {
  if (retry.retryStrategy !== 'exponentialBackoff') return (retry.delayInterval?.seconds ?? 0) * 1000;
  const least = (retry.minimumInterval?.seconds ?? 0) * 1000;
  const most = (retry.maximumInterval?.seconds ?? 0) * 1000;
  return Math.min(most, least * 2 ** retryCount);
}

function dotNetDate(date: Date): string {
  return date.toISOString().replace('Z', '+00:00');
}
