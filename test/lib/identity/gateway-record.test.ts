import { describe, expect, it } from 'vitest';
import { gatewaySettings, settingsTag } from '../../../lib/identity/gateway-record.ts';
import { gatewayInputSchema } from '../../../lib/identity/gateways.ts';

describe('the settings of a gateway in its twin tags', () => {
  it('come back as they were written, a port that is not served too', () => {
    const settings = { hostname: 'gw', maxDevices: 7, ports: { mqtt: 18883, amqp: null, websocket: null } };
    const written = settingsTag(settings);
    // A twin keeps no null: RFC 7396.
    const kept = JSON.parse(JSON.stringify(written), (_name, value) => (value === null ? undefined : value));
    expect(gatewaySettings(kept)).toEqual(settings);
  });

  it('have defaults where only a host name was written by hand', () => {
    expect(gatewaySettings({ gatepost: { hostname: 'gw' } })).toEqual({
      hostname: 'gw',
      maxDevices: 100,
      ports: { mqtt: 8883, amqp: 5671, websocket: 443 },
    });
  });

  it.each([{}, { gatepost: 'gw' }, { gatepost: { hostname: 'Gate_Way' } }, { gatepost: { maxDevices: 3 } }])(
    'are none as %j',
    (tags) => {
      expect(gatewaySettings(tags)).toBeUndefined();
    },
  );
});

describe('the body of a gateway', () => {
  it.each([
    {},
    { hostname: 'gw', maxDevices: 0 },
    { hostname: 'gw', maxDevices: 1.5 },
    { hostname: 'gw', ports: { mqtt: 0 } },
    { hostname: 'gw', ports: { mqtt: 65_536 } },
    { hostname: 'gw', ports: { mqtts: 8883 } },
    { hostname: 'gw', parent: 'a b' },
    { hostname: 'gw', colour: 'red' },
    { hostname: 'Gw' },
  ])('is refused as %j', (body) => {
    expect(gatewayInputSchema.safeParse(body).success).toBe(false);
  });
});
