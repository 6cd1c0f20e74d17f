import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import common from 'azure-iot-common';
import iothub from 'azure-iothub';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import manifest from '../../device/package.json' with { type: 'json' };
import { connect } from '../../device/src/connect.ts';
import type { OnboardingDocument } from '../../device/src/document.ts';
import { join as joinDevice } from '../../device/src/join.ts';
import { Keeper } from '../../device/src/keeper.ts';
import { Listener } from '../../device/src/listen.ts';
import { type Protocol, protocols } from '../../device/src/protocol.ts';
import { type RunOptions, run } from '../../device/src/run.ts';
import { readDocument, storeDocument } from '../../device/src/state.ts';
import { selfSigned } from '../../local/kit/certificates.ts';
import { expectStatus, type Site, startSite, telemetryFrom } from '../e2e/support.ts';
import { useAgent } from '../local/hub/support.ts';
import { newId } from '../support/cloud.ts';
import { temporaryFolder, trustedRoot, until } from './support.ts';

// The real API, the hub and the edgeHub double with all three of its listeners; the device side as a service runs it.
let site: Site;
let agent: Agent;

beforeAll(async () => {
  site = await startSite();
  const { hostname, id, ports } = site.gateway;
  expectStatus(await site.operator('PUT', `/gateways/${id}`, { hostname, ports: { ...ports } }), 200);
  agent = new Agent({
    keepAlive: true,
    ca: readFileSync(site.cloud.contract.hub.caFile),
    host: '127.0.0.1',
    port: site.cloud.hub.port,
  } as never);
});

afterAll(async () => {
  agent?.destroy();
  await site?.cloud.close();
});

async function onboard(deviceId: string, body: object = {}): Promise<OnboardingDocument> {
  const answer = await site.operator('POST', `/devices/${deviceId}/onboard`, { gateway: site.gateway.id, ...body });
  return expectStatus(answer, 200, 201).body as OnboardingDocument;
}

/** A state folder as join leaves it, with the address of the API. */
async function stateOf(document: OnboardingDocument): Promise<string> {
  const state = temporaryFolder();
  const origin = { api: `${site.cloud.api}/`, rootSha256: null, joinedAt: '2026-01-01T00:00:00.000Z' };
  await storeDocument(state, { document, origin });
  return state;
}

interface Service {
  input: PassThrough;
  log: string[];
  keeper: Keeper;
  stop(): Promise<unknown>;
}

async function start(state: string, options: Partial<RunOptions> = {}): Promise<Service> {
  const input = new PassThrough();
  const log: string[] = [];
  const stopping = new AbortController();
  const document = await readDocument(state);
  const keeper = await Keeper.start({ document, state, log: (line) => log.push(line), shortestMs: 50 });
  const running = run({
    document,
    keeper,
    input,
    log: (line) => log.push(line),
    signal: stopping.signal,
    backoff: { firstMs: 20, ceilingMs: 200 },
    ...options,
  });
  running.catch(() => {});
  const stop = () => {
    stopping.abort();
    return running.finally(() => keeper.stop());
  };
  onTestFinished(() =>
    stop().then(
      () => {},
      () => {},
    ),
  );
  return { input, log, keeper, stop };
}

function serviceClient() {
  const client = iothub.Client.fromConnectionString(site.cloud.hub.connectionString);
  useAgent(client, agent);
  client.setRetryPolicy(new common.NoRetry());
  return client;
}

function registry() {
  const found = iothub.Registry.fromConnectionString(site.cloud.hub.connectionString);
  useAgent(found, agent);
  return found;
}

const straightToTheHub = () =>
  Object.entries(site.cloud.faults.calls().hub).filter(([call]) => call.startsWith('CONNECT'));

const cases = protocols.flatMap((protocol) =>
  (['key', 'sas', 'x509'] as const).map((credential): [Protocol, 'key' | 'sas' | 'x509'] => [protocol, credential]),
);

test.each(cases)(
  'over %s a device with a credential of kind %s arrives by way of the gateway only',
  async (protocol, credential) => {
    const id = newId(credential);
    const own = await selfSigned({ commonName: id, ca: false, usages: ['clientAuth'] });
    const primaryThumbprint = trustedRoot(own.certificate).sha256.toUpperCase();
    const auth = credential === 'x509' ? { type: 'selfSigned', primaryThumbprint } : { type: 'sas' };
    const document = await onboard(id, { credential, auth });
    site.cloud.faults.resetCalls();
    const certificate = { certificate: own.certificate, key: own.privateKey };
    const client = await connect({ document, protocol, certificate });
    onTestFinished(() => client.close().then(() => {}));
    await client.sendEvent(new common.Message(JSON.stringify({ protocol })));
    expect(await telemetryFrom(site.cloud, id)).toEqual([
      { body: { protocol }, gatewayId: site.gateway.id, moduleId: null },
    ]);
    expect(straightToTheHub()).toEqual([]);
  },
);

