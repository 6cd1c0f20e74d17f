import { createHmac, randomBytes } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { type DeviceTokens, deviceTokens } from '../../../lib/http/device-token.ts';
import { Redacted } from '../../../lib/redacted.ts';
import { createLog } from '../../../lib/telemetry.ts';

const hub = 'gatepost.azure-devices.net';
const log = createLog(() => {});
let now: number;
let reads: string[];
let registry: Map<string, string[]>;
let verify: DeviceTokens;

beforeEach(() => {
  now = Date.parse('2026-11-22T12:00:00Z');
  reads = [];
  registry = new Map();
  verify = deviceTokens({
    hubHostname: hub,
    clock: () => new Date(now),
    deviceKeys: async (deviceId, moduleId) => {
      const id = moduleId === null ? deviceId : `${deviceId}/${moduleId}`;
      reads.push(id);
      await setImmediate();
      return registry.get(id)?.map((key) => new Redacted(key));
    },
  });
});

function newIdentity(id: string): { primary: string; secondary: string } {
  const [primary, secondary] = [randomBytes(32).toString('base64'), randomBytes(32).toString('base64')];
  registry.set(id, [primary, secondary]);
  return { primary, secondary };
}

function sign(resource: string, key: string, seconds = 3600, encoded = true): string {
  const sr = encoded ? encodeURIComponent(resource) : resource;
  const se = Math.floor(now / 1000) + seconds;
  const sig = createHmac('sha256', Buffer.from(key, 'base64')).update(`${sr}\n${se}`).digest('base64');
  return `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(sig)}&se=${se}`;
}

function caller(authorization: string | undefined, params: Record<string, string>, modules?: boolean) {
  const headers = new Headers(authorization === undefined ? {} : { authorization });
  return verify({ headers, params, log }, modules);
}

const refused = { code: 'device_token_invalid', status: 401 };

describe('a SAS token', () => {
  it('proves the device of the path, signed with either of its keys', async () => {
    const { primary, secondary } = newIdentity('leaf-1');
    for (const key of [primary, secondary]) {
      expect(await caller(sign(`${hub}/devices/leaf-1`, key), { deviceId: 'leaf-1' })).toEqual({
        plane: 'device',
        deviceId: 'leaf-1',
        moduleId: null,
      });
    }
  });

  it('is taken with its resource raw or percent-encoded, fields in any order, the host in capitals', async () => {
    const { primary } = newIdentity('leaf-1');
    const raw = sign(`${hub.toUpperCase()}/devices/leaf-1`, primary, 60, false);
    const [, text = ''] = raw.split(' ');
    const turned = `SharedAccessSignature ${text.split('&').reverse().join('&')}`;
    await expect(caller(turned, { deviceId: 'leaf-1' })).resolves.toMatchObject({ deviceId: 'leaf-1' });
  });

  it('is refused where it is missing or no SAS token', async () => {
    for (const text of [
      undefined,
      '',
      'Bearer abc',
      'SharedAccessSignature',
      'SharedAccessSignature sr=a&sig=b&se=c',
    ]) {
      await expect(caller(text, { deviceId: 'leaf-1' })).rejects.toMatchObject(refused);
    }
    expect(reads).toEqual([]);
  });

  it('is refused with a foreign key, a foreign device, a foreign hub, or a policy', async () => {
    const { primary } = newIdentity('leaf-1');
    newIdentity('leaf-2');
    const foreign = randomBytes(32).toString('base64');
    const tokens = [
      sign(`${hub}/devices/leaf-1`, foreign),
      sign(`${hub}/devices/leaf-2`, primary),
      sign('other.azure-devices.net/devices/leaf-1', primary),
      sign(`${hub}/devices`, primary),
      sign(`${hub}/devices/leaf-1/`, primary),
      `${sign(`${hub}/devices/leaf-1`, primary)}&skn=iothubowner`,
    ];
    for (const token of tokens) await expect(caller(token, { deviceId: 'leaf-1' })).rejects.toMatchObject(refused);
  });

  it('is refused for a device that is unknown or disabled', async () => {
    const { primary } = newIdentity('leaf-1');
    registry.delete('leaf-1');
    await expect(caller(sign(`${hub}/devices/leaf-1`, primary), { deviceId: 'leaf-1' })).rejects.toMatchObject(refused);
  });

  it('may have expired up to five minutes ago, since clocks of devices are wrong', async () => {
    const { primary } = newIdentity('leaf-1');
    const token = (seconds: number) => caller(sign(`${hub}/devices/leaf-1`, primary, seconds), { deviceId: 'leaf-1' });
    await expect(token(-299)).resolves.toMatchObject({ deviceId: 'leaf-1' });
    await expect(token(-302)).rejects.toMatchObject({ ...refused, detail: expect.stringContaining('expired') });
  });

  it('of a module proves that module, and the device route only where the route says so', async () => {
    const { primary } = newIdentity('leaf-1/reader');
    newIdentity('leaf-1');
    const token = sign(`${hub}/devices/leaf-1/modules/reader`, primary);
    const module = { plane: 'device', deviceId: 'leaf-1', moduleId: 'reader' };
    expect(await caller(token, { deviceId: 'leaf-1', moduleId: 'reader' })).toEqual(module);
    expect(await caller(token, { deviceId: 'leaf-1' }, true)).toEqual(module);
    await expect(caller(token, { deviceId: 'leaf-1' })).rejects.toMatchObject(refused);
    await expect(caller(token, { deviceId: 'leaf-1', moduleId: 'writer' })).rejects.toMatchObject(refused);
  });

  it("of the device is not its module's", async () => {
    const { primary } = newIdentity('leaf-1');
    const token = sign(`${hub}/devices/leaf-1`, primary);
    await expect(caller(token, { deviceId: 'leaf-1', moduleId: 'reader' })).rejects.toMatchObject(refused);
  });
});

