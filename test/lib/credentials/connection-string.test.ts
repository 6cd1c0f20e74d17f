import { createRequire } from 'node:module';
import { describe, expect, it } from 'vitest';
import {
  formatConnectionString,
  InvalidConnectionStringError,
  parseConnectionString,
} from '../../../lib/credentials/connection-string.ts';

const key = 'c2VjcmV0LXNlY3JldC1zZWNyZXQ=';
const identity = { hostName: 'hub.azure-devices.net', deviceId: 'press-4' };

describe('a connection string', () => {
  it('is the long form in the order hub, device, module, credential, gateway', () => {
    const text = formatConnectionString({
      ...identity,
      moduleId: 'meter',
      credential: { sharedAccessKey: key },
      gatewayHostName: 'gw:18883',
    });
    expect(text).toBe(
      `HostName=hub.azure-devices.net;DeviceId=press-4;ModuleId=meter;SharedAccessKey=${key};GatewayHostName=gw:18883`,
    );
  });

  it.each([
    { sharedAccessKey: key },
    { sharedAccessSignature: 'SharedAccessSignature sr=hub%2Fdevices%2Fpress-4&sig=a%3D&se=1' },
    { x509: true as const },
  ])('is read back as it was written with %j', (credential) => {
    const parts = { ...identity, credential, gatewayHostName: 'gw' };
    expect(parseConnectionString(formatConnectionString(parts))).toEqual(parts);
  });

  it('is read by the parser of the device SDK', () => {
    const { ConnectionString } = createRequire(import.meta.url)('azure-iot-common');
    const read = ConnectionString.parse(
      formatConnectionString({ ...identity, credential: { sharedAccessKey: key }, gatewayHostName: 'gw' }),
    );
    expect({ ...read }).toMatchObject({
      HostName: 'hub.azure-devices.net',
      DeviceId: 'press-4',
      SharedAccessKey: key,
      GatewayHostName: 'gw',
    });
  });

  it('may name its gateway GatewayHost, as one page of Microsoft has it', () => {
    const read = parseConnectionString(`HostName=hub;DeviceId=d;SharedAccessKey=${key};GatewayHost=gw`);
    expect(read.gatewayHostName).toBe('gw');
  });

  it.each([
    'HostName=hub;DeviceId=d',
    `HostName=hub;SharedAccessKey=${key}`,
    `DeviceId=d;SharedAccessKey=${key}`,
    `HostName=hub;DeviceId=d;SharedAccessKey=${key};x509=true`,
    `HostName=hub;DeviceId=d;DeviceId=e;SharedAccessKey=${key}`,
    `HostName=hub;DeviceId=d;SharedAccessKey=${key};Gateway=gw`,
    'nonsense',
    '',
  ])('is refused as %j, and the refusal quotes no key', (text) => {
    let thrown: unknown;
    try {
      parseConnectionString(text);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(InvalidConnectionStringError);
    expect(String(thrown)).not.toContain(key);
  });
});
