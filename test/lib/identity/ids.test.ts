import { describe, expect, it } from 'vitest';
import { gatewayIdOfScope, hostnameFault, hostnameWarnings, idSchema, sqlText } from '../../../lib/identity/ids.ts';

describe('an id', () => {
  it.each(['a', '9', 'press-4', 'A.b_c:d-e', 'x'.repeat(128)])('may be %s', (id) => {
    expect(idSchema.safeParse(id).success).toBe(true);
  });

  it.each(['', '-a', '.a', '$edgeHub', 'a b', 'a;b', 'a/b', 'a+b', 'a#b', 'ä', 'a\n', 'x'.repeat(129)])(
    'is refused as %j',
    (id) => {
      expect(idSchema.safeParse(id).success).toBe(false);
    },
  );
});

describe('a gateway host name', () => {
  it.each(['localhost', 'gw', 'gateway-1.plant.example.com', `${'a'.repeat(63)}`, '10.0.0.4'])('may be %s', (name) => {
    expect(hostnameFault(name)).toBeUndefined();
  });

  it.each([
    ['Gateway.example.com', /lower case/],
    ['gate_way.example.com', /underscore/],
    [`${'a'.repeat(60)}.abcd`, /at most 64/],
    ['1gateway', /begins with a letter/],
    ['gateway-', /ends without/],
    ['-gateway', /begins/],
    ['gateway..example', /begins/],
    ['gateway.', /begins/],
    [`${'a'.repeat(64)}`, /Each label/],
    ['', /begins/],
    ['fe80::1', /begins/],
    ['gateway:8883', /begins/],
    ['https://gateway', /begins/],
  ])('is refused as %s', (name, why) => {
    expect(hostnameFault(name)).toMatch(why);
  });

  it('of 64 characters passes and of 65 does not', () => {
    const of64 = `${'a'.repeat(31)}.${'b'.repeat(32)}`;
    expect(of64).toHaveLength(64);
    expect(hostnameFault(of64)).toBeUndefined();
    expect(hostnameFault(`${of64}c`)).toMatch(/at most 64/);
  });

  it('that is an address is allowed with a warning', () => {
    expect(hostnameWarnings('10.0.0.4').map((warning) => warning.code)).toEqual(['hostname_is_address']);
    expect(hostnameWarnings('gateway')).toEqual([]);
  });
});

describe('a device scope', () => {
  it('names its gateway, whose id may hold hyphens', () => {
    expect(gatewayIdOfScope('ms-azure-iot-edge://plant-7-gw-637176526047419634')).toBe('plant-7-gw');
  });

  it.each([undefined, '', 'plant', 'ms-azure-iot-edge://plant', 'ms-azure-iot-edge://-12'])(
    'is none as %s',
    (scope) => {
      expect(gatewayIdOfScope(scope)).toBeUndefined();
    },
  );
});

it('a text of a hub query cannot end its quotes', () => {
  expect(sqlText(`it's \\ here`)).toBe(String.raw`'it\'s \\ here'`);
});
