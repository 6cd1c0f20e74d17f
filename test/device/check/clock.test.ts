import { createServer } from 'node:https';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { checkGateway } from '../../../device/src/check/check.ts';
import { storeDocument } from '../../../device/src/state.ts';
import { issue, selfSigned } from '../../../local/kit/certificates.ts';
import { sasToken } from '../support.ts';
import { Clinic, codesOf, faultsOf, listen, originOf, type Patient, skippedBy } from './patient.ts';

const clinic = await Clinic.open();
const second = 1000;
const day = 86_400 * second;

const shifted = (ms: number) => () => new Date(Date.now() + ms);

/** The patient has no API to ask. */
async function alone(patient: Patient, joinedAt = originOf(null).joinedAt): Promise<void> {
  await storeDocument(patient.state, { document: patient.document, origin: { ...originOf(null), joinedAt } });
}

test('a clock that agrees with the API is told with its offset', async () => {
  const patient = await clinic.patient();
  const report = await patient.check();
  expect(report.checks[1]?.findings[0]?.cause).toMatch(/is \d\.\d s off that of http:\/\/127\.0\.0\.1/);
});

test.each([
  ['a minute behind', 60 * second, 'clock_drifting', /60 s behind/, 20],
  ['a minute ahead', -60 * second, 'clock_drifting', /60 s ahead of|59 s ahead of/, 20],
  ['an hour behind', 3600 * second, 'clock_off', /3600 s behind/, 21],
  ['an hour ahead', -3600 * second, 'clock_off', /(3600|3599) s ahead of/, 21],
])('a clock that is %s is found by the Date of the API', async (_name, offsetMs, code, cause, exitCode) => {
  const patient = await clinic.patient();
  patient.api.clockOffsetMs = offsetMs;
  const report = await patient.check();
  expect(faultsOf(report)).toEqual([code]);
  expect(report.checks[1]?.findings[0]?.cause).toMatch(cause);
  expect(report.exitCode).toBe(exitCode);
});

test('a clock that is years off makes no certificate and no token expired: they are judged by the right time', async () => {
  const patient = await clinic.patient();
  const token = sasToken(clinic.site.hub.hostname, patient.device.deviceId, 3600);
  patient.document.connectionString = patient.document.connectionString.replace(
    /SharedAccessKey=[^;]*/,
    `SharedAccessSignature=${token}`,
  );
  await patient.store();
  for (const years of [-30, 30]) {
    patient.api.clockOffsetMs = -years * 365 * day;
    const now = shifted(years * 365 * day);
    patient.api.clockOffsetMs = 0;
    const report = await patient.check({ now });
    expect(codesOf(report, 'error')).toEqual(['clock_off']);
    expect(report.checks.find(({ name }) => name === 'expiry')?.result).toBe('ok');
    expect(report.checks.find(({ name }) => name === 'credential')?.result).toBe('ok');
    expect(skippedBy(report)).toEqual({ connect: 'clock_off' });
  }
});

test('a clock that is ahead makes OpenSSL call a good certificate expired: only the clock is blamed', async () => {
  const patient = await clinic.patient();
  // It is half a day earlier than this machine believes.
  patient.api.clockOffsetMs = -day / 2;
  await clinic.serve({ server: { notAfter: new Date(Date.now() - day / 4) } });
  const report = await patient.check();
  expect(codesOf(report, 'error')).toEqual(['clock_off']);
  expect(skippedBy(report)).toEqual({ verification: 'clock_off', connect: 'clock_off' });
  expect(report.checks.find(({ name }) => name === 'expiry')?.result).not.toBe('error');
});

test('an API that does not answer is waited for once', async () => {
  const patient = await clinic.patient();
  patient.api.isAway = true;
  await clinic.serve({ root: 'another' });
  const report = await patient.check();
  expect(codesOf(report, 'error')).toEqual(['root_unknown']);
  expect(patient.api.requests.map(({ path }) => path)).toEqual(['/api/v1/health']);
});

test('a wrong clock and a certificate that has really expired are two faults', async () => {
  const patient = await clinic.patient();
  await clinic.serve({
    server: { notBefore: new Date(Date.now() - 9 * day), notAfter: new Date(Date.now() - 2 * day) },
  });
  // By this clock it would still be valid.
  const report = await patient.check({ now: shifted(-5 * day) });
  expect(codesOf(report, 'error')).toEqual(['clock_off', 'certificate_expired']);
  expect(report.firstCause).toBe('clock_off');
});

