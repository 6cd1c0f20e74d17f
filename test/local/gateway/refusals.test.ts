import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import { issue, type KeyedCertificate, selfSigned } from '../../../local/kit/certificates.ts';
import { codeOf, type KeyedDevice, Site } from './site.ts';

const accepted = 0;
const notAuthorized = 5;
const authority = await selfSigned({ commonName: 'Plant root' });
const intermediate = await issue(authority, { commonName: 'Plant intermediate', ca: 0 });
let site: Site;
let gateway: Gateway;
let device: KeyedDevice;
let module: KeyedDevice;

beforeAll(async () => {
  site = await Site.open();
  gateway = await site.gateway({ id: 'line-1', trustBundle: [authority.certificate] });
  device = await site.device('press-01', gateway);
  module = await site.module('press-01', 'camera', gateway);
});
afterAll(() => site.close());

const inSeconds = (seconds: number) => Math.floor(Date.now() / 1000) + seconds;
const audienceOf = (path: string) => `${site.hub.hostname}/devices/${path}`;

describe('a device with its own key', () => {
  test('is let in, with the primary and with the secondary key', async () => {
    expect(await codeOf(gateway, site.packet(device))).toBe(accepted);
    expect(await codeOf(gateway, site.packet({ ...device, key: device.secondaryKey }))).toBe(accepted);
  });

  test('may name the gateway as the audience of its token', async () => {
    const token = makeSasToken('LOCALHOST/devices/press-01', device.key, inSeconds(60));
    expect(await codeOf(gateway, site.packet(device, { token }))).toBe(accepted);
  });

  test.each([
    ['another host', () => makeSasToken('other.azure-devices.net/devices/press-01', device.key, inSeconds(60))],
    ['another device', () => makeSasToken(audienceOf('press-02'), device.key, inSeconds(60))],
    ['the whole hub', () => makeSasToken(site.hub.hostname, device.key, inSeconds(60))],
    ['an unknown key', () => makeSasToken(audienceOf('press-01'), randomBytes(32).toString('base64'), inSeconds(60))],
    ['more than five minutes ago', () => makeSasToken(audienceOf('press-01'), device.key, inSeconds(-310))],
    ['a module of it', () => makeSasToken(audienceOf('press-01/modules/camera'), module.key, inSeconds(60))],
    ['a policy of the hub', () => policyToken('press-01')],
  ])('is refused with a token of %s', async (_what, token) => {
    expect(await codeOf(gateway, site.packet(device, { token: token() }))).toBe(notAuthorized);
  });

  test('is let in with a token that ended less than five minutes ago', async () => {
    const token = makeSasToken(audienceOf('press-01'), device.key, inSeconds(-280));
    expect(await codeOf(gateway, site.packet(device, { token }))).toBe(accepted);
  });

  test('is refused where the padding of the signature is not escaped', async () => {
    const { password = '' } = site.packet(device);
    expect(await codeOf(gateway, site.packet(device, { password: password.replace('%3D', '=') }))).toBe(notAuthorized);
  });

  test('is refused without a token', async () => {
    const { clientId, userName } = site.packet(device);
    expect(await codeOf(gateway, { clientId, userName })).toBe(notAuthorized);
  });

  function policyToken(deviceId: string): string {
    const key = /SharedAccessKey=([^;]+)/.exec(site.hub.connectionStringOf('device'))?.[1] ?? '';
    return makeSasToken(audienceOf(deviceId), key, inSeconds(60), 'device');
  }
});

describe('user name and client id', () => {
  test.each([
    ['api-version is missing', '/?DeviceClientType=x'],
    ['api-version is blank', '/?api-version=&DeviceClientType=x'],
    ['the properties are missing', ''],
  ])('are refused where %s', async (_what, properties) => {
    const userName = `${site.hub.hostname}/press-01${properties}`;
    expect(await codeOf(gateway, site.packet(device, { userName }))).toBe(notAuthorized);
  });

  test('may name any host and any version, with or without the question mark', async () => {
    for (const rest of ['?api-version=1', 'api-version=never&x', '?x=1&api-version=2']) {
      const userName = `anything.example/press-01/${rest}`;
      expect(await codeOf(gateway, site.packet(device, { userName }))).toBe(accepted);
    }
  });

  test('are refused where they differ, if only in case', async () => {
    expect(await codeOf(gateway, site.packet(device, { clientId: 'PRESS-01' }))).toBe(notAuthorized);
    expect(await codeOf(gateway, site.packet(device, { clientId: 'press-02' }))).toBe(notAuthorized);
  });
});

describe('a module', () => {
  test('is let in with its own key and with a token of its device', async () => {
    expect(await codeOf(gateway, site.packet(module))).toBe(accepted);
    const token = makeSasToken(audienceOf('press-01'), device.key, inSeconds(60));
    expect(await codeOf(gateway, site.packet(module, { token }))).toBe(accepted);
  });

  test('is refused with a token of another module', async () => {
    const other = await site.module('press-01', 'scale', gateway);
    const token = makeSasToken(audienceOf('press-01/modules/scale'), other.key, inSeconds(60));
    expect(await codeOf(gateway, site.packet(module, { token }))).toBe(notAuthorized);
  });
});

