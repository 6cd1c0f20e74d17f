import { PassThrough } from 'node:stream';
import common from 'azure-iot-common';
import device, { type Client, type ModuleClient } from 'azure-iot-device';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { connect } from '../../device/src/connect.ts';
import type { OnboardingDocument } from '../../device/src/document.ts';
import { join } from '../../device/src/join.ts';
import { run } from '../../device/src/run.ts';
import { readDocument } from '../../device/src/state.ts';
import { selfSigned } from '../../local/kit/certificates.ts';
import { expectStatus, type Site, startSite, telemetryFrom } from '../e2e/support.ts';
import { newId } from '../support/cloud.ts';
import { temporaryFolder, trustedRoot } from './support.ts';

// The real API, the hub and the edgeHub double, each over TLS; the device side as it is in the field.
let site: Site;

beforeAll(async () => {
  site = await startSite();
});

afterAll(() => site?.cloud.close());

async function onboard(deviceId: string, body: object = {}): Promise<OnboardingDocument> {
  const answer = await site.operator('POST', `/devices/${deviceId}/onboard`, { gateway: site.gateway.id, ...body });
  return expectStatus(answer, 200, 201).body as OnboardingDocument;
}

async function open<C extends Client | ModuleClient = Client>(options: Parameters<typeof connect>[0]): Promise<C> {
  const client = await connect<C>(options);
  onTestFinished(() => client.close().then(() => {}));
  return client;
}

async function joinToken(deviceId: string, body: object = {}): Promise<string> {
  const answer = await site.operator('POST', `/devices/${deviceId}/join-token`, body);
  return expectStatus(answer, 201).body.token as string;
}

const pin = () => trustedRoot(site.gateway.root).sha256;

/** CONNECTs of devices that the hub itself got. */
const straightToTheHub = () =>
  Object.entries(site.cloud.faults.calls().hub).filter(([call]) => call.startsWith('CONNECT'));

test.each(['key', 'sas', 'x509'] as const)(
  'a device with a credential of kind %s arrives by way of the gateway and never at the hub itself',
  async (credential) => {
    const id = newId(credential);
    const own = await selfSigned({ commonName: id, ca: false, usages: ['clientAuth'] });
    const thumbprint = trustedRoot(own.certificate).sha256.toUpperCase();
    const auth = credential === 'x509' ? { type: 'selfSigned', primaryThumbprint: thumbprint } : { type: 'sas' };
    const document = await onboard(id, { credential, auth });
    site.cloud.faults.resetCalls();
    const client = await open({ document, certificate: { certificate: own.certificate, key: own.privateKey } });
    await client.sendEvent(new common.Message(JSON.stringify({ credential })));
    expect(await telemetryFrom(site.cloud, id)).toEqual([
      { body: { credential }, gatewayId: site.gateway.id, moduleId: null },
    ]);
    expect(site.gateway.connected()).toContain(id);
    expect(site.cloud.faults.calls().gateway).toMatchObject({ 'CONNECT {id}': 1 });
    expect(straightToTheHub()).toEqual([]);
  },
);

test('a device joins with a one-time token, once, and runs from what join has stored', async () => {
  const id = newId();
  await onboard(id);
  const token = await joinToken(id);
  const state = temporaryFolder();
  await join({ api: site.cloud.api, token, rootSha256: pin(), state });
  const again = join({ api: site.cloud.api, token, rootSha256: pin(), state });
  await expect(again).rejects.toMatchObject({ code: 'join_token_refused', exitCode: 11 });
  const input = new PassThrough();
  input.end('{"n":1}\n{"n":2}\n');
  const { signal } = new AbortController();
  const result = await run({ document: await readDocument(state), input, log: () => {}, signal });
  expect(result).toEqual({ delivered: 2, refused: 0 });
  expect((await telemetryFrom(site.cloud, id, 2)).map(({ body, gatewayId }) => [body, gatewayId])).toEqual([
    [{ n: 1 }, site.gateway.id],
    [{ n: 2 }, site.gateway.id],
  ]);
});

test('a wrong pin does not cost the token', async () => {
  const id = newId();
  await onboard(id);
  const token = await joinToken(id);
  const options = { api: site.cloud.api, token, state: temporaryFolder() };
  const { certificate } = await selfSigned({ commonName: 'Another root' });
  const wrong = join({ ...options, rootSha256: trustedRoot(certificate).sha256 });
  await expect(wrong).rejects.toMatchObject({ code: 'pin_mismatch', exitCode: 4 });
  await join({ ...options, rootSha256: pin() });
});