test('without an API, a clock that says a time before the device joined was reset, and no date is judged by it', async () => {
  const patient = await clinic.patient();
  await alone(patient);
  const report = await patient.check({ now: () => new Date('1970-01-01T00:10:00Z') });
  expect(codesOf(report, 'error')).toEqual(['clock_behind']);
  expect(report.checks[1]?.findings[0]?.cause).toMatch(
    /says 1970-01-01T00:10:00.000Z, which is before this device joined at 20/,
  );
  expect(skippedBy(report)).toEqual({ expiry: 'clock_behind', connect: 'clock_behind' });
});

test('without an API and without a date of joining, a trusted root that has not begun tells that the clock is behind', async () => {
  const patient = await clinic.patient();
  await alone(patient, 'unknown');
  const report = await patient.check({ now: () => new Date('2001-01-01T00:00:00Z') });
  expect(codesOf(report, 'error')).toEqual(['clock_behind']);
  expect(report.checks[1]?.findings[0]?.cause).toMatch(/before the trusted root "CN=Gatepost local root of gateway-1"/);
});

test('a bare look by a clock that is behind puts it on the clock, and not on three certificates', async () => {
  const { root, ports } = clinic.gateway;
  const now = () => new Date('1970-01-01T00:10:00Z');
  const report = await checkGateway({
    host: 'localhost',
    port: ports.mqtt,
    roots: { file: 'root.pem', pem: root },
    now,
  });
  expect(codesOf(report, 'error')).toEqual(['clock_behind']);
  expect(skippedBy(report)).toEqual({ expiry: 'clock_behind' });
});

test('without an API, a clock by which everything has expired, the root included, is suspected before all certificates', async () => {
  const patient = await clinic.patient();
  await alone(patient);
  const report = await patient.check({ now: shifted(30 * 365 * day) });
  expect(codesOf(report, 'error')).toEqual(['clock_suspect']);
  expect(skippedBy(report)).toEqual({ expiry: 'clock_suspect', connect: 'clock_suspect' });
});

test('without an API, one expired certificate in a chain that is otherwise valid is not put on the clock', async () => {
  const patient = await clinic.patient();
  await alone(patient);
  await clinic.serve({
    server: { notBefore: new Date(Date.now() - 9 * day), notAfter: new Date(Date.now() - 2 * day) },
  });
  const report = await patient.check();
  expect(codesOf(report, 'error')).toEqual(['certificate_expired']);
  expect(codesOf(report, 'info')).toContain('clock_unproven');
});

test('an API that is away leaves the clock unproven, which is a remark and no fault', async () => {
  const patient = await clinic.patient();
  patient.api.isAway = true;
  const report = await patient.check();
  expect(faultsOf(report)).toEqual([]);
  expect(codesOf(report, 'info')).toEqual(
    expect.arrayContaining(['clock_unproven', 'identity_unasked', 'agreement_unasked']),
  );
  expect(report.exitCode).toBe(0);
});

test('the Date of an API whose certificate is out of its dates is read all the same, without a token, and nothing else is believed', async () => {
  const patient = await clinic.patient();
  const ca = await selfSigned({ commonName: 'CA of the API' });
  const { chain, privateKey } = await issue(ca, {
    commonName: 'localhost',
    names: ['localhost'],
    notBefore: new Date(Date.now() - 9 * day),
    notAfter: new Date(Date.now() - 2 * day),
  });
  const requests: [string | undefined, string | undefined][] = [];
  const server = createServer({ cert: chain + ca.certificate, key: privateKey }, (request, response) => {
    requests.push([request.url, request.headers.authorization]);
    response.setHeader('date', new Date(Date.now() - 7200 * second).toUTCString()).end('{}');
  });
  onTestFinished(() => void server.close());
  const api = `https://localhost:${await listen(server)}`;
  const usual = getCACertificates('default');
  setDefaultCACertificates([...usual, ca.certificate]);
  onTestFinished(() => setDefaultCACertificates(usual));
  await storeDocument(patient.state, { document: patient.document, origin: originOf(api) });
  const report = await patient.check();
  expect(codesOf(report, 'error')).toEqual(['clock_off']);
  expect(report.checks[1]?.findings[0]?.cause).toMatch(/7200 s ahead of|7199 s ahead of/);
  expect(report.checks[1]?.findings[0]?.cause).toMatch(/whose certificate cannot be checked by this clock/);
  expect(requests).toEqual([['/api/v1/health', undefined]]);
});
