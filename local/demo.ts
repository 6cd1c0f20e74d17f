import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type LocalCloud, startCloud } from './cloud.ts';
import { DemoApi } from './demo/api.ts';
import { CallWatch } from './demo/calls.ts';
import { runDevice } from './demo/device.ts';
import { Narrator, withoutSecrets } from './demo/narrator.ts';
import { meetPeer } from './demo/peer.ts';
import type { Gateway } from './gateway/gateway.ts';

type ReceivedMessage = ReturnType<LocalCloud['hub']['received']>[number];

const deviceId = 'press-7';
const limitMs = 120_000;
/** As a shell reports a program that SIGINT ended. */
const interruptedCode = 130;

interface Stage {
  cloud: LocalCloud;
  api: DemoApi;
  calls: CallWatch;
  narrator: Narrator;
  folder: string;
  signal: AbortSignal;
}

interface OnboardingDocument {
  gateway: { id: string; hostname: string };
  connectionString: string;
  trust: { sequence: number; roots: { sha256: string; subject: string }[] };
}

/** The main job, from nothing to telemetry that arrived, and a move to another gateway. */
async function perform(narrator: Narrator, folder: string, signal: AbortSignal): Promise<void> {
  narrator.title('Gatepost: one call gives a device its trust, its identity and its way in.');
  narrator.say(
    'Everything you see happens on this machine: the backend as it is deployed, with the real Azure SDKs, and the real ' +
      'device SDK, against a cloud on your desk that speaks the wire protocols of Azure over real TLS.',
  );
  narrator.wire('->', 'a request');
  narrator.wire('<-', 'what came back, or arrived at the hub');
  narrator.wire('~>', 'what the parts of the cloud were asked meanwhile');
  narrator.quote('what a program printed');
  narrator.step('A cloud on the desk');
  const cloud = await startCloud({ directory: join(folder, 'cloud'), gateways: 1 });
  try {
    signal.throwIfAborted();
    introduce(cloud, narrator);
    const api = new DemoApi({ base: cloud.api, token: cloud.operatorToken, narrator, signal });
    const calls = new CallWatch(cloud.faults, narrator);
    const stage = { cloud, api, calls, narrator, folder, signal };
    const [first] = cloud.gateways;
    if (first === undefined) throw new Error('The cloud has no gateway.');
    await trustAndRegister(stage, first);
    await onboard(stage, first);
    await joinAndRun(stage, first, [21.4, 21.6, 21.9]);
    const second = await cloud.addGateway();
    await move(stage, first, second);
    await joinAndRun(stage, second, [22.3, 22.1]);
    summarize(stage);
  } finally {
    await cloud.close();
  }
}

function introduce({ hub, vault, entra, gateways, api }: LocalCloud, narrator: Narrator): void {
  narrator.fact('IoT Hub', `${hub.hostname} at 127.0.0.1:${hub.port}, MQTT ${hub.mqttPort}`);
  narrator.fact('Key Vault', `${new URL(vault.url).hostname} at 127.0.0.1:${vault.port}`);
  narrator.fact('Entra ID', new URL(entra.issuer).origin);
  narrator.fact('Storage', 'Azurite: tables, queues, blobs');
  for (const { id, hostname, ports } of gateways) {
    narrator.fact('IoT Edge', `gateway ${id}, MQTT over TLS at ${hostname}:${ports.mqtt}`);
  }
  narrator.fact('Gatepost API', api);
}

async function trustAndRegister({ api, calls, narrator }: Stage, gateway: Gateway): Promise<void> {
  const root = new X509Certificate(gateway.root);
  calls.skip();
  narrator.step(`The operator imports the root of ${gateway.id}`);
  narrator.because(`Devices must trust ${root.subject}, to which the gateway's certificate chains.`);
  const name = `${gateway.id}-root`;
  await api.call({ method: 'POST', path: '/api/v1/roots', body: { name, pem: gateway.root } });
  calls.tell(['vault', 'storage']);
  narrator.fact('SHA-256', `${fingerprint(gateway).slice(0, 32)}…`);

  narrator.step(`and registers ${gateway.id} as a gateway`);
  const body = { hostname: gateway.hostname, ports: { mqtt: gateway.ports.mqtt } };
  const made = await api.call<{ deviceScope: string }>({ method: 'PUT', path: gatewayPath(gateway), body });
  calls.tell(['hub']);
  narrator.fact('device scope', made.deviceScope);
}

async function onboard({ api, calls, narrator }: Stage, gateway: Gateway): Promise<void> {
  narrator.step(`One call onboards the device ${deviceId}`);
  narrator.because('Identity and parent link are one write to the registry, before any credential leaves it.');
  const path = `/api/v1/devices/${deviceId}/onboard`;
  const document = await api.call<OnboardingDocument>({ method: 'POST', path, body: { gateway: gateway.id } });
  calls.tell(['hub']);
  narrator.fact(
    'trust',
    `sequence ${document.trust.sequence}, ${document.trust.roots.map((r) => r.subject).join('; ')}`,
  );
  narrator.fact('identity', deviceId);
  narrator.fact('way in', `${document.gateway.id} at ${document.gateway.hostname}`);
  narrator.because(withoutSecrets(document.connectionString));
}

