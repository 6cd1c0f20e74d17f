import { describe, expect, test } from 'vitest';
import { mergePatch, patchBetween } from '../../../local/gateway/twin-patch.ts';

describe('twin patches', () => {
  test('merge objects, replace values and arrays, remove with null', () => {
    const base = { a: 1, gone: true, nested: { keep: 1, change: 1 }, list: [1, 2] };
    const patch = { gone: null, nested: { change: 2, added: { deep: true } }, list: [3] };
    expect(mergePatch(base, patch)).toEqual({ a: 1, nested: { keep: 1, change: 2, added: { deep: true } }, list: [3] });
  });

  test('that are joined before they are sent keep their removals', () => {
    expect(mergePatch({ a: 1, b: { c: 1 } }, { a: null, b: { c: null } }, 'keep nulls')).toEqual({
      a: null,
      b: { c: null },
    });
  });

  test('between two twins make the later of the earlier', () => {
    const before = { speed: 1, gone: 'x', nested: { a: 1, b: 2 }, same: { c: [1] }, $version: 3 };
    const after = { speed: 2, nested: { a: 1, d: 4 }, same: { c: [1] }, $version: 5 };
    const patch = patchBetween(before, after);
    expect(patch).toEqual({ speed: 2, gone: null, nested: { b: null, d: 4 }, $version: 5 });
    expect(mergePatch(before, patch)).toEqual(after);
  });
});
