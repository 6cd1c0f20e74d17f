import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkDevice } from '../../../device/src/check/check.ts';
import type { CheckReport } from '../../../device/src/check/report.ts';
import { gatewayPki } from '../support.ts';
import { Clinic, faultsOf, type Patient, temporary } from './patient.ts';

const clinic = await Clinic.open();

function path(patient: Patient, file = 'document.json'): string {
  return join(patient.state, file);
}

function rewrite(patient: Patient, change: (text: string) => string, file = 'document.json'): void {
  writeFileSync(path(patient, file), change(readFileSync(path(patient, file), 'utf8')), { mode: 0o600 });
}

function expectStopped(report: CheckReport, code: string): void {
  expect(faultsOf(report)).toEqual([code]);
  expect(report.checks.slice(1).map(({ result, because }) => [result, because])).toEqual(
    report.checks.slice(1).map(() => ['skipped', code]),
  );
}

test('a folder that is not there is a device that has not joined', async () => {
  const report = await checkDevice({ state: join(temporary(), 'nowhere') });
  expectStopped(report, 'state_missing');
  expect(report).toMatchObject({ gateway: null, device: null, exitCode: 21 });
});

test('a document that cannot be read is not the same as one that is missing', async () => {
  const folder = temporary();
  mkdirSync(join(folder, 'document.json'));
  expectStopped(await checkDevice({ state: folder }), 'state_unreadable');
});

test('a document that was cut off is damaged, and its text is not quoted', async () => {
  const patient = await clinic.patient();
  rewrite(patient, (text) => text.slice(0, text.indexOf('SharedAccessKey=') + 30));
  const report = await patient.check();
  expectStopped(report, 'state_damaged');
  expect(JSON.stringify(report)).not.toContain(patient.device.key.slice(0, 10));
});

test('a document without a gateway in its connection string is damaged: a client would go straight to the hub', async () => {
  const patient = await clinic.patient();
  rewrite(patient, (text) => text.replace(/;GatewayHostName=[^"]*/, ''));
  const report = await patient.check();
  expectStopped(report, 'state_damaged');
  expect(report.checks[0]?.findings[0]?.cause).toMatch(/no GatewayHostName/);
});

test('a connection string that was edited to another gateway is told with both names', async () => {
  const patient = await clinic.patient();
  rewrite(patient, (text) => text.replace(/GatewayHostName=localhost/, 'GatewayHostName=gw-2.example.net'));
  const report = await patient.check();
  expectStopped(report, 'gateway_name_contradicts');
  expect(report.checks[0]?.findings[0]?.cause).toMatch(/localhost.*GatewayHostName=gw-2\.example\.net/);
});

test('a document that names an IoT Hub as the gateway is told as that', async () => {
  const patient = await clinic.patient();
  rewrite(patient, (text) =>
    text
      .replace(/GatewayHostName=localhost:\d+/, 'GatewayHostName=other.azure-devices.net')
      .replace('"hostname": "localhost"', '"hostname": "other.azure-devices.net"'),
  );
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(['gateway_is_hub']);
  expect(report.checks.find(({ name }) => name === 'dns')).toMatchObject({
    result: 'skipped',
    because: 'gateway_is_hub',
  });
});

test('a document that names its own hub as the gateway is told as that too', async () => {
  const patient = await clinic.patient();
  const { hostname } = clinic.site.hub;
  rewrite(patient, (text) =>
    text
      .replace(/GatewayHostName=localhost:\d+/, `GatewayHostName=${hostname}`)
      .replace('"hostname": "localhost"', `"hostname": "${hostname}"`),
  );
  expectStopped(await patient.check(), 'gateway_is_hub');
});

test.runIf(process.platform !== 'win32').each([
  ['a credential that its group can read', 'document.json', 0o640, 'state_readable_by_others', 21],
  ['a folder that others can write to', '.', 0o722, 'state_folder_writable_by_others', 21],
  ['a folder that others can list', '.', 0o755, 'state_folder_open', 20],
])('%s is found', async (_name, file, mode, code, exitCode) => {
  const patient = await clinic.patient();
  chmodSync(path(patient, file), mode);
  const report = await patient.check();
  expect(faultsOf(report)).toEqual([code]);
  expect(report.exitCode).toBe(exitCode);
  expect(report.checks[0]?.findings[0]?.cause).toContain((mode & 0o777).toString(8));
});

test('a roots.pem that is missing or has another root is a warning for other SDKs, and everything else is looked at', async () => {
  const patient = await clinic.patient();
  rewrite(patient, () => '', 'roots.pem');
  rmSync(path(patient, 'roots.pem'));
  const missing = await patient.check();
  expect(faultsOf(missing)).toEqual(['roots_file_differs']);
  expect(missing).toMatchObject({ exitCode: 20, firstCause: null });
  const { root } = await gatewayPki();
  writeFileSync(path(patient, 'roots.pem'), root.certificate, { mode: 0o600 });
  const other = await patient.check();
  expect(faultsOf(other)).toEqual(['roots_file_differs']);
  expect(other.checks.find(({ name }) => name === 'connect')?.result).toBe('ok');
});

test('a state folder without origin.json, as after a join with a document, is well', async () => {
  const patient = await clinic.patient();
  rmSync(path(patient, 'origin.json'));
  expect(faultsOf(await patient.check())).toEqual([]);
});

test('two faults of the folder are both told', async () => {
  const patient = await clinic.patient();
  chmodSync(path(patient), 0o644);
  chmodSync(patient.state, 0o777);
  expect(faultsOf(await patient.check())).toEqual(['state_readable_by_others', 'state_folder_writable_by_others']);
});