test.each(protocols)('over %s a device that was disabled is told that it is refused', async (protocol) => {
  const id = newId();
  const document = await onboard(id);
  const disabled = { gateway: site.gateway.id, auth: { type: 'sas' }, enabled: false };
  expectStatus(await site.operator('PUT', `/devices/${id}`, disabled), 200);
  await expect(connect({ document, protocol })).rejects.toMatchObject({ code: 'credential_refused', exitCode: 9 });
});

test.each(['mqtt', 'amqp'] as const)(
  'over %s what the cloud says comes out as lines of JSON, and methods are answered',
  async (protocol) => {
    const id = newId();
    const folder = temporaryFolder();
    const command = join(folder, 'answer');
    writeFileSync(command, '#!/bin/sh\nread -r payload\n[ "$1" = fail ] && exit 3\necho "{\\"you\\": $payload}"\n');
    chmodSync(command, 0o755);
    const printed: { kind: string; [name: string]: unknown }[] = [];
    const log: string[] = [];
    const listener = new Listener({
      print: (line) => printed.push(JSON.parse(line)),
      log: (line) => log.push(line),
      command,
    });
    const service = await start(await stateOf(await onboard(id)), { protocol, listener });
    await until(() => service.log.some((line) => line.startsWith('connected')), 'it is connected');
    site.cloud.hub.sendCloudToDevice(id, { properties: { colour: 'red' }, body: Buffer.from('{"set":21}') });
    await until(() => printed.length === 1, 'the message came');
    expect(printed[0]).toMatchObject({ kind: 'message', properties: { colour: 'red' }, body: { set: 21 } });
    const call = (methodName: string) =>
      serviceClient()
        .invokeDeviceMethod(id, {
          methodName,
          payload: { n: 1 },
          responseTimeoutInSeconds: 10,
          connectTimeoutInSeconds: 10,
        })
        .then(({ result }) => result);
    expect(await call('reboot')).toEqual({ status: 200, payload: { you: { n: 1 } } });
    expect(await call('fail')).toEqual({ status: 500, payload: { error: 'the program ended with exit code 3' } });
    expect(printed.slice(1)).toMatchObject([
      { kind: 'method', name: 'reboot', payload: { n: 1 } },
      { kind: 'method', name: 'fail' },
    ]);
  },
);

test('a method that nobody answers is answered with 501 at once', async () => {
  const id = newId();
  const printed: string[] = [];
  const listener = new Listener({ print: (line) => printed.push(line), log: () => {} });
  const service = await start(await stateOf(await onboard(id)), { listener });
  await until(() => service.log.some((line) => line.startsWith('connected')), 'it is connected');
  await until(() => site.gateway.connected().includes(id), 'the gateway knows it');
  const { result } = await serviceClient().invokeDeviceMethod(id, {
    methodName: 'reboot',
    responseTimeoutInSeconds: 10,
    connectTimeoutInSeconds: 10,
  });
  expect(result).toMatchObject({ status: 501 });
  expect(printed).toHaveLength(1);
});

test('a leaf without Internet learns new roots through its gateway, connects with them, and says so in its twin', async () => {
  const id = newId();
  const document = await onboard(id);
  const state = await stateOf(document);
  const service = await start(state);
  const hub = registry();
  const reported = async () => (await hub.getTwin(id)).responseBody.properties.reported.gatepost?.trust;
  await until(() => service.log.some((line) => line.startsWith('connected')), 'it is connected');
  await eventually(async () => expect(await reported()).toMatchObject({ sequence: document.trust.sequence }));
  const another = await selfSigned({ commonName: 'The next root of the plant' });
  const sequence = document.trust.sequence + 1;
  const roots = [...document.trust.roots, trustedRoot(another.certificate)].map(({ sha256, pem }) => ({ sha256, pem }));
  const trust = { sequence, refreshHintSeconds: 3600, roots };
  await hub.updateTwin(id, { properties: { desired: { gatepost: { trust } } } }, '*');
  await until(
    () => service.log.some((line) => line.includes(`sequence ${sequence} installed, 2 roots`)),
    'it was installed',
  );
  await until(() => service.log.filter((line) => line.startsWith('connected')).length === 2, 'it connected anew');
  await eventually(async () =>
    expect(await reported()).toEqual({
      sequence,
      installedAt: expect.stringMatching(/^20/),
      version: manifest.version,
    }),
  );
  expect((await readDocument(state)).trust.roots).toHaveLength(2);
  service.input.write('{"after":"rotation"}\n');
  expect(await telemetryFrom(site.cloud, id)).toHaveLength(1);
  // A root less: the list in the twin is shorter, and so is what is installed.
  const less = { ...trust, sequence: sequence + 1, roots: roots.slice(0, 1) };
  await hub.updateTwin(id, { properties: { desired: { gatepost: { trust: less } } } }, '*');
  await until(
    () => service.log.some((line) => line.includes(`sequence ${sequence + 1} installed, 1 root`)),
    'one is gone',
  );
  expect((await readDocument(state)).trust.roots).toHaveLength(1);
  // An older one is refused, with a line.
  await hub.updateTwin(id, { properties: { desired: { gatepost: { trust } } } }, '*');
  await until(() => service.log.some((line) => line.includes('an older bundle is not installed')), 'it was refused');
  expect((await readDocument(state)).trust.sequence).toBe(sequence + 1);
});

