import { expect, test } from 'vitest';
import { containsRoot, parseDocument, parseTrustBundle, rootsPem } from '../../device/src/document.ts';
import { gatewayAddress } from '../../device/src/protocol.ts';
import { gatewayPki, onboardingDocument, trustedRoot } from './support.ts';

const pki = await gatewayPki();
const other = await gatewayPki();
const good = () => onboardingDocument({ roots: [pki.root.certificate], port: 8883 });

test('a document that agrees with itself is accepted as it is, fields of a newer backend included', () => {
  const document = { ...good(), somethingNew: 1 };
  expect(parseDocument(document)).toBe(document);
});

test('the pinned root is found by the hash of its certificate and by nothing else', () => {
  const { trust } = good();
  expect(containsRoot(trust, trustedRoot(pki.root.certificate).sha256)).toBe(true);
  expect(containsRoot(trust, trustedRoot(other.root.certificate).sha256)).toBe(false);
});

test('all roots of the bundle become one PEM text', () => {
  const { trust } = onboardingDocument({ roots: [pki.root.certificate, other.root.certificate], port: 1 });
  expect(rootsPem(trust).match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  expect(rootsPem(trust).endsWith('-----END CERTIFICATE-----\n')).toBe(true);
});

test('the MQTT port is the connection string’s, else the document’s, else 8883', () => {
  const document = good();
  document.connectionString = document.connectionString.replace(':8883', ':1234');
  document.gateway.ports = { mqtt: 5678 };
  expect(gatewayAddress(document, 'mqtt')).toEqual({ host: 'localhost', port: 1234 });
  document.connectionString = document.connectionString.replace(':1234', '');
  expect(gatewayAddress(document, 'mqtt')).toEqual({ host: 'localhost', port: 5678 });
  document.gateway.ports = { mqtt: null };
  expect(gatewayAddress(document, 'mqtt')).toEqual({ host: 'localhost', port: 8883 });
});

type Document = ReturnType<typeof good>;
test.each<[string, (document: Document) => unknown, RegExp]>([
  ['not an object', () => [], /not a JSON object/],
  ['no device', ({ device: _, ...rest }) => rest, /has no device/],
  ['no gateway', ({ gateway: _, ...rest }) => rest, /has no gateway/],
  ['no trust', ({ trust: _, ...rest }) => rest, /trust of the onboarding document is not/],
  ['an empty id', (document) => ({ ...document, device: { id: '', moduleId: null } }), /has no device.id/],
  ['an expiry that is no date', (document) => ({ ...document, expiresAt: 'soon' }), /expiresAt/],
  ['a port out of range', (d) => ({ ...d, gateway: { ...d.gateway, ports: { mqtt: 0 } } }), /gateway.ports.mqtt/],
  ['another device in the string', (d) => ({ ...d, device: { id: 'other', moduleId: null } }), /another device id/],
  ['another module in the string', (d) => ({ ...d, device: { id: 'sensor-1', moduleId: 'm' } }), /another module id/],
  ['another hub in the string', (d) => ({ ...d, hub: { hostname: 'other' } }), /another IoT Hub/],
  ['another gateway in the string', (d) => ({ ...d, gateway: { ...d.gateway, hostname: 'other' } }), /another gateway/],
  ['no roots', (d) => ({ ...d, trust: { ...d.trust, roots: [] } }), /no roots/],
  ['a negative sequence', (d) => ({ ...d, trust: { ...d.trust, sequence: -1 } }), /no sequence/],
  ['a fraction as sequence', (d) => ({ ...d, trust: { ...d.trust, sequence: 1.5 } }), /no sequence/],
])('a document with %s is refused', (_name, spoil, message) => {
  expect(() => parseDocument(spoil(good()))).toThrow(
    expect.objectContaining({ code: 'document_invalid', message: expect.stringMatching(message) }),
  );
});

test('the hub as its own gateway is refused: the client would go straight to it', () => {
  const document = onboardingDocument({ roots: [pki.root.certificate], port: 8883, host: 'hub', hub: 'hub' });
  expect(() => parseDocument(document)).toThrow(/names the IoT Hub as its own gateway/);
});

test('a root whose certificate is not the one of its fingerprint is refused', () => {
  const roots = [{ ...trustedRoot(pki.root.certificate), pem: other.root.certificate }];
  expect(() => parseTrustBundle({ sequence: 1, refreshHintSeconds: 1, roots })).toThrow(
    expect.objectContaining({
      code: 'bundle_invalid',
      message: expect.stringMatching(/does not have the fingerprint/),
    }),
  );
});

test('a second certificate hidden behind a root is refused', () => {
  const root = trustedRoot(pki.root.certificate);
  const roots = [{ ...root, pem: `${root.pem}\n${other.root.certificate}` }];
  expect(() => parseTrustBundle({ sequence: 1, roots })).toThrow(/exactly one certificate/);
});

test.each([
  ['an intermediate', pki.edgeCa.certificate],
  ['a server certificate', pki.server.certificate],
])('%s in place of a root is refused before it can fail on the first connection', (_name, pem) => {
  expect(() => parseTrustBundle({ sequence: 1, roots: [trustedRoot(pem)] })).toThrow(
    expect.objectContaining({ code: 'root_not_anchor', exitCode: 5 }),
  );
});
