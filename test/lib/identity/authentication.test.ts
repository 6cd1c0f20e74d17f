import { describe, expect, it } from 'vitest';
import {
  authInputSchema,
  describeAuthentication,
  newAuthentication,
  sameAuthentication,
} from '../../../lib/identity/authentication.ts';
import type { Authentication } from '../../../lib/identity/registry.ts';
import { Redacted } from '../../../lib/redacted.ts';

const sha1 = 'ab'.repeat(20);
const sha256 = 'CD'.repeat(32);

describe('auth in a body', () => {
  it.each([
    { type: 'sas' },
    { type: 'certificateAuthority' },
    { type: 'selfSigned', primaryThumbprint: sha1 },
    { type: 'selfSigned', primaryThumbprint: sha256, secondaryThumbprint: sha1 },
  ])('may be %j', (auth) => {
    expect(authInputSchema.safeParse(auth).success).toBe(true);
  });

  it.each([
    {},
    { type: 'none' },
    { type: 'selfSigned' },
    { type: 'selfSigned', primaryThumbprint: 'ab:cd' },
    { type: 'selfSigned', primaryThumbprint: `${sha1}a` },
    { type: 'selfSigned', primaryThumbprint: 'zz'.repeat(20) },
    { type: 'sas', primaryKey: 'c2VjcmV0' },
    { type: 'certificateAuthority', primaryThumbprint: sha1 },
  ])('is refused as %j', (auth) => {
    expect(authInputSchema.safeParse(auth).success).toBe(false);
  });
});

describe('what is asked for is there already', () => {
  const keys = (primary: string | undefined, secondary: string | undefined): Authentication => ({
    type: 'sas',
    primaryKey: primary === undefined ? undefined : new Redacted(primary),
    secondaryKey: secondary === undefined ? undefined : new Redacted(secondary),
  });

  it('when keys that are left to the hub exist', () => {
    expect(sameAuthentication(newAuthentication({ type: 'sas' }), keys('a', 'b'))).toBe(true);
  });

  it('not when a key differs', () => {
    expect(sameAuthentication(keys('a', 'b'), keys('a', 'b'))).toBe(true);
    expect(sameAuthentication(keys('a', 'b'), keys('a', 'c'))).toBe(false);
    expect(sameAuthentication(keys('a', 'b'), keys('c', 'b'))).toBe(false);
  });

  it('when thumbprints differ in case only', () => {
    const asked = newAuthentication(authInputSchema.parse({ type: 'selfSigned', primaryThumbprint: sha1 }));
    expect(
      sameAuthentication(asked, { type: 'selfSigned', primaryThumbprint: sha1, secondaryThumbprint: undefined }),
    ).toBe(true);
    expect(
      sameAuthentication(asked, { type: 'selfSigned', primaryThumbprint: sha1, secondaryThumbprint: sha256 }),
    ).toBe(false);
  });

  it('not when the type is another', () => {
    expect(sameAuthentication({ type: 'certificateAuthority' }, keys('a', 'b'))).toBe(false);
    expect(sameAuthentication(keys(undefined, undefined), { type: 'certificateAuthority' })).toBe(false);
  });
});

it('an answer tells how a device authenticates, never with which key', () => {
  const told = describeAuthentication({
    type: 'sas',
    primaryKey: new Redacted('one'),
    secondaryKey: new Redacted('two'),
  });
  expect(told).toEqual({ type: 'sas' });
});
