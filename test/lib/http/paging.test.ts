import { expect, it } from 'vitest';
import { pageAnswer, pageRequest } from '../../../lib/http/paging.ts';

const url = new URL('https://api.example.com/api/v1/devices?gateway=gw&pageSize=2&code=function-key');
const token = (link: string | undefined) => new URL(link ?? '').searchParams.get('continuation') ?? undefined;

it('the next link leads to the next page of the same list, and carries no function key', () => {
  const { nextLink } = pageAnswer({ rows: [1], continuation: 'from the hub==' }, url, 'devices of gw');
  expect(nextLink).toMatch(/^https:\/\/api\.example\.com\/api\/v1\/devices\?gateway=gw&pageSize=2&continuation=/);
  expect(nextLink).not.toContain('function-key');
  const continuation = token(nextLink);
  expect(pageRequest({ pageSize: 2, continuation }, 'devices of gw')).toEqual({
    size: 2,
    continuation: 'from the hub==',
  });
});

it('the last page has no next link', () => {
  expect(pageAnswer({ rows: [1] }, url, 'devices of gw')).toEqual({ value: [1] });
});

it('a continuation of another list, one that is made up, and one that would end a header are refused', () => {
  const other = token(pageAnswer({ rows: [], continuation: 'x' }, url, 'devices of other').nextLink);
  const evil = Buffer.from(JSON.stringify(['devices of gw', 'x\r\nEvil: 1'])).toString('base64url');
  for (const continuation of [other, evil, 'abc', '', Buffer.from('5').toString('base64url')]) {
    expect(() => pageRequest({ pageSize: 2, continuation }, 'devices of gw')).toThrow(/invalid_request/);
  }
});
