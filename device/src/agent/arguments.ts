import { type ParseArgsConfig, parseArgs } from 'node:util';
import { GatepostDeviceError, reasonOf } from '../errors.ts';

type Options = NonNullable<ParseArgsConfig['options']>;

/** Reads the options of one command. Throws `usage`. */
export function parseOptions<O extends Options>(command: string, parameters: string[], options: O) {
  try {
    return parseArgs({ args: parameters, options, allowPositionals: false, strict: true }).values;
  } catch (error) {
    const [sentence] = reasonOf(error).split('. ');
    throw new GatepostDeviceError('usage', `${sentence}. See gatepost-device ${command} --help.`);
  }
}

/** A whole number within its bounds; undefined where nothing was given. Throws `usage`. */
export function wholeNumber(
  value: string | undefined,
  name: string,
  [least, most]: [number, number],
): number | undefined {
  if (value === undefined) return undefined;
  const number = Number(value);
  if (/^\d+$/.test(value.trim()) && number >= least && number <= most) return number;
  throw new GatepostDeviceError(
    'usage',
    `${name} takes a whole number from ${least} to ${most}, not ${JSON.stringify(value)}.`,
  );
}

/** Seconds as milliseconds. Throws `usage`. */
export function secondsOption(value: string | undefined, name: string): number | undefined {
  if (value === undefined) return undefined;
  const seconds = Number(value);
  if (value.trim() !== '' && Number.isFinite(seconds) && seconds >= 0) return seconds * 1000;
  throw new GatepostDeviceError('usage', `${name} takes a number of seconds, not ${JSON.stringify(value)}.`);
}
