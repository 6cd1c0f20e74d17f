import { randomBytes } from 'node:crypto';

/** A table name that nobody else has: letters and digits, the first a letter. */
export function uniqueTable(): string {
  return `t${randomBytes(12).toString('hex')}`;
}
