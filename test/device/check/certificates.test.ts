import { X509Certificate } from 'node:crypto';
import { createServer } from 'node:tls';
import type { KeyUsageFlags } from '@peculiar/x509';
import { expect, onTestFinished, test } from 'vitest';
import { checkGateway } from '../../../device/src/check/check.ts';
import type { CertificateFault } from '../../../local/gateway/bad-certificates.ts';
import { issue, type KeyedCertificate, selfSigned } from '../../../local/kit/certificates.ts';
import { Clinic, codesOf, faultsOf, listen, skippedBy } from './patient.ts';

const clinic = await Clinic.open();
const day = 86_400_000;
const digitalSignature: KeyUsageFlags = 1;
const inDays = (days: number) => new Date(Date.now() + days * day);
const expired = { notBefore: inDays(-40), notAfter: inDays(-2) };

/** The causes of what is worse than a remark. */
async function examine(fault: CertificateFault) {
  const patient = await clinic.patient();
  await clinic.serve(fault);
  const report = await patient.check();
  const findings = report.checks.flatMap((check) => check.findings);
  const causeOf = (code: string) => findings.find((finding) => finding.code === code)?.cause ?? '';
  return { report, patient, causeOf, details: findings.flatMap((finding) => finding.details) };
}

test.each<[string, CertificateFault, string[]]>([
  ['another root', { root: 'another' }, ['root_unknown']],
  ['another root that is sent along', { root: 'another', sends: 'with root' }, ['root_unknown']],
  ['a new root under the old name', { root: 'namesake' }, ['root_name_reused']],
  ['a new root under the old name that is sent along', { root: 'namesake', sends: 'with root' }, ['root_name_reused']],
  ['an Edge CA that is not sent', { sends: 'server only' }, ['chain_incomplete']],
  ['the chain of another Edge CA', { sends: 'foreign chain' }, ['chain_incomplete']],
  ['a certificate that the server signed itself', { selfSigned: true }, ['gateway_self_signed']],
  ['another name', { server: { names: ['gw-2.example.net'] } }, ['name_mismatch']],
  ['a name in the common name only', { server: { names: [] } }, ['name_only_in_common_name']],
  ['a server certificate that has expired', { server: expired }, ['certificate_expired']],
  ['an Edge CA that has expired', { edgeCa: expired }, ['certificate_expired']],
  ['a server certificate that has not begun', { server: { notBefore: inDays(1) } }, ['certificate_not_yet_valid']],
  ['an Edge CA that ends in three days', { edgeCa: { notAfter: inDays(3) } }, ['certificate_ends_in_7_days']],
  [
    'an Edge CA of a year that ends in three weeks',
    { edgeCa: { notBefore: inDays(-344), notAfter: inDays(21) } },
    ['certificate_ends_in_30_days'],
  ],
  [
    'an Edge CA of a year that ends in 60 days',
    { edgeCa: { notBefore: inDays(-305), notAfter: inDays(60) } },
    ['certificate_past_80_percent'],
  ],
  [
    'an Edge CA of a month that ends in eight days',
    { edgeCa: { notBefore: inDays(-50), notAfter: inDays(8) } },
    ['certificate_past_80_percent'],
  ],
  ['an Edge CA that is no CA', { edgeCa: { ca: false } }, ['edge_ca_not_ca']],
  ['an Edge CA that may not sign', { edgeCa: { keyUsages: digitalSignature } }, ['edge_ca_cannot_sign']],
  ['an Edge CA named as the host', { edgeCa: { commonName: 'localhost' } }, ['edge_ca_named_as_host']],
  [
    'an Edge CA named as the host, without key ids',
    { edgeCa: { commonName: 'localhost', keyIdentifiers: false }, server: { keyIdentifiers: false } },
    ['edge_ca_loop', 'edge_ca_no_key_ids'],
  ],
  ['an Edge CA without a key id', { edgeCa: { keyIdentifiers: false } }, ['edge_ca_no_key_ids']],
  [
    'a server certificate without the key id of its issuer',
    { server: { keyIdentifiers: false } },
    ['edge_ca_no_key_ids'],
  ],
  ['a server certificate that is for clients only', { server: { usages: ['clientAuth'] } }, ['chain_refused']],
  ['the certificate of an IoT Hub', { server: { names: ['*.azure-devices.net', 'localhost'] } }, ['peer_is_hub']],
])('%s is found as what it is, and nothing else is blamed', async (_name, fault, codes) => {
  const { report } = await examine(fault);
  expect(faultsOf(report)).toEqual(codes);
  const errors = codesOf(report, 'error');
  for (const because of Object.values(skippedBy(report))) expect(errors).toContain(because);
  // What is only a warning does not stop the device from being let in.
  if (errors.length === 0) expect(codesOf(report, 'ok')).toContain('connect_ok');
  else expect(skippedBy(report)).toHaveProperty('connect');
});

