import { expect, it } from 'vitest';
import { expiryOf } from '../../../lib/trust/expiry.ts';
import type { RootRecord } from '../../../lib/trust/ledger.ts';

const now = new Date('2026-03-01T12:00:00.000Z');

function rootUntil(name: string, notAfter: string): RootRecord {
  const facts = { subject: `CN=${name}`, serialNumber: '01', notBefore: '2020-01-01T00:00:00.000Z', notAfter };
  const kept = { kind: 'public' as const, objectName: `root-${name}`, version: '1' };
  return { name, state: 'active', sha256: 'ab'.repeat(32), ...facts, ...kept, createdAt: notAfter };
}

it('roots are measured in whole days that are left, rounded down, those that expire first before the others', () => {
  const roots = [
    rootUntil('far', '2026-04-30T12:00:00.000Z'),
    rootUntil('almost-a-day', '2026-03-02T11:59:59.000Z'),
    rootUntil('gone', '2026-03-01T11:00:00.000Z'),
    rootUntil('a-day', '2026-03-02T12:00:00.000Z'),
  ];
  expect(expiryOf(roots, now).map(({ root, daysLeft }) => [root, daysLeft])).toEqual([
    ['gone', -1],
    ['almost-a-day', 0],
    ['a-day', 1],
    ['far', 60],
  ]);
});
