import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer as createPlainServer } from 'node:net';
import { createServer } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { checkGateway } from '../../../device/src/check/check.ts';
import { gatewayPki } from '../support.ts';
import { Clinic, closedPort, codesOf, faultsOf, listen, type Patient, plainPort, skippedBy } from './patient.ts';

const clinic = await Clinic.open();

const failing = (code: string) => () => Promise.reject(Object.assign(new Error(`getaddrinfo ${code}`), { code }));

async function goTo(patient: Patient, ports: { mqtt: number; amqp?: number | null; websocket?: number | null }) {
  patient.document.gateway.ports = { amqp: null, websocket: null, ...ports };
  patient.document.connectionString = patient.document.connectionString.replace(/:\d+$/, `:${ports.mqtt}`);
  await patient.store();
}

test.each([
  ['a name that nobody knows', 'ENOTFOUND', 'dns_not_found'],
  ['DNS servers that do not answer', 'EAI_AGAIN', 'dns_unavailable'],
])('%s: no port, certificate or login is blamed', async (_name, code, expected) => {
  const patient = await clinic.patient();
  const report = await patient.check({ lookup: failing(code) });
  expect(faultsOf(report)).toEqual([expected]);
  const skipped = ['ports', 'tls', 'chain', 'name', 'expiry', 'edge-ca', 'verification', 'connect', 'peer'];
  expect(skippedBy(report)).toEqual(Object.fromEntries(skipped.map((name) => [name, expected])));
  // What needs no network to the gateway is told all the same.
  expect(codesOf(report, 'ok')).toEqual(['state_ok', 'clock_ok', 'key_ok', 'identity_ok', 'agreement_ok']);
});

test('a name without any address is not found', async () => {
  const patient = await clinic.patient();
  expect(faultsOf(await patient.check({ lookup: async () => [] }))).toEqual(['dns_not_found']);
});

test('of several addresses the one that answers is used', async () => {
  const patient = await clinic.patient();
  const report = await patient.check({ lookup: async () => ['127.0.0.77', '127.0.0.1'] });
  expect(faultsOf(report)).toEqual([]);
  expect(
    report.checks.flatMap(({ findings }) => findings).find(({ code }) => code === 'mqtt_port_open')?.cause,
  ).toContain('at 127.0.0.1');
});

test('no way to the gateway is told apart from a closed port', async () => {
  const patient = await clinic.patient();
  // TCP cannot be spoken to the broadcast address, on any network.
  const report = await patient.check({ lookup: async () => ['255.255.255.255'] });
  expect(faultsOf(report)).toEqual(['mqtt_port_unreachable']);
});

test('a port that refuses says that edgeHub is not there', async () => {
  const patient = await clinic.patient();
  await goTo(patient, { mqtt: await closedPort() });
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(['mqtt_port_refused']);
  expect(codesOf(report, 'info')).toEqual(['amqp_not_served', 'websocket_not_served']);
});

test.runIf(process.platform === 'linux')(
  'a port that drops what is sent to it says that a firewall is there',
  async () => {
    const { port, child } = await deafPort();
    onTestFinished(() => void child.kill('SIGKILL'));
    const patient = await clinic.patient();
    await goTo(patient, { mqtt: port });
    const report = await patient.check({ timeoutMs: 300 });
    expect(faultsOf(report)).toEqual(['mqtt_port_silent']);
    expect(report.checks.find(({ name }) => name === 'tls')).toMatchObject({
      result: 'skipped',
      because: 'mqtt_port_silent',
    });
  },
);