test.each<[string, CertificateFault, string[]]>([
  [
    'another root and another name',
    { root: 'another', server: { names: ['gw-2.example.net'] } },
    ['root_unknown', 'name_mismatch'],
  ],
  [
    'no chain and an expired server certificate',
    { sends: 'server only', server: expired },
    ['chain_incomplete', 'certificate_expired'],
  ],
  [
    'a root of the same name and an Edge CA that is no CA',
    { root: 'namesake', edgeCa: { ca: false } },
    ['root_name_reused', 'edge_ca_not_ca'],
  ],
  [
    'an expired server certificate and an expired Edge CA',
    { server: expired, edgeCa: expired },
    ['certificate_expired', 'certificate_expired'],
  ],
  [
    'an Edge CA named as the host that ends soon',
    { edgeCa: { commonName: 'localhost', notAfter: inDays(3) } },
    ['certificate_ends_in_7_days', 'edge_ca_named_as_host'],
  ],
  [
    'a self-signed certificate of another name that has expired',
    { selfSigned: true, server: { names: ['router'], ...expired } },
    ['gateway_self_signed', 'name_mismatch', 'certificate_expired'],
  ],
  [
    'an expired certificate that is for clients only',
    { server: { usages: ['clientAuth'], ...expired } },
    ['certificate_expired'],
  ],
])('two faults: %s', async (_name, fault, codes) => {
  const { report } = await examine(fault);
  expect(faultsOf(report)).toEqual(codes);
  expect(report.firstCause).toBe(codesOf(report, 'error')[0] ?? null);
});

test('a server certificate in its last week is a remark: edgeHub fetches another by itself', async () => {
  const { report } = await examine({ server: { notBefore: inDays(-27), notAfter: inDays(3) } });
  expect(faultsOf(report)).toEqual([]);
  expect(codesOf(report, 'info')).toContain('server_certificate_ending');
});

test('a server certificate that was made by hand for a year is warned of as any other', async () => {
  const { report } = await examine({ server: { notBefore: inDays(-340), notAfter: inDays(25) } });
  expect(faultsOf(report)).toEqual(['certificate_ends_in_30_days']);
});

test('what the gateway really sent is listed, what belongs to no chain included', async () => {
  const { report, details } = await examine({ sends: 'foreign chain' });
  expect(report.certificates.map(({ subject, issuer }) => [subject, issuer])).toEqual([
    ['CN=localhost', 'CN=aziot-edge CA gateway-1'],
    ['CN=Edge CA of long ago', 'CN=Gatepost local root of gateway-1'],
  ]);
  expect(details).toContain('sent along, and not its issuer: "CN=Edge CA of long ago"');
  const { report: withRoot } = await examine({ sends: 'with root' });
  expect(faultsOf(withRoot)).toEqual([]);
  const root = new X509Certificate(clinic.gateway.root);
  expect(withRoot.certificates.at(-1)).toEqual({
    subject: 'CN=Gatepost local root of gateway-1',
    issuer: 'CN=Gatepost local root of gateway-1',
    notBefore: root.validFromDate.toISOString(),
    notAfter: root.validToDate.toISOString(),
    sha256: root.fingerprint256.replaceAll(':', '').toLowerCase(),
  });
});