async function joinAndRun(stage: Stage, gateway: Gateway, temperatures: number[]): Promise<void> {
  const { cloud, api, calls, narrator, signal } = stage;
  const isFirst = gateway === cloud.gateways[0];
  narrator.step(isFirst ? 'The device joins with a one-time token' : 'The device joins once more');
  if (!isFirst) narrator.because('Its document still names the old gateway and trusts the old root only.');
  const path = `/api/v1/devices/${deviceId}/join-token`;
  const { token } = await api.call<{ token: string }>({ method: 'POST', path, body: {} });
  calls.tell(['hub', 'storage']);
  narrator.because(`The token is ${token.slice(0, 4)}…; only its SHA-256 is stored. On the device:`);
  const state = join(stage.folder, 'device');
  const parameters = ['join', '--api', cloud.api, '--root-sha256', fingerprint(gateway), '--state', state];
  narrator.quote(
    `$ gatepost-device ${parameters.slice(0, 3).join(' ')} --root-sha256 ${fingerprint(gateway).slice(0, 8)}…`,
  );
  await runDevice({ parameters, environment: { GATEPOST_JOIN_TOKEN: token }, narrator, signal }).ended;
  calls.tell(['hub', 'storage']);

  narrator.step(`and runs through ${gateway.id}`);
  await meet(stage, gateway);
  calls.skip();
  const before = cloud.hub.received().length;
  narrator.quote('$ sensor | gatepost-device run');
  const device = runDevice({ parameters: ['run', '--state', state], narrator, signal });
  for (const temperature of temperatures) device.input(`${JSON.stringify({ temperature })}\n`);
  device.input();
  await device.ended;
  const arrived = await arrivals(cloud, before, temperatures.length, signal);
  calls.tell(['gateway']);
  for (const message of arrived) {
    const body = Buffer.from(message.body, 'base64').toString('utf8');
    narrator.wire('<-', `IoT Hub received ${body} from ${message.deviceId} by way of ${message.gatewayId}`);
    if (message.deviceId !== deviceId || message.gatewayId !== gateway.id) {
      throw new Error(`Telemetry came from ${message.deviceId} by way of ${message.gatewayId}, not of ${gateway.id}.`);
    }
  }
}

async function meet({ narrator }: Stage, gateway: Gateway): Promise<void> {
  const peer = await meetPeer({ host: gateway.hostname, port: gateway.ports.mqtt }, gateway.root);
  narrator.because(`What answers at ${gateway.hostname}:${gateway.ports.mqtt}, to one who trusts that root only:`);
  narrator.fact('TLS', `${peer.protocol}, ${peer.cipher}`);
  for (const [n, subject] of peer.chain.entries()) narrator.fact(n === 0 ? 'peer' : 'signed by', subject);
}

async function move(stage: Stage, first: Gateway, second: Gateway): Promise<void> {
  const { api, calls, narrator } = stage;
  narrator.title(`${first.id} is replaced: the device moves to ${second.id}`);
  narrator.because(`It has a root of its own, and listens on ${second.hostname}:${second.ports.mqtt}.`);
  await trustAndRegister(stage, second);
  narrator.step('A second PUT moves the device');
  await api.call({ method: 'PUT', path: `/api/v1/devices/${deviceId}`, body: { gateway: second.id } });
  calls.tell(['hub']);
  narrator.because(
    `${first.id} may let the device in for up to an hour (edgeHub caches its scope), but the hub takes nothing by that ` +
      `way any more. ${second.id} does not know it, and asks the hub when it comes.`,
  );
}

function summarize({ cloud, narrator }: Stage): void {
  const ways = Object.entries(Object.groupBy(cloud.hub.received(), ({ gatewayId }) => gatewayId ?? 'no gateway'));
  const counts = ways.map(([gateway, messages = []]) => `${messages.length} by way of ${gateway}`);
  narrator.success(`Done in ${narrator.seconds.toFixed(0)} s: the hub received ${counts.join(', ')}.`);
  narrator.say('Next: npm test proves it, npm start keeps the cloud up for you to try.');
}

async function arrivals(
  cloud: LocalCloud,
  from: number,
  count: number,
  signal: AbortSignal,
): Promise<ReceivedMessage[]> {
  const deadline = Date.now() + 15_000;
  for (;;) {
    const arrived = cloud.hub.received().slice(from);
    if (arrived.length >= count) return arrived;
    if (Date.now() > deadline) throw new Error(`The hub received ${arrived.length} of ${count} messages.`);
    await sleep(50, undefined, { signal });
  }
}

function fingerprint(gateway: Gateway): string {
  return new X509Certificate(gateway.root).fingerprint256.replaceAll(':', '').toLowerCase();
}

function gatewayPath({ id }: Gateway): string {
  return `/api/v1/gateways/${id}`;
}

function explain(error: unknown, interrupted: AbortSignal, limit: AbortSignal): string {
  if (interrupted.aborted) return 'Interrupted; everything was stopped and removed.';
  const what = limit.aborted
    ? `it took longer than ${limitMs / 1000} s`
    : error instanceof Error
      ? error.message
      : String(error);
  return `The demonstration failed: ${withoutSecrets(what)}`;
}

async function main(): Promise<number> {
  const narrator = new Narrator({ stream: process.stdout });
  const interrupted = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort());
  const limit = AbortSignal.timeout(limitMs);
  let folder: string | undefined;
  try {
    folder = mkdtempSync(join(tmpdir(), 'gatepost-demo-'));
    await perform(narrator, folder, AbortSignal.any([interrupted.signal, limit]));
    return 0;
  } catch (error) {
    narrator.failure(explain(error, interrupted.signal, limit));
    return interrupted.signal.aborted ? interruptedCode : 1;
  } finally {
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  }
}

process.exitCode = await main();
