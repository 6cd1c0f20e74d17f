import { describe, expect, it } from 'vitest';
import { parseSchedule } from '../../../local/functions-host/ncrontab.ts';

const next = (expression: string, after: string) => parseSchedule(expression).next(new Date(after)).toISOString();

describe('schedules of timers', () => {
  it.each([
    ['every second', '* * * * * *', '2026-11-22T10:00:00.500Z', '2026-11-22T10:00:01.000Z'],
    ['strictly after', '0 0 * * * *', '2026-11-22T10:00:00.000Z', '2026-11-22T11:00:00.000Z'],
    ['every five minutes', '0 */5 * * * *', '2026-11-22T10:02:00Z', '2026-11-22T10:05:00.000Z'],
    ['five fields have no seconds', '*/5 * * * *', '2026-11-22T10:02:00Z', '2026-11-22T10:05:00.000Z'],
    ['from a value in steps', '0 5/20 * * * *', '2026-11-22T10:06:00Z', '2026-11-22T10:25:00.000Z'],
    ['a range in steps', '0 0 9-17/4 * * *', '2026-11-22T13:30:00Z', '2026-11-22T17:00:00.000Z'],
    ['a list', '0 0,30 * * * *', '2026-11-22T10:00:00Z', '2026-11-22T10:30:00.000Z'],
    ['working days by name', '0 30 9 * * Mon-Fri', '2026-11-21T00:00:00Z', '2026-11-23T09:30:00.000Z'],
    ['a month by name', '0 0 0 1 January *', '2026-11-22T00:00:00Z', '2027-01-01T00:00:00.000Z'],
    ['day and weekday both', '0 0 0 13 * 5', '2026-11-22T00:00:00Z', '2027-08-13T00:00:00.000Z'],
    ['a leap day', '0 0 0 29 2 *', '2026-11-22T00:00:00Z', '2028-02-29T00:00:00.000Z'],
    ['over the end of a year', '0 0 0 * * *', '2026-12-31T12:00:00Z', '2027-01-01T00:00:00.000Z'],
    ['a time span', '00:00:30', '2026-11-22T10:00:00Z', '2026-11-22T10:00:30.000Z'],
  ])('%s: %s', (_what, expression, after, expected) => {
    expect(next(expression, after)).toBe(expected);
  });

  it.each([
    '',
    '* * * *',
    '* * * * * * *',
    '60 * * * * *',
    '* * 24 * * *',
    '* * * 0 * *',
    '* * * * 13 *',
    '* * * * * 7',
    'a * * * * *',
    '5-1 * * * * *',
    '*/0 * * * * *',
    '25:00:00',
    '00:00:00',
  ])('are refused when malformed: "%s"', (expression) => {
    expect(() => parseSchedule(expression)).toThrow('was not recognized');
  });

  it('that never occur say so', () => {
    expect(() => next('0 0 0 30 2 *', '2026-11-22T00:00:00Z')).toThrow('no occurrence');
  });
});
