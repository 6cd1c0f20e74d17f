import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { isSignedBy, makeSasToken, parseSasToken } from '../../../local/gateway/sas-token.ts';
import type { ScopedIdentity } from '../../../local/gateway/scope-client.ts';
import { refuseToken } from '../../../local/gateway/token-rules.ts';
import type { Identity } from '../../../local/mqtt/identity.ts';

const hosts = { hub: 'hub.azure-devices.net', gateway: 'edge.plant.local' };
const now = Date.UTC(2026, 0, 1);
const inAnHour = now / 1000 + 3600;
const primaryKey = randomBytes(32).toString('base64');
const secondaryKey = randomBytes(32).toString('base64');
const device: Identity = { deviceId: 'press-01', moduleId: null };
const module: Identity = { deviceId: 'press-01', moduleId: 'camera' };
const scoped: ScopedIdentity = {
  deviceId: 'press-01',
  status: 'enabled',
  authentication: { type: 'sas', symmetricKey: { primaryKey, secondaryKey } },
};

function judge(
  token: string,
  { identity = device, record = scoped, at = now }: { identity?: Identity; record?: ScopedIdentity; at?: number } = {},
): string | undefined {
  const parsed = parseSasToken(token);
  return parsed === undefined ? 'unreadable' : refuseToken(parsed, record, identity, hosts, at);
}

/** A key whose signature for `audience` holds every character that needs escaping. */
function keyWithAwkwardSignature(audience: string): string {
  for (;;) {
    const key = randomBytes(32).toString('base64');
    const signature = parseSasToken(makeSasToken(audience, key, inAnHour))?.signature ?? '';
    if (signature.includes('+') && signature.includes('/')) return key;
  }
}

describe('a SAS token', () => {
  test.each([primaryKey, secondaryKey])('of either key of the device is good', (key) => {
    expect(judge(makeSasToken('hub.azure-devices.net/devices/press-01', key, inAnHour))).toBeUndefined();
  });

  test('may name the gateway in place of the hub, and host and ids in any case', () => {
    expect(judge(makeSasToken('edge.plant.local/devices/press-01', primaryKey, inAnHour))).toBeUndefined();
    expect(judge(makeSasToken('HUB.azure-devices.NET/devices/PRESS-01', primaryKey, inAnHour))).toBeUndefined();
  });

  test('for another host is refused', () => {
    expect(judge(makeSasToken('other.azure-devices.net/devices/press-01', primaryKey, inAnHour))).toMatch(/host/);
  });

  test('of another device is refused', () => {
    expect(judge(makeSasToken('hub.azure-devices.net/devices/press-02', primaryKey, inAnHour))).toMatch(
      /another device/,
    );
  });

  test('of a policy of the hub is refused, for it is not signed with a key of the device', () => {
    const policyKey = randomBytes(32).toString('base64');
    const token = makeSasToken('hub.azure-devices.net/devices/press-01', policyKey, inAnHour, 'device');
    expect(judge(token)).toMatch(/neither the primary nor the secondary/);
  });

  test('for the whole hub is refused', () => {
    expect(judge(makeSasToken('hub.azure-devices.net', primaryKey, inAnHour))).toMatch(/neither a device nor a module/);
  });

  test('is good for five minutes more than it says, and then no longer', () => {
    const token = makeSasToken('hub.azure-devices.net/devices/press-01', primaryKey, now / 1000);
    expect(judge(token, { at: now + 299_000 })).toBeUndefined();
    expect(judge(token, { at: now + 301_000 })).toMatch(/expired/);
  });

  test('of a device that is disabled is refused', () => {
    const token = makeSasToken('hub.azure-devices.net/devices/press-01', primaryKey, inAnHour);
    expect(judge(token, { record: { ...scoped, status: 'disabled' } })).toMatch(/disabled/);
  });

  test.each(['selfSigned', 'certificateAuthority'] as const)('of a device that uses %s is refused', (type) => {
    const token = makeSasToken('hub.azure-devices.net/devices/press-01', primaryKey, inAnHour);
    const record = { ...scoped, authentication: { ...scoped.authentication, type } };
    expect(judge(token, { record })).toMatch(/not by a symmetric key/);
  });

  test('of the device is good for its module; one of a module is not good for the device or another module', () => {
    const ofDevice = makeSasToken('hub.azure-devices.net/devices/press-01', primaryKey, inAnHour);
    const ofModule = makeSasToken('hub.azure-devices.net/devices/press-01/modules/camera', primaryKey, inAnHour);
    expect(judge(ofDevice, { identity: module })).toBeUndefined();
    expect(judge(ofModule, { identity: module })).toBeUndefined();
    expect(judge(ofModule)).toMatch(/another module/);
    expect(judge(ofModule, { identity: { ...module, moduleId: 'scale' } })).toMatch(/another module/);
  });
});

describe('how a token is read', () => {
  const audience = 'hub.azure-devices.net/devices/press-01';

  test('the signature covers the audience as it was sent, however it is escaped', () => {
    const lower = makeSasToken(audience, primaryKey, inAnHour).replace('%2F', '%2f');
    expect(isSignedBy(parseSasToken(lower) ?? failed(), primaryKey)).toBe(false);
    const plain = {
      ...(parseSasToken(makeSasToken(audience, primaryKey, inAnHour)) ?? failed()),
      rawAudience: audience,
    };
    expect(isSignedBy(plain, primaryKey)).toBe(false);
  });

  test('padding that is not written %3D is lost, because fields are split at every equals sign', () => {
    const token = makeSasToken(audience, primaryKey, inAnHour);
    expect(judge(token)).toBeUndefined();
    expect(judge(token.replace('%3D', '='))).toMatch(/neither the primary nor the secondary/);
  });

  test('a plus sign that is not written %2B becomes a space', () => {
    const key = keyWithAwkwardSignature(audience);
    const record = { ...scoped, authentication: { type: 'sas' as const, symmetricKey: { primaryKey: key } } };
    const token = makeSasToken(audience, key, inAnHour);
    expect(judge(token, { record })).toBeUndefined();
    expect(judge(token.replaceAll('%2B', '+'), { record })).toMatch(/neither the primary nor the secondary/);
  });

  test('names of fields may have any case, the scheme may not', () => {
    const token = makeSasToken(audience, primaryKey, inAnHour);
    expect(judge(token.replace('sr=', 'SR=').replace('&se=', '&Se='))).toBeUndefined();
    expect(judge(token.replace('SharedAccessSignature', 'sharedaccesssignature'))).toBe('unreadable');
  });

  test.each(['sr', 'sig', 'se'])('without %s it is none', (field) => {
    const token = makeSasToken(audience, primaryKey, inAnHour).replace(`${field}=`, 'x=');
    expect(judge(token)).toBe('unreadable');
  });

  test.each(['', 'SharedAccessSignature', 'Bearer abc', 'SharedAccessSignature sr=a&sig=b&se=1 more'])(
    'what is no token is none: %j',
    (text) => expect(judge(text)).toBe('unreadable'),
  );
});

function failed(): never {
  throw new Error('the token does not read as one');
}
