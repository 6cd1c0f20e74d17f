import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import { parseConnectionString } from '../../../lib/credentials/connection-string.ts';
import {
  type CredentialSubject,
  credentialRequestSchema,
  issueCredential,
  issueSasToken,
} from '../../../lib/credentials/issue.ts';
import { signSasToken } from '../../../lib/credentials/sas-token.ts';
import { Redacted } from '../../../lib/redacted.ts';

const now = new Date('2026-11-22T08:00:00.400Z');
const [primary, secondary] = ['one', 'two'].map((text) => Buffer.from(text.padEnd(32, '.')).toString('base64'));
const subject: CredentialSubject = {
  hubHostname: 'hub.azure-devices.net',
  deviceId: 'press:4',
  moduleId: null,
  authentication: { type: 'sas', primaryKey: new Redacted(primary ?? ''), secondaryKey: new Redacted(secondary ?? '') },
  gateway: {
    id: 'gw-1',
    scope: 'ms-azure-iot-edge://gw-1-1',
    status: 'enabled',
    hostname: 'gw.example.com',
    maxDevices: 100,
    ports: { mqtt: 8883, amqp: 5671, websocket: 443 },
  },
};

describe('a connection string', () => {
  it('carries the key that is asked for, the primary by default', () => {
    const of = (key?: 'primary' | 'secondary') =>
      parseConnectionString(issueCredential(subject, { credential: 'key', key }, now).connectionString).credential;
    expect(of()).toEqual({ sharedAccessKey: primary });
    expect(of('primary')).toEqual({ sharedAccessKey: primary });
    expect(of('secondary')).toEqual({ sharedAccessKey: secondary });
  });

  it('names the gateway by its host name alone on the usual port, and with its port otherwise', () => {
    const gatewayOf = (mqtt: number | null) => {
      const gateway = { ...subject.gateway, ports: { ...subject.gateway.ports, mqtt } };
      const { connectionString } = issueCredential({ ...subject, gateway }, { credential: 'key' }, now);
      return parseConnectionString(connectionString).gatewayHostName;
    };
    expect(gatewayOf(8883)).toBe('gw.example.com');
    expect(gatewayOf(18883)).toBe('gw.example.com:18883');
    expect(gatewayOf(null)).toBe('gw.example.com');
  });

  it('says when its SAS token expires, and null for a key', () => {
    const sas = issueCredential(subject, { credential: 'sas', ttlSeconds: 60 }, now);
    expect(sas.expiresAt).toBe('2026-11-22T08:01:00.000Z');
    expect(sas.connectionString).toContain(`&se=${Date.parse('2026-11-22T08:01:00Z') / 1000};GatewayHostName=`);
    expect(issueCredential(subject, { credential: 'key' }, now).expiresAt).toBeNull();
  });

  it('of a device with certificates says so and holds no secret', () => {
    const x509: CredentialSubject = { ...subject, authentication: { type: 'certificateAuthority' } };
    expect(issueCredential(x509, { credential: 'x509' }, now)).toEqual({
      connectionString: 'HostName=hub.azure-devices.net;DeviceId=press:4;x509=true;GatewayHostName=gw.example.com',
      expiresAt: null,
    });
  });

  it.each([
    [{ type: 'certificateAuthority' } as const, 'key'],
    [{ type: 'certificateAuthority' } as const, 'sas'],
    [{ type: 'selfSigned', primaryThumbprint: 'ab', secondaryThumbprint: undefined } as const, 'key'],
    [{ type: 'none' } as const, 'key'],
    [{ type: 'none' } as const, 'x509'],
    [subject.authentication, 'x509'],
  ] as const)('is refused where %j cannot have the credential %s', (authentication, credential) => {
    expect(() => issueCredential({ ...subject, authentication }, { credential }, now)).toThrow(/^credential_mismatch/);
  });
});

describe('a SAS token', () => {
  it('is the same as the device SDK signs', () => {
    const { SharedAccessSignature } = createRequire(import.meta.url)('azure-iot-common');
    const expiry = 1_800_000_000;
    for (const moduleId of [undefined, 'meter']) {
      const resource = ['hub.azure-devices.net/devices/press:4', ...(moduleId ? [`modules/${moduleId}`] : [])].join(
        '/',
      );
      const theirs = SharedAccessSignature.create(encodeURIComponent(resource), undefined, primary, expiry).toString();
      const options = { hubHostname: 'hub.azure-devices.net', deviceId: 'press:4', expiry };
      const ours = signSasToken({ ...options, key: new Redacted(primary ?? ''), ...(moduleId ? { moduleId } : {}) });
      expect(ours).toBe(theirs);
    }
  });

  it('lives an hour by default', () => {
    expect(issueSasToken(subject, {}, now).expiresAt).toBe('2026-11-22T09:00:00.000Z');
  });
});

describe('the body that asks for a credential', () => {
  it.each([
    { credential: 'key' },
    { credential: 'key', key: 'secondary' },
    { credential: 'sas', ttlSeconds: 60 },
    { credential: 'sas', ttlSeconds: 2_592_000, key: 'primary' },
    { credential: 'x509' },
  ])('may be %j', (body) => {
    expect(credentialRequestSchema.safeParse(body).success).toBe(true);
  });

  it.each([
    {},
    { credential: 'password' },
    { credential: 'sas', ttlSeconds: 59 },
    { credential: 'sas', ttlSeconds: 2_592_001 },
    { credential: 'sas', ttlSeconds: 60.5 },
    { credential: 'sas', ttlSeconds: '60' },
    { credential: 'key', ttlSeconds: 60 },
    { credential: 'x509', key: 'primary' },
    { credential: 'key', key: 'tertiary' },
    { credential: 'key', colour: 'red' },
  ])('is refused as %j', (body) => {
    expect(credentialRequestSchema.safeParse(body).success).toBe(false);
  });
});
