import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import { type CertificateOptions, issue, selfSigned } from '../../../local/kit/certificates.ts';
import { trustedRoot } from '../support.ts';
import { Clinic, codesOf, faultsOf, type Patient, randomKey, skippedBy } from './patient.ts';

const clinic = await Clinic.open();
const day = 86_400_000;
const hub = clinic.site.hub.hostname;
const inSeconds = (seconds: number) => Math.floor(Date.now() / 1000) + seconds;

async function withCredential(patient: Patient, credential: string) {
  patient.document.connectionString = patient.document.connectionString.replace(
    /SharedAccess[^;]*|x509=true/,
    () => credential,
  );
  await patient.store();
}

test.each([
  ['too short', randomBytes(8).toString('base64'), /has 8 bytes/],
  ['too long', randomBytes(65).toString('base64'), /has 65 bytes/],
  ['cut off', randomKey().slice(0, 42), /not whole base64/],
])('a key that is %s is damaged, and is not shown', async (_name, key, cause) => {
  const patient = await clinic.patient();
  await withCredential(patient, `SharedAccessKey=${key}`);
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(['key_damaged']);
  const finding = report.checks.flatMap(({ findings }) => findings).find(({ code }) => code === 'key_damaged');
  expect(finding?.cause).toMatch(cause);
  expect(JSON.stringify(report)).not.toContain(key);
  // The gateway and the API are not asked with a credential that cannot be right.
  expect(skippedBy(report)).toEqual({ identity: 'key_damaged', connect: 'key_damaged', agreement: 'key_damaged' });
});

test.each<[string, string[], (patient: Patient) => string]>([
  [
    'one that has expired',
    ['sas_expired'],
    ({ device }) => makeSasToken(`${hub}/devices/${device.deviceId}`, device.key, inSeconds(-10)),
  ],
  [
    'one that ends in a minute',
    ['sas_ends_soon'],
    ({ device }) => makeSasToken(`${hub}/devices/${device.deviceId}`, device.key, inSeconds(60)),
  ],
  [
    'one for another device',
    ['sas_for_other'],
    ({ device }) => makeSasToken(`${hub}/devices/other`, device.key, inSeconds(3600)),
  ],
  [
    'one for another hub',
    ['sas_for_other'],
    ({ device }) => makeSasToken(`other.azure-devices.net/devices/${device.deviceId}`, device.key, inSeconds(3600)),
  ],
  [
    'one of a policy of the hub',
    ['sas_by_policy'],
    ({ device }) => makeSasToken(`${hub}/devices/${device.deviceId}`, device.key, inSeconds(3600), 'device'),
  ],
  [
    'one whose signature is not encoded',
    ['sas_not_encoded'],
    ({ device }) =>
      decodeURIComponent(
        makeSasToken(`${hub}/devices/${device.deviceId}`, device.key, inSeconds(3600)).replace(/sr=[^&]*/, (sr) =>
          encodeURIComponent(sr),
        ),
      ),
  ],
  [
    'one for another device that has expired too',
    ['sas_for_other', 'sas_expired'],
    ({ device }) => makeSasToken(`${hub}/devices/other`, device.key, inSeconds(-10)),
  ],
])('a SAS token, %s', async (_name, codes, token) => {
  const patient = await clinic.patient();
  await withCredential(patient, `SharedAccessSignature=${token(patient)}`);
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(codes);
  expect(JSON.stringify(report)).not.toMatch(/sig=[A-Za-z0-9%]{10}/);
  const isFatal = codesOf(report, 'error').length > 0;
  expect(skippedBy(report)).toEqual(isFatal ? { identity: codes[0], connect: codes[0], agreement: codes[0] } : {});
});

test.each([
  ['for the hub', (id: string) => `${hub}/devices/${id}`],
  ['for the gateway', (id: string) => `localhost/devices/${id}`],
  ['in capitals', (id: string) => `${hub.toUpperCase()}/devices/${id.toUpperCase()}`],
])('a SAS token %s is good, and the gateway lets it in', async (_name, audience) => {
  const patient = await clinic.patient();
  const { deviceId, key } = patient.device;
  await withCredential(patient, `SharedAccessSignature=${makeSasToken(audience(deviceId), key, inSeconds(3600))}`);
  const report = await patient.check();
  expect(faultsOf(report)).toEqual([]);
  expect(codesOf(report, 'ok')).toEqual(expect.arrayContaining(['sas_ok', 'connect_ok']));
});

test("a module's own token and its device's are both good for it", async () => {
  const { device } = await clinic.patient();
  const module = await clinic.site.module(device.deviceId, 'camera', clinic.gateway);
  for (const [audience, key] of [
    [`${hub}/devices/${device.deviceId}/modules/camera`, module.key],
    [`${hub}/devices/${device.deviceId}`, device.key],
  ] as const) {
    const patient = await clinic.patient();
    Object.assign(
      patient.document,
      clinic.documentFor(module, `SharedAccessSignature=${makeSasToken(audience, key, inSeconds(3600))}`),
    );
    await patient.store();
    const report = await patient.check();
    expect(faultsOf(report)).toEqual([]);
    expect(report.device).toEqual({ id: device.deviceId, moduleId: 'camera' });
    expect(codesOf(report, 'ok')).toContain('connect_ok');
  }
});

