import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { establishedPeers } from '../../../device/src/check/observe/connections.ts';
import { renderTable } from '../../../device/src/check/table.ts';
import { storeDocument } from '../../../device/src/state.ts';
import { selfSigned } from '../../../local/kit/certificates.ts';
import { Clinic, codesOf, faultsOf, originOf, type Patient, randomKey, skippedBy } from './patient.ts';

const scope = { identityRefreshDelayMs: 0, fullRefreshMs: 3_600_000, reauthenticateMs: 3_600_000 };
const clinic = await Clinic.open({ id: 'gateway-1', scope });

/** The device cannot reach its API. */
async function alone(patient: Patient): Promise<void> {
  await storeDocument(patient.state, { document: patient.document, origin: originOf(null) });
}

async function giveKey(patient: Patient, key: string): Promise<void> {
  patient.document.connectionString = patient.document.connectionString.replace(
    /SharedAccessKey=[^;]*/,
    `SharedAccessKey=${key}`,
  );
  await patient.store();
}

async function strike(fault: object, clientId: string): Promise<void> {
  clinic.site.faults.add({ target: 'gateway', match: { method: 'CONNECT', path: `^${clientId}$` }, fault });
  onTestFinished(() => clinic.site.faults.clear());
}

test.each<[string, (patient: Patient) => Promise<void>]>([
  ['whose key was rotated', (patient) => giveKey(patient, randomKey())],
  ['that is disabled', ({ device }) => clinic.site.change(device.deviceId, { status: 'disabled' })],
  [
    'that was deleted',
    async ({ device }) =>
      void (await clinic.site.call('DELETE', `/devices/${device.deviceId}`, undefined, { 'if-match': '"*"' })),
  ],
  [
    'that stands behind no gateway',
    ({ device }) => clinic.site.change(device.deviceId, { deviceScope: '', parentScopes: [] }),
  ],
])(
  'a device %s gets the same CONNACK: without the API the likely reasons are listed, none is pretended',
  async (_name, harm) => {
    const patient = await clinic.patient();
    await harm(patient);
    await alone(patient);
    await clinic.gateway.refreshScope();
    const report = await patient.check();
    expect(faultsOf(report)).toEqual(['connect_refused']);
    const [finding] = report.checks.find(({ name }) => name === 'connect')?.findings ?? [];
    expect(finding?.cause).toContain('CONNACK 5');
    expect(finding?.likely.length).toBeGreaterThan(4);
    expect(codesOf(report, 'info')).toContain('identity_unasked');
  },
);

test.each([
  [401, 'device_token_invalid', 'identity_not_accepted'],
  [409, 'device_disabled', 'identity_disabled'],
  [409, 'device_has_no_gateway', 'identity_without_gateway'],
  [409, 'credential_mismatch', 'identity_unusable'],
])('what the API answers with %s %s is %s, and the gateway is not troubled with it', async (status, code, expected) => {
  const patient = await clinic.patient();
  patient.api.problem = { status, code };
  clinic.site.faults.resetCalls();
  const report = await patient.check();
  expect(faultsOf(report)).toEqual([expected]);
  expect(skippedBy(report)).toEqual({ connect: expected });
  expect(clinic.site.faults.calls().gateway).toEqual({});
});

test('an API that throttles or fails says nothing of the device', async () => {
  const patient = await clinic.patient();
  for (const problem of [
    { status: 503, code: 'upstream_throttled' },
    { status: 500, code: 'internal' },
  ]) {
    patient.api.problem = problem;
    const report = await patient.check();
    expect(faultsOf(report)).toEqual([]);
    expect(codesOf(report, 'info')).toContain('identity_unasked');
    expect(codesOf(report, 'ok')).toContain('connect_ok');
  }
});

test('what the API says cannot steer the terminal that it is shown on', async () => {
  const patient = await clinic.patient();
  const escapeCharacter = String.fromCharCode(27);
  patient.api.problem = { status: 409, code: `odd${escapeCharacter}[2J` };
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(['identity_unusable']);
  expect(renderTable(report, { colour: false, verbose: true }).join('')).not.toContain(escapeCharacter);
});

test('a device that was moved is told to which gateway', async () => {
  const patient = await clinic.patient();
  const { gateway, connectionString } = patient.document;
  patient.api.document = {
    gateway: { ...gateway, id: 'gateway-2', hostname: 'gw-2.example.net' },
    connectionString: connectionString.replace('=localhost', '=gw-2.example.net'),
  };
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(['identity_behind_other_gateway']);
  expect(report.checks.find(({ name }) => name === 'identity')?.findings[0]?.cause).toContain('gateway-2');
  // The old gateway may be gone: that is no second fault.
  const gone = await patient.check({
    lookup: () => Promise.reject(Object.assign(new Error('x'), { code: 'ENOTFOUND' })),
  });
  expect(faultsOf(gone)).toEqual(['identity_behind_other_gateway']);
});

test('a gateway that refuses a device which the API finds well has not heard of it', async () => {
  const patient = await clinic.patient();
  await clinic.site.change(patient.device.deviceId, { deviceScope: '', parentScopes: [] });
  await clinic.gateway.refreshScope();
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(['connect_gateway_uninformed']);
  expect(report.checks.find(({ name }) => name === 'connect')?.findings[0]?.likely[0]).toContain('120 s');
});

test('an X.509 device whose certificate is not the registered one is refused, with the likely reasons', async () => {
  const patient = await clinic.patient();
  const id = `${patient.device.deviceId}-x509`;
  const thumbprint = 'A'.repeat(64);
  await clinic.site.x509('selfSigned', id, clinic.gateway, {
    x509Thumbprint: { primaryThumbprint: thumbprint, secondaryThumbprint: thumbprint },
  });
  Object.assign(patient.document, clinic.documentFor({ ...patient.device, deviceId: id }, 'x509=true'));
  await patient.store();
  const own = await selfSigned({ commonName: id, ca: false, usages: ['clientAuth'] });
  const report = await patient.check({ certificate: { certificate: own.certificate, key: own.privateKey } });
  expect(faultsOf(report)).toEqual(['connect_refused']);
});

