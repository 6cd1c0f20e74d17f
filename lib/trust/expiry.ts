import type { RootRecord } from './ledger.ts';

/** How long a root is still good for. */
export interface RootExpiry {
  root: string;
  kind: RootRecord['kind'];
  sha256: string;
  /** Whole days that are left, rounded down; negative once it has expired. */
  daysLeft: number;
}

const dayMs = 86_400_000;

/** The time that each root has left, those that expire first before the others. */
export function expiryOf(roots: readonly RootRecord[], now: Date): RootExpiry[] {
  const measured = roots.map(({ name, kind, sha256, notAfter }) => {
    const daysLeft = Math.floor((Date.parse(notAfter) - now.getTime()) / dayMs);
    return { root: name, kind, sha256, daysLeft };
  });
  return measured.sort((one, other) => one.daysLeft - other.daysLeft);
}