/** A device with X.509, known to the gateway by the thumbprint of this certificate. */
async function withCertificate(options: Partial<CertificateOptions> = {}) {
  const patient = await clinic.patient();
  const id = `${patient.device.deviceId}-x509`;
  const own = await selfSigned({ commonName: id, ca: false, usages: ['clientAuth'], ...options });
  const primaryThumbprint = trustedRoot(own.certificate).sha256.toUpperCase();
  await clinic.site.x509('selfSigned', id, clinic.gateway, {
    x509Thumbprint: { primaryThumbprint, secondaryThumbprint: primaryThumbprint },
  });
  Object.assign(patient.document, clinic.documentFor({ ...patient.device, deviceId: id }, 'x509=true'));
  await patient.store();
  return { patient, id, own, certificate: { certificate: own.certificate, key: own.privateKey } };
}

test('a device with a good certificate is let in; the API, which knows devices by tokens, is not asked', async () => {
  const { patient, certificate } = await withCertificate();
  const report = await patient.check({ certificate });
  expect(faultsOf(report)).toEqual([]);
  expect(codesOf(report, 'ok')).toEqual(expect.arrayContaining(['x509_ok', 'connect_ok']));
  expect(codesOf(report, 'info')).toEqual(expect.arrayContaining(['identity_unasked', 'agreement_unasked']));
});

test('a device with a certificate that was not named is looked at without it', async () => {
  const { patient } = await withCertificate();
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(['x509_not_given']);
  expect(codesOf(report, 'info')).toContain('connect_skipped');
});

test('a certificate with the key of another one is told, and neither is shown', async () => {
  const { patient, own } = await withCertificate();
  const other = await selfSigned({ commonName: 'other', ca: false });
  const report = await patient.check({ certificate: { certificate: own.certificate, key: other.privateKey } });
  expect(faultsOf(report)).toEqual(['x509_key_mismatch']);
  expect(JSON.stringify(report)).not.toContain('PRIVATE KEY');
});

test.each([
  ['a certificate that is none', { certificate: 'nothing' }],
  ['a certificate that is damaged', { certificate: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n' }],
  ['a key that is none', { key: 'nothing' }],
])('%s cannot be read', async (_name, bent) => {
  const { patient, certificate } = await withCertificate();
  expect(faultsOf(await patient.check({ certificate: { ...certificate, ...bent } }))).toEqual(['x509_unreadable']);
});

test.each<[string, Partial<CertificateOptions>, string[]]>([
  [
    'has expired',
    { notBefore: new Date(Date.now() - 9 * day), notAfter: new Date(Date.now() - 2 * day) },
    ['x509_expired'],
  ],
  ['has not begun', { notBefore: new Date(Date.now() + day) }, ['x509_not_yet_valid']],
  [
    'ends in three days',
    { notBefore: new Date(Date.now() - 9 * day), notAfter: new Date(Date.now() + 3 * day) },
    ['x509_ends_soon'],
  ],
  ['is a CA', { ca: true }, ['x509_is_ca']],
])('a certificate that %s is told', async (_name, options, codes) => {
  const { patient, certificate } = await withCertificate(options);
  expect(faultsOf(await patient.check({ certificate }))).toEqual(codes);
});

test('a certificate from a CA must be named as the device, and bring its intermediates along', async () => {
  const root = await selfSigned({ commonName: 'Root of devices' });
  const intermediate = await issue(root, { commonName: 'Intermediate of devices', ca: 0 });
  const patient = await clinic.patient();
  const id = `${patient.device.deviceId}-ca`;
  await clinic.site.x509('certificateAuthority', id, clinic.gateway);
  Object.assign(patient.document, clinic.documentFor({ ...patient.device, deviceId: id }, 'x509=true'));
  await patient.store();
  const named = async (commonName: string) => issue(intermediate, { commonName, usages: ['clientAuth'] });
  const other = await named('somebody');
  const report = await patient.check({
    connect: 'never',
    certificate: { certificate: other.certificate, key: other.privateKey },
  });
  expect(faultsOf(report)).toEqual(['x509_name_differs']);
  expect(codesOf(report, 'info')).toContain('x509_alone');
  const right = await named(id);
  const whole = await patient.check({
    connect: 'never',
    certificate: { certificate: right.chain, key: right.privateKey },
  });
  expect(faultsOf(whole)).toEqual([]);
  expect(codesOf(whole, 'info')).not.toContain('x509_alone');
});

test('a wrong clock and an expired token are two faults where the token has expired by the right time too', async () => {
  const patient = await clinic.patient();
  const { deviceId, key } = patient.device;
  await withCredential(
    patient,
    `SharedAccessSignature=${makeSasToken(`${hub}/devices/${deviceId}`, key, inSeconds(-7200))}`,
  );
  const now = () => new Date(Date.now() - day);
  expect(codesOf(await patient.check({ now }), 'error')).toEqual(['clock_off', 'sas_expired']);
});