describe('the keys of a device', () => {
  it('are read once a minute, however many tokens are verified', async () => {
    const { primary } = newIdentity('leaf-1');
    const token = sign(`${hub}/devices/leaf-1`, primary);
    for (let count = 0; count < 5; count += 1) await caller(token, { deviceId: 'leaf-1' });
    expect(reads).toHaveLength(1);
    now += 61_000;
    await caller(token, { deviceId: 'leaf-1' });
    expect(reads).toHaveLength(2);
  });

  it('are read again for a token that does not fit, so that a rolled key works soon', async () => {
    const { primary } = newIdentity('leaf-1');
    await caller(sign(`${hub}/devices/leaf-1`, primary), { deviceId: 'leaf-1' });
    const rolled = newIdentity('leaf-1').primary;
    const token = sign(`${hub}/devices/leaf-1`, rolled);
    await expect(caller(token, { deviceId: 'leaf-1' })).rejects.toMatchObject(refused);
    expect(reads).toHaveLength(1);
    now += 11_000;
    await expect(caller(token, { deviceId: 'leaf-1' })).resolves.toMatchObject({ deviceId: 'leaf-1' });
    expect(reads).toHaveLength(2);
  });

  it('are looked for again after ten seconds where there were none', async () => {
    const key = randomBytes(32).toString('base64');
    const token = () => caller(sign(`${hub}/devices/leaf-1`, key), { deviceId: 'leaf-1' });
    await expect(token()).rejects.toMatchObject(refused);
    await expect(token()).rejects.toMatchObject(refused);
    expect(reads).toHaveLength(1);
    registry.set('leaf-1', [key]);
    now += 10_000;
    await expect(token()).resolves.toMatchObject({ deviceId: 'leaf-1' });
  });

  it('are not read without end for tokens of invented devices, while known devices are served', async () => {
    const { primary } = newIdentity('leaf-1');
    const known = () => caller(sign(`${hub}/devices/leaf-1`, primary), { deviceId: 'leaf-1' });
    await known();
    const invent = (count: number) => caller(sign(`${hub}/devices/x-${count}`, primary), { deviceId: `x-${count}` });
    for (let count = 0; count < 30; count += 1) await expect(invent(count)).rejects.toMatchObject(refused);
    await expect(invent(30)).rejects.toMatchObject({ code: 'upstream_throttled', retryAfterSeconds: 60 });
    expect(reads).toHaveLength(31);
    now += 59_000;
    await expect(invent(31)).rejects.toMatchObject({ code: 'upstream_throttled', retryAfterSeconds: 1 });
    now += 2_000;
    await expect(known()).resolves.toMatchObject({ deviceId: 'leaf-1' });
    await expect(invent(32)).rejects.toMatchObject(refused);
  });

  it('are not read without end either where the invented devices come all at once', async () => {
    const { primary } = newIdentity('leaf-1');
    const attempts = Array.from({ length: 300 }, (_, count) =>
      caller(sign(`${hub}/devices/x-${count}`, primary), { deviceId: `x-${count}` }),
    );
    const outcomes = await Promise.allSettled(attempts);
    expect(outcomes.every((outcome) => outcome.status === 'rejected')).toBe(true);
    expect(reads.length).toBeLessThan(40);
  });

  it('are read once for a device that calls many times at once', async () => {
    const { primary } = newIdentity('leaf-1');
    const token = sign(`${hub}/devices/leaf-1`, primary);
    await Promise.all(Array.from({ length: 50 }, () => caller(token, { deviceId: 'leaf-1' })));
    expect(reads).toHaveLength(1);
  });

  it('are read for as many devices as come at once, when their tokens are good', async () => {
    const tokens = Array.from({ length: 200 }, (_, count) => {
      const deviceId = `leaf-${count}`;
      return { deviceId, token: sign(`${hub}/devices/${deviceId}`, newIdentity(deviceId).primary) };
    });
    await Promise.all(tokens.map(({ deviceId, token }) => caller(token, { deviceId })));
    expect(reads).toHaveLength(200);
  });
});