test('a gateway that is not available, hangs up or says nothing is told apart from one that refuses', async () => {
  const patient = await clinic.patient();
  const { deviceId } = patient.device;
  await strike({ status: 503 }, deviceId);
  expect(faultsOf(await patient.check())).toEqual(['connect_busy']);
  clinic.site.faults.clear();
  await strike({ cut: 'before' }, deviceId);
  expect(faultsOf(await patient.check())).toEqual(['connect_closed']);
  clinic.site.faults.clear();
  await strike({ hang: true }, deviceId);
  expect(faultsOf(await patient.check({ timeoutMs: 300 }))).toEqual(['connect_silent']);
});

test.each<[string, (patient: Patient) => void, string[]]>([
  [
    'was renamed',
    ({ api, document }) => {
      api.document = {
        gateway: { ...document.gateway, hostname: 'gw-new.example.net' },
        connectionString: document.connectionString.replace('=localhost', '=gw-new.example.net'),
      };
    },
    ['gateway_renamed'],
  ],
  [
    'has another port',
    ({ api, document }) => {
      api.document = {
        gateway: { ...document.gateway, ports: { mqtt: 18883 } },
        connectionString: document.connectionString.replace(/:\d+$/, ':18883'),
      };
    },
    ['gateway_port_changed'],
  ],
  [
    'belongs to another hub',
    ({ api, document }) => {
      api.document = {
        connectionString: document.connectionString.replace(/HostName=[^;]*/, 'HostName=new.azure-devices.net'),
      };
    },
    ['hub_changed'],
  ],
  [
    'has newer trust',
    ({ api, document }) => {
      api.document = { trust: { ...document.trust, sequence: 9 } };
    },
    ['trust_outdated'],
  ],
])('a device whose gateway %s by what the API says is told so', async (_name, change, codes) => {
  const patient = await clinic.patient();
  change(patient);
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(codes);
});

test('a gateway that was renamed is the cause of its old name not being found, and of the name in its certificate', async () => {
  const patient = await clinic.patient();
  const { gateway, connectionString } = patient.document;
  patient.api.document = {
    gateway: { ...gateway, hostname: 'gw-new.example.net' },
    connectionString: connectionString.replace('=localhost', '=gw-new.example.net'),
  };
  const gone = await patient.check({
    lookup: () => Promise.reject(Object.assign(new Error('x'), { code: 'ENOTFOUND' })),
  });
  expect(codesOf(gone, 'error')).toEqual(['gateway_renamed']);
  expect(skippedBy(gone)).toMatchObject({ dns: 'gateway_renamed', connect: 'gateway_renamed' });
  await clinic.serve({ server: { names: ['gw-new.example.net'] } });
  const renamed = await patient.check();
  expect(codesOf(renamed, 'error')).toEqual(['gateway_renamed']);
  expect(skippedBy(renamed)).toMatchObject({ name: 'gateway_renamed' });
});

test('the token goes to the API and to the gateway only, and is signed for this device', async () => {
  const patient = await clinic.patient();
  await patient.check();
  const sent = patient.api.requests.filter(({ authorization }) => authorization !== undefined);
  expect(sent.map(({ path }) => path)).toEqual([`/api/v1/devices/${patient.device.deviceId}/onboarding`]);
  expect(decodeURIComponent(sent[0]?.authorization ?? '')).toContain(
    `sr=${clinic.site.hub.hostname}/devices/${patient.device.deviceId}&`,
  );
});

test('a gateway that is not proven is sent no credential', async () => {
  const patient = await clinic.patient();
  await clinic.serve({ root: 'another' });
  clinic.site.faults.resetCalls();
  await patient.check();
  expect(clinic.site.faults.calls().gateway).toEqual({});
});

test.runIf(process.platform === 'linux')(
  'while a client of this machine is connected it is not pushed out, unless that is asked for',
  async () => {
    const patient = await clinic.patient();
    const { deviceId } = patient.device;
    const running = await clinic.site.stay(clinic.gateway, patient.device);
    onTestFinished(() => clinic.site.closeClients());
    let closed = 0;
    running.on('close', () => {
      closed += 1;
    });
    const careful = await patient.check({ connect: 'unless-connected' });
    expect(faultsOf(careful)).toEqual([]);
    expect(codesOf(careful, 'info')).toContain('connect_skipped');
    const never = await patient.check({ connect: 'never' });
    expect(codesOf(never, 'info')).toContain('connect_skipped');
    await sleep(50);
    expect(closed).toBe(0);
    expect(clinic.gateway.connected()).toContain(deviceId);
    const bold = await patient.check({ connect: 'always' });
    expect(codesOf(bold, 'ok')).toContain('connect_ok');
    await sleep(50);
    expect(closed).toBe(1);
  },
);

test.runIf(process.platform === 'linux')(
  'where nothing of this machine is connected, the gateway is asked without being told to',
  async () => {
    const patient = await clinic.patient();
    const report = await patient.check({ connect: 'unless-connected' });
    expect(codesOf(report, 'ok')).toContain('connect_ok');
  },
);

test('a system that does not tell who is connected is not believed to have nobody', async () => {
  expect(await establishedPeers('/nonexistent')).toBeUndefined();
});

test('a check leaves no connection behind', async () => {
  const patient = await clinic.patient();
  await patient.check();
  await sleep(50);
  expect(clinic.gateway.connected()).not.toContain(patient.device.deviceId);
});
