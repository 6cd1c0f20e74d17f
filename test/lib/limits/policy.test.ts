import { describe, expect, it } from 'vitest';
import type { Access, Caller } from '../../../lib/http/route.ts';
import { draw } from '../../../lib/limits/bucket.ts';
import { addressOf, limitsOf } from '../../../lib/limits/policy.ts';

const operator: Caller = { plane: 'operator', objectId: 'o-1', name: 'o', roles: ['Credential.Issue'] };
const issuers: Access = { plane: 'operator', roles: ['Credential.Issue'] };
const from = (address: string) => new Headers({ 'x-forwarded-for': address });

describe('a call counts', () => {
  it('of an operator who issues credentials, as that operator and for the device', () => {
    expect(limitsOf({ access: issuers }, operator, { deviceId: 'd' }, new Headers())).toEqual([
      { kind: 'caller', key: 'o-1' },
      { kind: 'device', key: 'd' },
    ]);
  });

  it('that onboards, as the operator only: each device is another', () => {
    const route = { access: { plane: 'operator', roles: ['Fleet.Provision'] } as Access, limit: 'caller' as const };
    expect(limitsOf(route, operator, { deviceId: 'd' }, new Headers())).toEqual([{ kind: 'caller', key: 'o-1' }]);
  });

  it('of a device or its module, as the device', () => {
    const module: Caller = { plane: 'device', deviceId: 'd', moduleId: 'm' };
    expect(limitsOf({ access: { plane: 'device' } }, module, { deviceId: 'd' }, new Headers())).toEqual([
      { kind: 'device', key: 'd' },
    ]);
  });

  it('that redeems a token, as the address that the front end saw', () => {
    const headers = from('203.0.113.7, 198.51.100.9:52311');
    expect(limitsOf({ access: { plane: 'join' } }, { plane: 'join' }, {}, headers)).toEqual([
      { kind: 'address', key: '198.51.100.9' },
    ]);
  });

  it('of the public, or of an operator who reads, as nobody', () => {
    expect(limitsOf({ access: { plane: 'public' } }, { plane: 'public' }, {}, new Headers())).toEqual([]);
    const readers: Access = { plane: 'operator', roles: ['Fleet.Read', 'Credential.Issue'] };
    expect(limitsOf({ access: readers }, operator, {}, new Headers())).toEqual([]);
  });
});

it.each([
  [null, ''],
  ['198.51.100.9', '198.51.100.9'],
  ['[2001:db8:1:2:3:4:5:6]:443', '2001:db8:1:2::/64'],
  ['2001:db8::9', '2001:db8:0:0::/64'],
  ['2001:0DB8:0:0:ffff::1', '2001:db8:0:0::/64'],
  ['[::ffff:198.51.100.9]:80', '198.51.100.9'],
])('the address of %s is %s', (header, address) => {
  expect(addressOf(header)).toBe(address);
});

describe('a bucket', () => {
  it('is full at first, gives whole permits, and fills evenly', () => {
    const first = draw(undefined, 60, 10, 0);
    expect(first).toEqual({ granted: 10, left: { permits: 50, at: 0 } });
    expect(draw({ permits: 0.5, at: 0 }, 60, 10, 0)).toEqual({ waitMs: 500 });
    expect(draw({ permits: 0, at: 0 }, 60, 10, 2500)).toEqual({ granted: 2, left: { permits: 0.5, at: 2500 } });
    expect(draw({ permits: 0, at: 0 }, 60, 100, 3_600_000)).toMatchObject({ granted: 60 });
  });

  it('gives nothing for a time that another clock has seen already', () => {
    expect(draw({ permits: 0, at: 10_000 }, 60, 1, 5_000)).toEqual({ waitMs: 1000 });
  });
});
