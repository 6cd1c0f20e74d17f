import { expect, it } from 'vitest';
import { requireConditions, settingsEtag } from '../../../lib/identity/settings-etag.ts';

it('the same settings have the same tag in whatever order they are written', () => {
  const tag = settingsEtag({ a: 1, b: { c: 2, d: [1, 2] } });
  expect(settingsEtag({ b: { d: [1, 2], c: 2 }, a: 1 })).toBe(tag);
  expect(tag).toMatch(/^"[\w-]{22}"$/);
  expect(settingsEtag({ a: 1, b: { c: 2, d: [2, 1] } })).not.toBe(tag);
});

it('If-None-Match: * is for what does not exist yet', () => {
  expect(() => requireConditions({ ifNoneMatch: '*' }, undefined)).not.toThrow();
  expect(() => requireConditions({ ifNoneMatch: '*' }, '"x"')).toThrow(/precondition_failed/);
});

it('If-Match is for what exists as it was read', () => {
  expect(() => requireConditions({ ifMatch: '"x"' }, '"x"')).not.toThrow();
  expect(() => requireConditions({ ifMatch: '*' }, '"x"')).not.toThrow();
  expect(() => requireConditions({ ifMatch: '"y"' }, '"x"')).toThrow(/precondition_failed/);
  expect(() => requireConditions({ ifMatch: '*' }, undefined)).toThrow(/precondition_failed/);
});
