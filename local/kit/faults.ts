/** The services that can be told to misbehave. */
export type FaultTarget = 'hub' | 'vault' | 'entra' | 'storage' | 'gateway';

const targets: readonly FaultTarget[] = ['hub', 'vault', 'entra', 'storage', 'gateway'];

/**
 * What goes wrong. `cut: "before"` drops the connection before anything is done; `cut: "after"` does the work and drops
 * the connection in place of the answer.
 */
export type Fault =
  | { status: number; retryAfter?: number }
  | { delayMs: number }
  | { hang: true }
  | { cut: 'before' | 'after' };

export interface FaultRule {
  target: FaultTarget;
  /** Both must match; `path` is a regular expression over the path with its query. Absent matches everything. */
  match?: { method?: string; path?: string };
  fault: Fault;
  /** How often it strikes before it is used up. Absent: until cleared. */
  times?: number;
}

export interface ListedFault extends FaultRule {
  struck: number;
}

interface ArmedFault extends ListedFault {
  pattern: RegExp | undefined;
}

export class InvalidFaultError extends Error {}

/** One switch for all doubles of a local cloud: which faults are armed, how often each struck, and which calls were served. */
export class FaultSwitch {
  #armed: ArmedFault[] = [];
  #calls = new Map<FaultTarget, Map<string, number>>();

  /** Arms a fault. Throws {@link InvalidFaultError} where the rule does not read as one. */
  add(rule: unknown): void {
    const checked = checkRule(rule);
    const path = checked.match?.path;
    this.#armed.push({ ...checked, struck: 0, pattern: path === undefined ? undefined : new RegExp(path) });
  }

  clear(): void {
    this.#armed = [];
  }

  list(): ListedFault[] {
    return this.#armed.map(({ pattern: _pattern, ...listed }) => listed);
  }

  /** The fault that strikes this request, if one does; the first armed match wins and counts as struck. */
  strike(target: FaultTarget, method: string, path: string): Fault | undefined {
    for (const armed of this.#armed) {
      if (armed.target !== target) continue;
      if (armed.times !== undefined && armed.struck >= armed.times) continue;
      if (armed.match?.method !== undefined && armed.match.method.toUpperCase() !== method.toUpperCase()) continue;
      if (armed.pattern !== undefined && !armed.pattern.test(path)) continue;
      armed.struck += 1;
      return armed.fault;
    }
    return undefined;
  }

  /** Counts one served request under its method and path template, such as `PUT /devices/{id}`. */
  count(target: FaultTarget, method: string, template: string): void {
    const counted = this.#calls.get(target) ?? new Map<string, number>();
    this.#calls.set(target, counted);
    const key = `${method} ${template}`;
    counted.set(key, (counted.get(key) ?? 0) + 1);
  }

  calls(): Record<FaultTarget, Record<string, number>> {
    const answer = {} as Record<FaultTarget, Record<string, number>>;
    for (const target of targets) answer[target] = Object.fromEntries(this.#calls.get(target) ?? []);
    return answer;
  }

  resetCalls(): void {
    this.#calls.clear();
  }
}

function checkRule(rule: unknown): FaultRule {
  if (typeof rule !== 'object' || rule === null || Array.isArray(rule)) {
    throw new InvalidFaultError('A fault is an object {target, match?, fault, times?}.');
  }
  const { target, match, fault, times, ...others } = rule as Record<string, unknown>;
  refuseOthers(others, 'fault rule');
  if (!targets.includes(target as FaultTarget)) throw new InvalidFaultError(`target is one of ${targets.join(', ')}.`);
  if (times !== undefined && !(Number.isInteger(times) && (times as number) > 0)) {
    throw new InvalidFaultError('times is a whole number above 0.');
  }
  checkMatch(match);
  checkFault(fault);
  return rule as FaultRule;
}

function checkMatch(match: unknown): void {
  if (match === undefined) return;
  if (typeof match !== 'object' || match === null) throw new InvalidFaultError('match is an object {method?, path?}.');
  const { method, path, ...others } = match as Record<string, unknown>;
  refuseOthers(others, 'match');
  if (method !== undefined && typeof method !== 'string') throw new InvalidFaultError('match.method is a string.');
  if (path === undefined) return;
  if (typeof path !== 'string') throw new InvalidFaultError('match.path is a regular expression as a string.');
  try {
    new RegExp(path);
  } catch (error) {
    throw new InvalidFaultError(`match.path is no regular expression: ${(error as Error).message}`);
  }
}

function checkFault(fault: unknown): void {
  const shapes = '{status, retryAfter?} | {delayMs} | {hang: true} | {cut: "before"|"after"}';
  if (typeof fault !== 'object' || fault === null) throw new InvalidFaultError(`fault is one of ${shapes}.`);
  const { status, retryAfter, delayMs, hang, cut, ...others } = fault as Record<string, unknown>;
  refuseOthers(others, 'fault');
  const isCount = (value: unknown) => typeof value === 'number' && Number.isFinite(value) && value >= 0;
  const kinds = [
    status !== undefined && Number.isInteger(status) && (status as number) >= 400 && (status as number) <= 599,
    delayMs !== undefined && isCount(delayMs),
    hang === true,
    cut === 'before' || cut === 'after',
  ].filter(Boolean).length;
  const given = [status, delayMs, hang, cut].filter((value) => value !== undefined).length;
  if (kinds !== 1 || given !== 1) throw new InvalidFaultError(`fault is exactly one of ${shapes}.`);
  if (retryAfter !== undefined && (status === undefined || !isCount(retryAfter))) {
    throw new InvalidFaultError('retryAfter is a number of seconds and goes with status.');
  }
}

function refuseOthers(others: Record<string, unknown>, what: string): void {
  const names = Object.keys(others);
  if (names.length > 0) throw new InvalidFaultError(`Unknown field of a ${what}: ${names.join(', ')}.`);
}
