import { expect, it } from 'vitest';
import { Recent } from '../../../lib/identity/recent.ts';

it('what was not used for longest is forgotten first', () => {
  const recent = new Recent<string, number>(2);
  recent.set('a', 1);
  recent.set('b', 2);
  expect(recent.get('a')).toBe(1);
  recent.set('c', 3);
  expect(recent.get('b')).toBeUndefined();
  expect(recent.get('a')).toBe(1);
  expect(recent.get('c')).toBe(3);
});

it('writing again what is there pushes nothing out', () => {
  const recent = new Recent<string, number>(2);
  recent.set('a', 1);
  recent.set('b', 2);
  recent.set('b', 3);
  expect([recent.get('a'), recent.get('b')]).toEqual([1, 3]);
  recent.delete('a');
  expect(recent.get('a')).toBeUndefined();
});
