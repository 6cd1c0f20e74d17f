import { parseTimeSpan } from './host-json.ts';

/** When a timer runs. */
export interface Schedule {
  /** The first occurrence after `time`, strictly. */
  next(time: Date): Date;
  /** Whether it follows the calendar, as cron expressions do and plain intervals do not. */
  calendar: boolean;
}

const minute = 60_000;
const day = 24 * 60 * minute;
const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const weekdays = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

/**
 * Reads the `schedule` of a timer trigger: an NCRONTAB expression of six fields (second, minute, hour, day, month, day of
 * week), of five (without the seconds), or a time span such as `00:00:30`. Times are UTC, Azure's default.
 *
 * @throws where the expression is none of these.
 */
export function parseSchedule(expression: string): Schedule {
  const interval = parseTimeSpan(expression);
  if (interval !== undefined && interval > 0) {
    return { calendar: false, next: (time) => new Date(time.getTime() + interval) };
  }
  const fields = expression.trim().split(/\s+/);
  if (fields.length === 5) fields.unshift('0');
  if (fields.length !== 6) throw invalid(expression);
  const [seconds, minutes, hours, days, monthsOfYear, daysOfWeek] = [
    parseField(fields[0], 0, 59, expression),
    parseField(fields[1], 0, 59, expression),
    parseField(fields[2], 0, 23, expression),
    parseField(fields[3], 1, 31, expression),
    parseField(fields[4], 1, 12, expression, months),
    parseField(fields[5], 0, 6, expression, weekdays),
  ] as [Set<number>, Set<number>, Set<number>, Set<number>, Set<number>, Set<number>];
  const isDay = (date: Date) =>
    monthsOfYear.has(date.getUTCMonth() + 1) && days.has(date.getUTCDate()) && daysOfWeek.has(date.getUTCDay());
  const times = [...hours].flatMap((hour) =>
    [...minutes].flatMap((m) => [...seconds].map((second) => ((hour * 60 + m) * 60 + second) * 1000)),
  );
  return { calendar: true, next: (time) => nextOccurrence(time, isDay, times, expression) };
}

function nextOccurrence(time: Date, isDay: (date: Date) => boolean, times: number[], expression: string): Date {
  let midnight = Math.floor(time.getTime() / day) * day;
  const within = time.getTime() - midnight;
  // Eight years hold every 29th of February of a day of the week that a calendar has to offer but the rarest.
  for (let tried = 0; tried <= 40 * 366; tried += 1, midnight += day) {
    if (!isDay(new Date(midnight))) continue;
    const found = tried === 0 ? times.find((offset) => offset > within) : times[0];
    if (found !== undefined) return new Date(midnight + found);
  }
  throw new Error(`The schedule "${expression}" has no occurrence.`);
}

function parseField(
  field: string | undefined,
  least: number,
  most: number,
  expression: string,
  names: string[] = [],
): Set<number> {
  const values = new Set<number>();
  for (const item of (field ?? '').split(',')) {
    const parts = /^(\*|(\w+)(?:-(\w+))?)(?:\/(\d+))?$/.exec(item);
    if (parts === null) throw invalid(expression);
    const [, whole, from, to, step] = parts;
    const every = step === undefined ? 1 : Number(step);
    const first = whole === '*' ? least : toNumber(from, least, names);
    // `5/15` counts on from 5 to the end of the field.
    const last = whole === '*' || (to === undefined && step !== undefined) ? most : toNumber(to ?? from, least, names);
    if (!(first >= least && last <= most && first <= last && every > 0)) throw invalid(expression);
    for (let value = first; value <= last; value += every) values.add(value);
  }
  return new Set([...values].sort((left, right) => left - right));
}

function toNumber(text: string | undefined, least: number, names: string[]): number {
  if (text === undefined) return Number.NaN;
  const named = text.length < 3 ? -1 : names.findIndex((name) => text.toLowerCase().startsWith(name));
  if (named >= 0) return named + least;
  return /^\d+$/.test(text) ? Number(text) : Number.NaN;
}

function invalid(expression: string): Error {
  return new Error(
    `The schedule expression '${expression}' was not recognized as a valid cron expression or timespan string.`,
  );
}
