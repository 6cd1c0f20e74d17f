import { GatepostError } from '../errors.ts';
import { type Observed, observeCall } from '../telemetry/upstream-span.ts';

/** One call to an Azure service, as a person would name it in a fault report. */
export interface UpstreamCall<T> {
  operation: string;
  /**
   * Whether the call may be sent again where nobody knows if the service did it, as after a cut connection. A call that
   * the service says it did not do (429, 5xx) is repeated in any case.
   */
  repeatable: boolean;
  attempt(signal: AbortSignal): Promise<T>;
}

export type Upstream = <T>(call: UpstreamCall<T>) => Promise<T>;

export interface UpstreamOptions {
  /** As it is told to callers: "Key Vault", "Table storage". */
  service: string;
  /** Milliseconds for one attempt. A call that ran out of it is not repeated. */
  timeoutMs: number;
  /** Milliseconds that waiting for retries may add up to. Default 10,000. */
  waitBudgetMs?: number;
  wait?: (ms: number) => Promise<void>;
  random?: () => number;
}

/**
 * What a service answered that the caller of the adapter may understand: 404, 409, 412 and the like. Where nobody does,
 * it goes out as `upstream_refused`. It holds nothing of the SDK's error, which prints the Authorization header.
 */
export class UpstreamStatusError extends GatepostError {
  readonly upstreamStatus: number;
  readonly upstreamCode: string | undefined;

  constructor(service: string, operation: string, status: number, code: string | undefined) {
    const forbidden = status === 401 || status === 403;
    const why = forbidden ? 'does not allow the identity of this app to' : `answered ${status} to`;
    const advice = forbidden ? ' Check its role assignments.' : '';
    super('upstream_refused', `${service} ${why} ${operation}.${advice}`);
    this.upstreamStatus = status;
    this.upstreamCode = code;
  }
}

/** What an SDK error says, and no more. */
interface Fault {
  name: string;
  status: number | undefined;
  code: string | undefined;
  retryAfterMs: number | undefined;
}

const defaultBudgetMs = 10_000;
const mostRetries = { throttled: 5, failed: 2, cut: 2 };
const firstBackoffMs = 200;

/**
 * Makes calls to one service with a time limit, bounded retries and errors that are safe to show. It retries 429 after
 * the Retry-After it names, 5xx twice, a lost connection twice where the call may be repeated, and a timeout never.
 * Throws `upstream_throttled`, `upstream_unavailable`, `upstream_timeout` or {@link UpstreamStatusError}.
 */
export function upstream(options: UpstreamOptions): Upstream {
  const { service, timeoutMs, waitBudgetMs = defaultBudgetMs, random = Math.random } = options;
  const wait = options.wait ?? ((ms) => new Promise<void>((resolve) => setTimeout(resolve, ms)));
  const withRetries = async <T>(
    { operation, repeatable, attempt }: UpstreamCall<T>,
    observed: Observed,
  ): Promise<T> => {
    let waited = 0;
    for (let tries = 0; ; tries += 1) {
      const outcome = await tryOnce(attempt, timeoutMs);
      if ('value' in outcome) {
        observed.answered(200);
        return outcome.value;
      }
      const { fault } = outcome;
      if (fault instanceof GatepostError) throw fault;
      observed.answered(fault.status ?? fault.name);
      const retryable = tries < retriesFor(fault, repeatable);
      const pause = fault.retryAfterMs ?? firstBackoffMs * 2 ** tries * (0.5 + random());
      if (!retryable || waited + pause > waitBudgetMs) throw problemOf(service, operation, fault, pause);
      observed.retrying(pause);
      await wait(pause);
      waited += pause;
    }
  };
  return (call) => observeCall(service, call.operation, (observed) => withRetries(call, observed));
}

async function tryOnce<T>(
  attempt: (signal: AbortSignal) => Promise<T>,
  timeoutMs: number,
): Promise<{ value: T } | { fault: Fault | GatepostError }> {
  const controller = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  // The race is for what listens to no signal, such as the managed identity's token request.
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new TimeoutFault());
      controller.abort();
    }, timeoutMs);
  });
  try {
    return { value: await Promise.race([attempt(controller.signal), late]) };
  } catch (error) {
    return { fault: error instanceof GatepostError ? error : faultOf(error) };
  } finally {
    clearTimeout(timer);
  }
}

class TimeoutFault extends Error {
  override readonly name = 'TimeoutFault';
}

function faultOf(error: unknown): Fault {
  if (!(error instanceof Error))
    return { name: typeof error, status: undefined, code: undefined, retryAfterMs: undefined };
  const { statusCode, code, details, response } = error as Error & {
    statusCode?: unknown;
    code?: unknown;
    details?: { odataError?: { code?: string } };
    response?: { headers?: { get(name: string): string | undefined } };
  };
  const named = details?.odataError?.code ?? code;
  return {
    name: error.name,
    status: typeof statusCode === 'number' ? statusCode : undefined,
    code: typeof named === 'string' ? named : undefined,
    retryAfterMs: retryAfterOf(response?.headers?.get('retry-after')),
  };
}

/** Retry-After is seconds or a date: RFC 9110 section 10.2.3. */
function retryAfterOf(header: string | undefined | null): number | undefined {
  if (header === undefined || header === null) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

function retriesFor(fault: Fault, repeatable: boolean): number {
  if (fault.name === 'TimeoutFault') return 0;
  if (fault.status === 429) return mostRetries.throttled;
  if (fault.status !== undefined) return fault.status >= 500 ? mostRetries.failed : 0;
  return isConnectionFault(fault) && (repeatable || fault.code === 'ECONNREFUSED') ? mostRetries.cut : 0;
}

function isConnectionFault(fault: Fault): boolean {
  return fault.code === 'REQUEST_SEND_ERROR' || /^E[A-Z]+$/.test(fault.code ?? '');
}

function problemOf(service: string, operation: string, fault: Fault, pauseMs: number): GatepostError {
  const retryAfterSeconds = Math.max(1, Math.ceil(pauseMs / 1000));
  const cause = Object.assign(new Error(`${fault.name} ${fault.status ?? ''}`.trim()), { code: fault.code });
  cause.name = fault.name;
  if (fault.name === 'TimeoutFault' || fault.name === 'AbortError') {
    return new GatepostError('upstream_timeout', `${service} did not ${operation} in time. Repeat the call.`, {
      cause,
    });
  }
  if (fault.status === 429) {
    return new GatepostError('upstream_throttled', `${service} is throttling. Repeat the call later.`, {
      cause,
      retryAfterSeconds,
    });
  }
  if (fault.status !== undefined && fault.status < 500) {
    return new UpstreamStatusError(service, operation, fault.status, fault.code);
  }
  return new GatepostError('upstream_unavailable', `${service} could not ${operation}. Repeat the call.`, {
    cause,
    ...(fault.retryAfterMs === undefined ? {} : { retryAfterSeconds }),
  });
}