describe('a device that does not belong here', () => {
  test('is refused: unknown to the hub', async () => {
    const stranger = { ...device, deviceId: 'stranger' };
    expect(await codeOf(gateway, site.packet(stranger))).toBe(notAuthorized);
  });

  test('is refused: without a parent', async () => {
    expect(await codeOf(gateway, site.packet(await site.device('orphan')))).toBe(notAuthorized);
  });

  test('is refused: behind another gateway', async () => {
    const other = await site.gateway({ id: 'line-2' });
    const elsewhere = await site.device('press-elsewhere', other);
    expect(await codeOf(gateway, site.packet(elsewhere))).toBe(notAuthorized);
    expect(await codeOf(other, site.packet(elsewhere))).toBe(accepted);
  });

  test('is refused: disabled', async () => {
    const disabled = await site.device('press-off', gateway, { status: 'disabled' });
    expect(await codeOf(gateway, site.packet(disabled))).toBe(notAuthorized);
  });

  test('is refused: its gateway was made anew, and has another scope', async () => {
    const before = await site.gateway({ id: 'line-3' });
    const child = await site.device('press-orphaned', before);
    expect(await codeOf(before, site.packet(child))).toBe(accepted);
    await before.close();
    await site.call('DELETE', '/devices/line-3', undefined, { 'if-match': '"*"' });
    const after = await site.gateway({ id: 'line-3' });
    expect(await codeOf(after, site.packet(child))).toBe(notAuthorized);
  });
});

describe('a device with a certificate', () => {
  const usages = ['clientAuth'] as ['clientAuth'];

  function thumbprint({ certificate }: KeyedCertificate, hash: string): string {
    return createHash(hash).update(new X509Certificate(certificate).raw).digest('hex');
  }

  function presenting(deviceId: string, certificate: KeyedCertificate, chain = certificate.certificate) {
    const { clientId, userName } = site.packet({ ...device, deviceId });
    return { clientId, userName, certificate: { cert: chain, key: certificate.privateKey } };
  }

  async function selfSignedDevice(deviceId: string, hash: string): Promise<KeyedCertificate> {
    const certificate = await selfSigned({ commonName: deviceId, ca: false, usages });
    const primaryThumbprint = thumbprint(certificate, hash).toUpperCase();
    const x509Thumbprint = { primaryThumbprint, secondaryThumbprint: primaryThumbprint };
    await site.x509('selfSigned', deviceId, gateway, { x509Thumbprint });
    return certificate;
  }

  test.each(['sha1', 'sha256'])(
    'that is self-signed is let in by its %s thumbprint, and nobody else is',
    async (hash) => {
      const deviceId = `self-${hash}`;
      const certificate = await selfSignedDevice(deviceId, hash);
      expect(await codeOf(gateway, presenting(deviceId, certificate))).toBe(accepted);
      const other = await selfSigned({ commonName: deviceId, ca: false, usages });
      expect(await codeOf(gateway, presenting(deviceId, other))).toBe(notAuthorized);
    },
  );

  test('is let in where a trusted authority issued it for this device id', async () => {
    await site.x509('certificateAuthority', 'by-authority', gateway);
    const leaf = await issue(intermediate, { commonName: 'by-authority', usages });
    expect(await codeOf(gateway, presenting('by-authority', leaf, leaf.chain))).toBe(accepted);
    expect(await codeOf(gateway, presenting('by-authority', leaf))).toBe(notAuthorized);
  });

  test('is refused where the authority is not trusted or the name is another', async () => {
    await site.x509('certificateAuthority', 'by-authority-2', gateway);
    const foreign = await selfSigned({ commonName: 'Plant root' });
    const forged = await issue(foreign, { commonName: 'by-authority-2', usages });
    const chain = `${forged.certificate}${foreign.certificate}`;
    expect(await codeOf(gateway, presenting('by-authority-2', forged, chain))).toBe(notAuthorized);
    const named = await issue(intermediate, { commonName: 'somebody-else', usages });
    expect(await codeOf(gateway, presenting('by-authority-2', named, named.chain))).toBe(notAuthorized);
  });

  test('is refused with a token of a key, and a device with keys is refused with a certificate', async () => {
    const certificate = await selfSignedDevice('self-only', 'sha256');
    const withToken = site.packet({ ...device, deviceId: 'self-only' });
    expect(await codeOf(gateway, withToken)).toBe(notAuthorized);
    const { clientId, userName } = site.packet(device);
    const cert = { cert: certificate.certificate, key: certificate.privateKey };
    expect(await codeOf(gateway, { clientId, userName, certificate: cert })).toBe(notAuthorized);
  });

  test('is refused where it also sends a token that is wrong: the token counts', async () => {
    const certificate = await selfSignedDevice('self-and-token', 'sha256');
    const packet = presenting('self-and-token', certificate);
    expect(await codeOf(gateway, packet)).toBe(accepted);
    const token = makeSasToken(audienceOf('self-and-token'), device.key, inSeconds(60));
    expect(await codeOf(gateway, { ...packet, password: token })).toBe(notAuthorized);
  });

  test('is refused as a module', async () => {
    const certificate = await selfSignedDevice('self-with-module', 'sha256');
    const own = { deviceId: 'self-with-module', moduleId: 'camera' };
    await site.module(own.deviceId, own.moduleId, gateway);
    const { clientId, userName } = site.packet({ ...device, ...own });
    const cert = { cert: certificate.certificate, key: certificate.privateKey };
    expect(await codeOf(gateway, { clientId, userName, certificate: cert })).toBe(notAuthorized);
  });
});
