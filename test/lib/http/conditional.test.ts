import { describe, expect, it } from 'vitest';
import { bareEtag, noneMatchHits, requireMatch, strongEtag } from '../../../lib/http/conditional.ts';

const code = (act: () => void): string => {
  try {
    act();
    return 'passes';
  } catch (error) {
    return (error as { code: string }).code;
  }
};

describe('If-Match', () => {
  it.each([
    ['is absent', undefined, '"1"', 'passes'],
    ['names the tag', '"1"', '"1"', 'passes'],
    ['lists the tag', '"0", "1"', '"1"', 'passes'],
    ['is a star and there is one', '*', '"1"', 'passes'],
    ['is a star and there is none', '*', undefined, 'precondition_failed'],
    ['names another tag', '"2"', '"1"', 'precondition_failed'],
    ['names the tag weakly', 'W/"1"', '"1"', 'precondition_failed'],
    ['is no tag', '1', '"1"', 'precondition_failed'],
    ['names a tag and there is none', '"1"', undefined, 'precondition_failed'],
  ])('where it %s', (_case, header, etag, outcome) => {
    expect(code(() => requireMatch(header, etag))).toBe(outcome);
  });
});

describe('If-None-Match', () => {
  it('compares weakly', () => {
    expect(noneMatchHits('W/"1"', '"1"')).toBe(true);
    expect(noneMatchHits('"2", "3"', '"1"')).toBe(false);
    expect(noneMatchHits(undefined, '"1"')).toBe(false);
  });
});

describe('an entity tag', () => {
  it('goes out quoted and comes back bare', () => {
    expect(strongEtag('AAAA=')).toBe('"AAAA="');
    expect(bareEtag('"AAAA="')).toBe('AAAA=');
    expect(bareEtag('W/"AAAA="')).toBe('AAAA=');
  });
});