/** Its queue of connections is full and nobody takes one out: Linux drops the next SYN, as a firewall does. */
async function deafPort(): Promise<{ port: number; child: ChildProcess }> {
  const program = `
    const server = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      require('node:fs').writeSync(1, String(server.address().port));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`;
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [chunk] = (await once(child.stdout, 'data')) as [Buffer];
  const port = Number(chunk.toString());
  for (let at = 0; at < 4; at += 1) {
    const filler = connect({ port, host: '127.0.0.1' });
    filler.on('error', () => {});
    onTestFinished(() => void filler.destroy());
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  return { port, child };
}

test('the ports of AMQP and WebSockets that are recorded and closed are warnings: MQTT works', async () => {
  const patient = await clinic.patient();
  const [amqp, websocket] = [await closedPort(), await closedPort()];
  await goTo(patient, { mqtt: clinic.gateway.ports.mqtt, amqp, websocket });
  const report = await patient.check();
  expect(faultsOf(report)).toEqual(['amqp_port_closed', 'websocket_port_closed']);
  expect(report).toMatchObject({ exitCode: 20, firstCause: null });
  expect(codesOf(report, 'ok')).toContain('connect_ok');
  await goTo(patient, { mqtt: clinic.gateway.ports.mqtt, amqp: await plainPort(), websocket: await plainPort() });
  expect(codesOf(await patient.check(), 'ok')).toEqual(
    expect.arrayContaining(['amqp_port_open', 'websocket_port_open']),
  );
});

test('a gateway that serves no MQTT is looked at where it listens, and not logged in to', async () => {
  const patient = await clinic.patient();
  const withAmqp = async (amqp: number) => {
    patient.document.gateway.ports = { mqtt: null, amqp, websocket: null };
    patient.document.connectionString = patient.document.connectionString.replace(/:\d+$/, '');
    await patient.store();
    return patient.check();
  };
  // Any TLS listener of the gateway: all have one certificate.
  const report = await withAmqp(clinic.gateway.ports.mqtt);
  expect(faultsOf(report)).toEqual([]);
  expect(codesOf(report, 'info')).toEqual(['mqtt_not_served', 'websocket_not_served', 'connect_skipped']);
  expect(report.certificates).toHaveLength(2);
  const closed = await withAmqp(await closedPort());
  expect(faultsOf(closed)).toEqual(['first_port_closed', 'amqp_port_closed']);
  expect(closed.checks.find(({ name }) => name === 'tls')?.because).toBe('first_port_closed');
});

test('something that speaks no TLS listens on the port', async () => {
  const patient = await clinic.patient();
  await goTo(patient, { mqtt: await plainPort() });
  expect(faultsOf(await patient.check())).toEqual(['tls_not_spoken']);
});

test('a gateway that hangs up during the handshake, and one that says nothing, are told apart', async () => {
  const patient = await clinic.patient();
  const hangUp = createPlainServer((socket) => socket.once('data', () => socket.destroy()));
  const silent = createPlainServer((socket) => socket.on('error', () => {}));
  onTestFinished(() => void [hangUp, silent].map((server) => server.close()));
  await goTo(patient, { mqtt: await listen(hangUp) });
  expect(faultsOf(await patient.check())).toEqual(['tls_closed']);
  await goTo(patient, { mqtt: await listen(silent) });
  expect(faultsOf(await patient.check({ timeoutMs: 200 }))).toEqual(['tls_silent']);
});

test('a server that sends something else than certificates is told as that, and ends nothing', async () => {
  const garbage = Buffer.from([0x0b, 0, 0, 10, 0, 0, 7, 0, 0, 4, 1, 2, 3, 4]);
  const record = Buffer.concat([Buffer.from([22, 3, 3, 0, garbage.length]), garbage]);
  const server = createPlainServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.write(record));
  });
  onTestFinished(() => void server.close());
  const patient = await clinic.patient();
  await goTo(patient, { mqtt: await listen(server) });
  expect(faultsOf(await patient.check())).toEqual(['tls_not_spoken']);
});

test('a bare look at a gateway needs no state, and asks for nothing that needs an identity', async () => {
  const { gateway } = clinic;
  const report = await checkGateway({
    host: 'localhost',
    port: gateway.ports.mqtt,
    roots: { file: 'root.pem', pem: gateway.root },
  });
  expect(codesOf(report, 'error')).toEqual([]);
  expect(report.device).toBeNull();
  expect(report.checks.map(({ name }) => name)).toEqual([
    'clock',
    'dns',
    'ports',
    'tls',
    'chain',
    'name',
    'expiry',
    'edge-ca',
    'verification',
    'peer',
  ]);
  expect(report.certificates).toHaveLength(2);
});

test('a bare look by address says that no DNS is needed, and that the certificate has no such address', async () => {
  const { gateway } = clinic;
  const report = await checkGateway({
    host: '127.0.0.1',
    port: gateway.ports.mqtt,
    roots: { file: 'root.pem', pem: gateway.root },
  });
  expect(codesOf(report, 'ok')).toContain('dns_not_needed');
  expect(codesOf(report, 'error')).toEqual(['name_is_address']);
});

test('roots that do not read are a mistake on the command line', async () => {
  const looking = checkGateway({ host: 'localhost', roots: { file: 'root.pem', pem: 'nothing' } });
  await expect(looking).rejects.toMatchObject({ code: 'usage' });
});

test('a gateway that speaks TLS 1.3 only is read as well', async () => {
  const pki = await gatewayPki();
  const server = createServer(
    { cert: pki.server.chain, key: pki.server.privateKey, minVersion: 'TLSv1.3' },
    (socket) => {
      socket.on('error', () => {});
    },
  );
  server.on('tlsClientError', () => {});
  onTestFinished(() => void server.close());
  const report = await checkGateway({
    host: 'localhost',
    port: await listen(server),
    roots: { file: 'root.pem', pem: pki.root.certificate },
  });
  expect(codesOf(report, 'error')).toEqual([]);
  expect(report.certificates.map(({ subject }) => subject)).toContain('CN=localhost');
  expect(JSON.stringify(report)).toContain('TLS 1.3 only');
});
