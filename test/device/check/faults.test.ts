import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { CheckDeviceOptions } from '../../../device/src/check/check.ts';
import { codesByCheck } from '../../../device/src/check/codes.ts';
import { checkNames } from '../../../device/src/check/context.ts';
import type { CertificateFault } from '../../../local/gateway/bad-certificates.ts';
import { Clinic, closedPort, codesOf, faultsOf, type Patient, plainPort, skippedBy } from './patient.ts';

const clinic = await Clinic.open();
const day = 86_400_000;

interface Fault {
  code: string;
  /** What nobody can see any more, because this stands before it. */
  hides: string[];
  certificate?: CertificateFault;
  options?: Partial<CheckDeviceOptions>;
  apply?(patient: Patient): Promise<void> | void;
}

const everyCertificate = [
  'root_unknown',
  'chain_incomplete',
  'name_mismatch',
  'certificate_expired',
  'edge_ca_not_ca',
  'peer_is_hub',
];

/** Each breaks one thing, at another layer than the others. */
const faults: Fault[] = [
  {
    code: 'state_readable_by_others',
    hides: [
      'clock_off',
      'dns_not_found',
      'mqtt_port_refused',
      'tls_not_spoken',
      ...everyCertificate,
      'key_damaged',
      'identity_without_gateway',
    ],
    apply: ({ state }) => chmodSync(join(state, 'document.json'), 0o640),
  },
  {
    code: 'clock_off',
    hides: [],
    apply: ({ api }) => {
      api.clockOffsetMs = 3_600_000;
    },
  },
  {
    code: 'dns_not_found',
    hides: ['mqtt_port_refused', 'tls_not_spoken', ...everyCertificate],
    options: { lookup: () => Promise.reject(Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' })) },
  },
  {
    code: 'mqtt_port_refused',
    hides: ['tls_not_spoken', ...everyCertificate],
    apply: async (patient) => movePort(patient, await closedPort()),
  },
  {
    code: 'tls_not_spoken',
    hides: everyCertificate,
    apply: async (patient) => movePort(patient, await plainPort()),
  },
  { code: 'root_unknown', hides: [], certificate: { root: 'another' } },
  { code: 'chain_incomplete', hides: ['root_unknown', 'edge_ca_not_ca'], certificate: { sends: 'server only' } },
  { code: 'name_mismatch', hides: [], certificate: { server: { names: ['gw-2.example.net'] } } },
  {
    code: 'certificate_expired',
    hides: [],
    certificate: { server: { notBefore: new Date(Date.now() - 9 * day), notAfter: new Date(Date.now() - 2 * day) } },
  },
  { code: 'edge_ca_not_ca', hides: [], certificate: { edgeCa: { ca: false } } },
  {
    code: 'key_damaged',
    hides: ['identity_without_gateway'],
    apply: ({ document }) => {
      document.connectionString = document.connectionString.replace(
        /SharedAccessKey=.{8}[^;]*/,
        'SharedAccessKey=c2hvcnQ=',
      );
    },
  },
  {
    code: 'identity_without_gateway',
    hides: [],
    apply: ({ api }) => {
      api.problem = { status: 409, code: 'device_has_no_gateway' };
    },
  },
  {
    code: 'peer_is_hub',
    hides: ['root_unknown', 'chain_incomplete', 'name_mismatch', 'certificate_expired', 'edge_ca_not_ca'],
    certificate: { server: { names: ['*.azure-devices.net'] } },
  },
];

function movePort(patient: Patient, port: number): void {
  // The first of two faults wins: the one that stands before the other.
  if (patient.document.gateway.ports?.mqtt !== clinic.gateway.ports.mqtt) return;
  patient.document.gateway.ports = { mqtt: port, amqp: null, websocket: null };
  patient.document.connectionString = patient.document.connectionString.replace(/:\d+$/, `:${port}`);
}

async function examine(broken: Fault[]) {
  const patient = await clinic.patient();
  const certificates = broken.flatMap(({ certificate }) => certificate ?? []);
  const server = Object.assign({}, ...certificates.map((each) => each.server));
  const merged: CertificateFault = Object.assign({}, ...certificates, { server });
  if (certificates.length > 0) await clinic.serve(merged);
  for (const { apply } of broken) await apply?.(patient);
  await patient.store();
  // Stored files are owner-only again.
  if (broken.some(({ code }) => code === 'state_readable_by_others'))
    chmodSync(join(patient.state, 'document.json'), 0o640);
  const options = Object.assign({}, ...broken.map((each) => each.options));
  const report = await patient.check(options);
  // What was looked at has something to say.
  const silent = report.checks.filter(({ result, findings }) => (findings.length === 0) !== (result === 'skipped'));
  expect(silent).toEqual([]);
  return report;
}

test('a device that is well is let in, and nothing is found', async () => {
  const report = await examine([]);
  expect(faultsOf(report)).toEqual([]);
  expect(report).toMatchObject({ severity: 'info', firstCause: null, exitCode: 0 });
  expect(codesOf(report, 'ok')).toEqual([
    'state_ok',
    'clock_ok',
    'dns_ok',
    'mqtt_port_open',
    'tls_ok',
    'chain_ok',
    'name_ok',
    'expiry_ok',
    'edge_ca_ok',
    'verification_ok',
    'key_ok',
    'identity_ok',
    'connect_ok',
    'peer_ok',
    'agreement_ok',
  ]);
  expect(skippedBy(report)).toEqual({});
  expect(report.certificates.map(({ subject }) => subject)).toEqual(['CN=localhost', 'CN=aziot-edge CA gateway-1']);
});

test.each(faults)('one fault: $code is found, and nothing else is blamed', async (fault) => {
  const report = await examine([fault]);
  expect(codesOf(report, 'error')).toEqual([fault.code]);
  expect(report).toMatchObject({ severity: 'error', firstCause: fault.code, exitCode: 21 });
  for (const because of Object.values(skippedBy(report))) expect(because).toBe(fault.code);
  expect(skippedBy(report)).toHaveProperty('connect', fault.code);
});

const pairs = faults.flatMap((one, at) =>
  faults.slice(at + 1).map((other): [string, string, Fault[]] => [one.code, other.code, [one, other]]),
);
const order: string[] = checkNames.flatMap((name) => Object.keys(codesByCheck[name]));

test.each(pairs)(
  'two faults: %s and %s are told apart, and the first real cause is named first',
  async (_one, _other, both) => {
    const report = await examine(both);
    const seen = both.filter(({ code }) => !both.some(({ hides }) => hides.includes(code))).map(({ code }) => code);
    const expected = seen.sort((one, other) => order.indexOf(one) - order.indexOf(other));
    expect(codesOf(report, 'error')).toEqual(expected);
    expect(report.firstCause).toBe(expected[0]);
    for (const because of Object.values(skippedBy(report))) expect(expected).toContain(because);
  },
);
