import { describe, expect, it } from 'vitest';
import { mergePatch, tagsSchema, userTags } from '../../../lib/identity/tags.ts';

describe('tags in a body', () => {
  it.each([{}, { plant: 'north', line: { number: 4, parts: ['a', 'b'] }, on: true }])('may be %j', (tags) => {
    expect(tagsSchema.safeParse(tags).success).toBe(true);
  });

  const deep = (levels: number): unknown => (levels === 0 ? 1 : { down: deep(levels - 1) });
  it.each([
    ['the reserved tag', { gatepost: {} }],
    ['a null', { plant: null }],
    ['a null inside', { plant: { hall: null } }],
    ['a dot in a name', { 'a.b': 1 }],
    ['a dollar sign in a name', { $a: 1 }],
    ['a blank in a name', { 'a b': 1 }],
    ['a name of a control character', { '\u0007': 1 }],
    ['a long text', { plant: 'x'.repeat(4097) }],
    ['too many bytes', Object.fromEntries([...'abc'].map((name) => [name, 'x'.repeat(3000)]))],
    ['too many levels', { down: deep(10) }],
    ['a number beyond 2^53', { number: 2 ** 60 }],
    ['an array', [1]],
  ])('are refused with %s', (_what, tags) => {
    expect(tagsSchema.safeParse(tags).success).toBe(false);
  });
});

describe('a merge patch', () => {
  it('is none between equals', () => {
    expect(mergePatch({ a: 1, b: { c: [1, 2] } }, { b: { c: [1, 2] }, a: 1 })).toBeUndefined();
  });

  it('removes what is gone, at every level, and writes what is new', () => {
    expect(mergePatch({ a: 1, b: { c: 1, d: 2 }, e: 5 }, { b: { c: 3 }, e: 5, f: { g: 1 } })).toEqual({
      a: null,
      b: { c: 3, d: null },
      f: { g: 1 },
    });
  });

  it('replaces an object by a value and a value by an object', () => {
    expect(mergePatch({ a: { b: 1 }, c: 1 }, { a: 1, c: { b: 1 } })).toEqual({ a: 1, c: { b: 1 } });
  });
});

it("the caller's tags are those beside the reserved one", () => {
  expect(userTags({ gatepost: { hostname: 'x' }, plant: 'north' })).toEqual({ plant: 'north' });
});