test('a module joins and sends as itself', async () => {
  const id = newId();
  await onboard(id, { modules: ['reader'] });
  const state = temporaryFolder();
  const token = await joinToken(id, { moduleId: 'reader' });
  await join({ api: site.cloud.api, token, rootSha256: pin(), state });
  const client = await open<ModuleClient>({ state });
  await client.sendEvent(new common.Message('{"module":true}'));
  expect(await telemetryFrom(site.cloud, id)).toMatchObject([{ moduleId: 'reader', gatewayId: site.gateway.id }]);
});

test('the client that connect() answers is the whole SDK client: its twin works through the gateway', async () => {
  const id = newId();
  const client = await open({ document: await onboard(id) });
  const twin = await client.getTwin();
  await new Promise<void>((resolve, reject) =>
    twin.properties.reported.update({ firmware: '1.2' }, (error: Error | undefined) =>
      error ? reject(error) : resolve(),
    ),
  );
  expect((await client.getTwin()).properties.reported).toMatchObject({ firmware: '1.2' });
  expect(client).toBeInstanceOf(device.Client);
});

test('a device that was disabled is refused with the likely causes', async () => {
  const id = newId();
  const document = await onboard(id);
  const disabled = { gateway: site.gateway.id, auth: { type: 'sas' }, enabled: false };
  expectStatus(await site.operator('PUT', `/devices/${id}`, disabled), 200);
  await expect(connect({ document })).rejects.toMatchObject({
    code: 'credential_refused',
    exitCode: 9,
    message: expect.stringMatching(/not linked to this gateway, it is disabled/),
  });
});

test('a device of another gateway is refused by this one', async () => {
  const id = newId();
  const other = newId('gateway');
  const ports = { mqtt: site.gateway.ports.mqtt };
  expectStatus(await site.operator('PUT', `/gateways/${other}`, { hostname: 'localhost', ports }), 201);
  const document = await onboard(id, { gateway: other });
  await expect(connect({ document })).rejects.toMatchObject({ code: 'credential_refused' });
});

test('a key that was rolled no longer opens the way, and joining again does', async () => {
  const id = newId();
  const old = await onboard(id);
  expectStatus(await site.operator('POST', `/devices/${id}/keys/rotate`, { key: 'primary' }), 200);
  await expect(connect({ document: old })).rejects.toMatchObject({ code: 'credential_refused' });
  const state = temporaryFolder();
  await join({ api: site.cloud.api, token: await joinToken(id), rootSha256: pin(), state });
  const client = await open({ state });
  await client.sendEvent(new common.Message('{}'));
  expect(await telemetryFrom(site.cloud, id)).toHaveLength(1);
});

test('a document cannot lead a device to the hub: the name of the gateway is proven by its certificate', async () => {
  const document = await onboard(newId());
  const astray = {
    ...document,
    gateway: { ...document.gateway, ports: { mqtt: site.cloud.hub.mqttPort } },
    connectionString: document.connectionString.replace(
      /GatewayHostName=.*/,
      `GatewayHostName=localhost:${site.cloud.hub.mqttPort}`,
    ),
  };
  site.cloud.faults.resetCalls();
  await expect(connect({ document: astray })).rejects.toMatchObject({
    code: expect.stringMatching(/^chain_/),
    exitCode: 5,
  });
  expect(straightToTheHub()).toEqual([]);
});

test('a run outlives a new server certificate of its gateway', async () => {
  const id = newId();
  const document = await onboard(id);
  const input = new PassThrough();
  const log: string[] = [];
  const { signal } = new AbortController();
  const running = run({ document, input, log: (line) => log.push(line), signal, backoff: { firstMs: 20 } });
  input.write('{"n":1}\n');
  expect(await telemetryFrom(site.cloud, id)).toHaveLength(1);
  await site.gateway.replaceServerCertificate();
  // Connections that stand stay; this one is cut as by a restart of edgeHub.
  site.cloud.faults.add({ target: 'gateway', match: { method: 'PUBLISH' }, fault: { cut: 'before' }, times: 1 });
  input.end('{"n":2}\n');
  expect(await running).toMatchObject({ delivered: 2 });
  const proofs = log.filter((line) => line.startsWith('connected'));
  expect(proofs).toHaveLength(2);
  expect((await telemetryFrom(site.cloud, id, 2)).map(({ body }) => body)).toEqual([{ n: 1 }, { n: 2 }]);
});
