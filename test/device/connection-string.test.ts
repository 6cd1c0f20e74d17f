import { expect, test } from 'vitest';
import { parseConnectionString } from '../../device/src/connection-string.ts';

const base = 'HostName=hub.azure-devices.net;DeviceId=sensor-1';
const key = 'SharedAccessKey=c2VjcmV0LXNlY3JldA==';
const token = 'SharedAccessSignature sr=hub.azure-devices.net%2Fdevices%2Fsensor-1&sig=YWJj%3D&se=4102444800';

test('a key string with a gateway reads into its parts', () => {
  expect(parseConnectionString(`${base};${key};GatewayHostName=gw.example`)).toEqual({
    hub: 'hub.azure-devices.net',
    deviceId: 'sensor-1',
    moduleId: undefined,
    gateway: { host: 'gw.example', port: undefined },
    credential: { kind: 'key', sharedAccessKey: 'c2VjcmV0LXNlY3JldA==', sharedAccessKeyName: undefined },
  });
});

test('a SAS token keeps the equals signs and ampersands it consists of', () => {
  const { credential } = parseConnectionString(`${base};SharedAccessSignature=${token};GatewayHostName=gw.example`);
  expect(credential).toEqual({
    kind: 'sas',
    sharedAccessSignature: token,
    expiresAt: new Date('2100-01-01T00:00:00Z'),
  });
});

test.each([
  [
    'GatewayHost, as one page of Microsoft prints it,',
    'GatewayHost=gw.example',
    { host: 'gw.example', port: undefined },
  ],
  ['a port', 'GatewayHostName=gw.example:18883', { host: 'gw.example', port: 18883 }],
  ['both spellings that agree', 'GatewayHost=gw;GatewayHostName=gw', { host: 'gw', port: undefined }],
  ['an IP address', 'GatewayHostName=10.0.0.4', { host: '10.0.0.4', port: undefined }],
  ['capitals', 'GatewayHostName=GW.Example', { host: 'gw.example', port: undefined }],
])('%s is accepted', (_name, field, gateway) => {
  expect(parseConnectionString(`${base};${key};${field}`).gateway).toEqual(gateway);
});

test.each([
  ['no gateway, which would go straight to the hub', `${base};${key}`, /no GatewayHostName/],
  ['two gateways', `${base};${key};GatewayHost=a;GatewayHostName=b`, /different gateways/],
  ['no host', `DeviceId=a;${key};GatewayHostName=gw`, /no HostName/],
  ['no device', `HostName=a;${key};GatewayHostName=gw`, /no DeviceId/],
  ['no credential', `${base};GatewayHostName=gw`, /exactly one of/],
  ['two credentials', `${base};${key};x509=true;GatewayHostName=gw`, /exactly one of/],
  ['x509=false', `${base};x509=false;GatewayHostName=gw`, /x509 can only be true/],
  ['a module with x509', `${base};ModuleId=m;x509=true;GatewayHostName=gw`, /symmetric keys only/],
  ['a key that is no base64', `${base};SharedAccessKey=not base64!;GatewayHostName=gw`, /not base64/],
  ['a token that is none', `${base};SharedAccessSignature=abc;GatewayHostName=gw`, /not a SAS token/],
  [
    'a token without an end',
    `${base};SharedAccessSignature=SharedAccessSignature sr=a&sig=b;GatewayHostName=gw`,
    /not a SAS token/,
  ],
  ['an unknown field', `${base};${key};GatewayHostName=gw;Colour=red`, /no SDK reads/],
  ['a field twice', `${base};DeviceId=b;${key};GatewayHostName=gw`, /DeviceId twice/],
  ['a part without a value', `${base};${key};GatewayHostName=gw;oops`, /not Name=value/],
  ['a host name with a slash', `${base};${key};GatewayHostName=gw/x`, /not a host name/],
  ['a port out of range', `${base};${key};GatewayHostName=gw:70000`, /not a port/],
])('%s is refused, and the message quotes no secret', (_name, text, message) => {
  const error = caught(() => parseConnectionString(text));
  expect(error).toMatchObject({ name: 'GatepostDeviceError', code: 'document_invalid', exitCode: 12 });
  expect(String(error)).toMatch(message);
  expect(String(error)).not.toMatch(/c2VjcmV0|not base64!|YWJj/);
});

function caught(act: () => unknown): unknown {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}