test('the wrong name is told beside the right one', async () => {
  const { causeOf } = await examine({ server: { names: ['gw-2.example.net', 'edgeHub'] } });
  expect(causeOf('name_mismatch')).toBe(
    'The certificate of the gateway is for gw-2.example.net, edgeHub, not for localhost.',
  );
});

test('a root that the API hands out by now and that is not here yet is told as that', async () => {
  const root = await selfSigned({ commonName: 'Root of next year' });
  const edgeCa = await issue(root, { commonName: 'Edge CA', ca: 0 });
  const server = await issue(edgeCa, { commonName: 'localhost', names: ['localhost'] });
  const port = await serve(server);
  const patient = await clinic.patient();
  patient.document.gateway.ports = { mqtt: port, amqp: null, websocket: null };
  patient.document.connectionString = patient.document.connectionString.replace(/:\d+$/, `:${port}`);
  await patient.store();
  expect(faultsOf(await patient.check())).toEqual(['root_unknown']);
  patient.api.roots.push(root.certificate);
  patient.api.sequence = 8;
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(['root_not_installed']);
  expect(
    report.checks.flatMap(({ findings }) => findings).find(({ code }) => code === 'root_not_installed')?.cause,
  ).toMatch(/"CN=Root of next year", which is in the trust bundle of .* \(sequence 8\) and not on this device/);
});

test('an intermediate in place of the root is named as what it is', async () => {
  const root = await selfSigned({ commonName: 'Root' });
  const intermediate = await issue(root, { commonName: 'Intermediate', ca: 1 });
  const edgeCa = await issue(intermediate, { commonName: 'Edge CA', ca: 0 });
  const server = await issue(edgeCa, { commonName: 'localhost', names: ['localhost'] });
  const port = await serve(server);
  const look = (pem: string) => checkGateway({ host: 'localhost', port, roots: { file: 'ca.pem', pem } });
  expect(codesOf(await look(intermediate.certificate), 'error')).toEqual(['root_not_anchor']);
  expect(codesOf(await look(root.certificate), 'error')).toEqual([]);
});

test('a path length that is too small is told in the words of OpenSSL', async () => {
  const root = await selfSigned({ commonName: 'Root' });
  const intermediate = await issue(root, { commonName: 'Intermediate', ca: 0 });
  const edgeCa = await issue(intermediate, { commonName: 'Edge CA', ca: 0 });
  const port = await serve(await issue(edgeCa, { commonName: 'localhost', names: ['localhost'] }));
  const report = await checkGateway({ host: 'localhost', port, roots: { file: 'ca.pem', pem: root.certificate } });
  expect(codesOf(report, 'error')).toEqual(['chain_refused']);
  expect(JSON.stringify(report)).toContain('PATH_LENGTH_EXCEEDED');
});

test('a trusted root that has expired is the one that is named', async () => {
  const root = await selfSigned({ commonName: 'Old root', ...expired });
  const port = await serve(await issue(root, { commonName: 'localhost', names: ['localhost'] }));
  const report = await checkGateway({ host: 'localhost', port, roots: { file: 'ca.pem', pem: root.certificate } });
  expect(codesOf(report, 'error')).toEqual(['certificate_expired']);
  expect(JSON.stringify(report)).toContain('\\"CN=Old root\\" expired at');
});

async function serve({ chain, privateKey }: KeyedCertificate): Promise<number> {
  const server = createServer({ cert: chain, key: privateKey }, (socket) => socket.on('error', () => {}));
  server.on('tlsClientError', () => {});
  onTestFinished(() => void server.close());
  return listen(server);
}