test('a SAS-only service lives on fresh tokens of the real API', async () => {
  const id = newId();
  const document = await onboard(id, { credential: 'sas', ttlSeconds: 300 });
  const state = await stateOf(document);
  const log: string[] = [];
  const now = () => new Date(Date.now() + 299_000);
  const keeper = await Keeper.start({ document, state, log: (line) => log.push(line), shortestMs: 50, now });
  onTestFinished(() => keeper.stop());
  await until(() => keeper.document.connectionString !== document.connectionString, 'a fresh token came');
  keeper.stop();
  const client = await connect({ document: await readDocument(state) });
  await client.sendEvent(new common.Message('{}'));
  await client.close();
  expect(await telemetryFrom(site.cloud, id)).toHaveLength(1);
});

test('a device whose gateway was replaced finds the other one by itself', async () => {
  const id = newId();
  const second = await site.cloud.addGateway();
  expectStatus(await site.operator('POST', '/roots', { name: `root-of-${second.id}`, pem: second.root }), 200, 201);
  const body = { hostname: second.hostname, ports: { mqtt: second.ports.mqtt } };
  expectStatus(await site.operator('PUT', `/gateways/${second.id}`, body), 200, 201);
  const service = await start(await stateOf(await onboard(id)));
  await until(() => site.gateway.connected().includes(id), 'it is at the first');
  expectStatus(await site.operator('PUT', `/devices/${id}`, { gateway: second.id, auth: { type: 'sas' } }), 200);
  // Its scope has changed: the first gateway lets it go, and lets it in no more.
  await site.gateway.refreshScope();
  await until(() => second.connected().includes(id), 'it is at the second');
  expect(service.log.join('\n')).toMatch(new RegExp(`the gateway is now ${second.id}`));
});

test('connect() lives on: the client that stands learns new roots, and is warned of nothing', async () => {
  const id = newId();
  const document = await onboard(id);
  const state = await stateOf(document);
  const log: string[] = [];
  const client = await connect({ state, log: (line) => log.push(line) });
  onTestFinished(() => client.close().then(() => {}));
  const another = await selfSigned({ commonName: 'The next root of the plant' });
  const sequence = document.trust.sequence + 1;
  const roots = [...document.trust.roots, trustedRoot(another.certificate)].map(({ sha256, pem }) => ({ sha256, pem }));
  await registry().updateTwin(id, { properties: { desired: { gatepost: { trust: { sequence, roots } } } } }, '*');
  await until(() => log.some((line) => line.includes(`sequence ${sequence} installed`)), 'it was installed');
  await client.sendEvent(new common.Message('{}'));
  expect(await telemetryFrom(site.cloud, id)).toHaveLength(1);
  expect((await readDocument(state)).trust.sequence).toBe(sequence);
});

test('what join stores is what a service lives on: the address of the API is in it', async () => {
  const id = newId();
  await onboard(id);
  const answer = await site.operator('POST', `/devices/${id}/join-token`, { credential: 'sas' });
  const token = expectStatus(answer, 201).body.token as string;
  const state = temporaryFolder();
  const rootSha256 = trustedRoot(site.gateway.root).sha256;
  await joinDevice({ api: site.cloud.api, token, rootSha256, state });
  const service = await start(state);
  service.input.end('{"n":1}\n');
  expect(await telemetryFrom(site.cloud, id)).toHaveLength(1);
});

/** Until the assertion holds, at most five seconds. */
async function eventually(assertion: () => Promise<void>): Promise<void> {
  const end = Date.now() + 5_000;
  for (;;) {
    try {
      await assertion();
      return;
    } catch (error) {
      if (Date.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
