import { z } from 'zod';
import type { Authentication } from './registry.ts';

const thumbprint = z
  .string()
  .regex(/^(?:[0-9a-fA-F]{40}|[0-9a-fA-F]{64})$/, 'A thumbprint is the SHA-1 (40) or SHA-256 (64) as hex digits.')
  .transform((value) => value.toUpperCase())
  .meta({ example: 'A5F1C36E1D1E4F9A8C0B8D4E2F7A6B5C4D3E2F10' });

/** How a caller says that an identity authenticates. */
export const authInputSchema = z
  .discriminatedUnion('type', [
    z.strictObject({ type: z.literal('sas') }),
    z.strictObject({
      type: z.literal('selfSigned'),
      primaryThumbprint: thumbprint,
      secondaryThumbprint: thumbprint.optional(),
    }),
    z.strictObject({ type: z.literal('certificateAuthority') }),
  ])
  .meta({ description: 'Absent: a new identity gets symmetric keys, an existing one keeps what it has.' });

export type AuthInput = z.output<typeof authInputSchema>;

/** How an answer says it. It never carries a key. */
export const authViewSchema = z.object({
  type: z.enum(['sas', 'selfSigned', 'certificateAuthority', 'none']),
  primaryThumbprint: z.string().optional(),
  secondaryThumbprint: z.string().optional(),
});

export type AuthView = z.output<typeof authViewSchema>;

export function describeAuthentication(authentication: Authentication): AuthView {
  if (authentication.type !== 'selfSigned') return { type: authentication.type };
  const { primaryThumbprint, secondaryThumbprint } = authentication;
  return { type: 'selfSigned', primaryThumbprint, ...(secondaryThumbprint ? { secondaryThumbprint } : {}) };
}

/** What the registry is asked for; the hub makes the keys. */
export function newAuthentication(input: AuthInput | undefined): Authentication {
  switch (input?.type) {
    case 'selfSigned': {
      const { primaryThumbprint, secondaryThumbprint } = input;
      return { type: 'selfSigned', primaryThumbprint, secondaryThumbprint };
    }
    case 'certificateAuthority':
      return { type: 'certificateAuthority' };
    default:
      return { type: 'sas', primaryKey: undefined, secondaryKey: undefined };
  }
}

/**
 * Whether `now` is what was asked for. A key that was left to the hub matches any, and so existing keys stay when `sas` is
 * asked for again; thumbprints are compared without regard to case, as edgeHub does (CertificateHelper.cs).
 */
export function sameAuthentication(asked: Authentication, now: Authentication): boolean {
  if (asked.type === 'sas' && now.type === 'sas') {
    const same = (one: 'primaryKey' | 'secondaryKey') =>
      asked[one] === undefined || asked[one].reveal() === now[one]?.reveal();
    return same('primaryKey') && same('secondaryKey');
  }
  if (asked.type === 'selfSigned' && now.type === 'selfSigned') {
    const same = (one: string | undefined, other: string | undefined) =>
      (one ?? '').toUpperCase() === (other ?? '').toUpperCase();
    return (
      same(asked.primaryThumbprint, now.primaryThumbprint) && same(asked.secondaryThumbprint, now.secondaryThumbprint)
    );
  }
  return asked.type === now.type;
}
