import { readFileSync, statSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { OnboardingDocument, TrustBundle } from '../../device/src/document.ts';
import { type Change, Keeper, type KeeperOptions } from '../../device/src/keeper.ts';
import { readDocument, readOrigin, storeDocument } from '../../device/src/state.ts';
import {
  type ApiDouble,
  type DocumentParts,
  deviceKey,
  gatewayPki,
  onboardingDocument,
  sasToken,
  startApi,
  temporaryFolder,
  trustedRoot,
  until,
} from './support.ts';

const pki = await gatewayPki();
const other = await gatewayPki();
const hub = 'hub.azure-devices.net';
const sas = (seconds: number) => `SharedAccessSignature=${sasToken(hub, 'sensor-1', seconds)}`;

interface Kept {
  keeper: Keeper;
  state: string;
  log: string[];
  changes: Change['what'][];
}

async function keep(
  api: string | null,
  parts: Partial<DocumentParts>,
  options: Partial<KeeperOptions> = {},
): Promise<Kept> {
  const state = temporaryFolder();
  const document = onboardingDocument({ roots: [pki.root.certificate], port: 8883, ...parts });
  const origin = { api, rootSha256: null, joinedAt: '2026-01-01T00:00:00.000Z' };
  await storeDocument(state, { document, origin });
  const log: string[] = [];
  const changes: Change['what'][] = [];
  const keeper = await Keeper.start({
    document,
    state,
    log: (line) => log.push(line),
    shortestMs: 20,
    apiOptions: { attempts: 1 },
    ...options,
  });
  onTestFinished(() => keeper.stop());
  keeper.onChange(({ what }) => changes.push(what));
  return { keeper, state, log, changes };
}

/** Answers JSON where the path matches, and remembers who asked. */
function answering(
  api: ApiDouble,
  path: RegExp,
  answer: (request: IncomingMessage) => [number, object, object?],
): string[] {
  const proofs: string[] = [];
  const before = api.intercept;
  api.intercept = (request: IncomingMessage, response: ServerResponse) => {
    if (!path.test(request.url ?? '')) return before(request, response);
    proofs.push(request.headers.authorization ?? '');
    const [status, body, headers] = answer(request);
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    return true;
  };
  return proofs;
}

const gateway = { id: 'gateway-1', hostname: 'localhost', ports: { mqtt: 8883, amqp: null, websocket: null } };
const bundle = (sequence: number, roots: string[], refreshHintSeconds = 0.05): TrustBundle => ({
  sequence,
  refreshHintSeconds,
  roots: roots.map(trustedRoot),
});

test('a SAS-only device fetches a fresh token long before the old one ends, proves itself by it, and stores it', async () => {
  const api = await startApi({ roots: [pki.root.certificate] });
  const fresh = sasToken(hub, 'sensor-1', 3600);
  const old = sas(1);
  const proofs = answering(api, /sas-token$/, () => [
    200,
    { sasToken: fresh, expiresAt: '', hub: { hostname: hub }, gateway },
  ]);
  const { keeper, state, changes } = await keep(api.url, { credential: old }, { random: () => 0 });
  await until(() => changes.includes('token'), 'the token was renewed');
  expect(proofs).toEqual([old.replace('SharedAccessSignature=', '')]);
  expect(keeper.document.connectionString).toContain(fresh);
  const stored = await readDocument(state);
  expect(stored.connectionString).toBe(keeper.document.connectionString);
  expect(stored.connectionString).toContain('GatewayHostName=localhost');
  expect(Date.parse(stored.expiresAt ?? '')).toBeGreaterThan(Date.now() + 3_000_000);
  expect(statSync(join(state, 'document.json')).mode & 0o777).toBe(0o600);
});

test('while the backend is away the old token stays, its absence is one line, and its end another one', async () => {
  const api = await startApi({ roots: [pki.root.certificate] });
  let isAway = true;
  answering(api, /sas-token$/, () =>
    isAway ? [503, {}] : [200, { sasToken: sasToken(hub, 'sensor-1', 3600), hub: { hostname: hub }, gateway }],
  );
  const { keeper, log, changes } = await keep(api.url, { credential: sas(4) }, { random: () => 0 });
  const first = keeper.document.connectionString;
  await until(() => log.some((line) => line.includes('no fresh SAS token yet')), 'it failed');
  expect(keeper.document.connectionString).toBe(first);
  await until(() => log.some((line) => line.includes('the SAS token ended at')), 'it ended');
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(log.filter((line) => line.includes('SAS token'))).toHaveLength(2);
  expect(log.join('\n')).not.toMatch(/sig=|SharedAccessSignature/);
  isAway = false;
  await until(() => changes.includes('token'), 'it was renewed');
  expect(log.at(-1)).toBe('the Gatepost API gives tokens again');
});

test('a device with a key asks for no tokens', async () => {
  const api = await startApi({ roots: [pki.root.certificate] });
  await keep(api.url, {}, { random: () => 0 });
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(api.requests.filter((each) => each.includes('sas-token'))).toEqual([]);
});

test('trust is polled with its ETag, and a newer bundle is installed file by file', async () => {
  const api = await startApi({ roots: [] });
  const tags: (string | undefined)[] = [];
  let served = bundle(7, [pki.root.certificate]);
  answering(api, /trust-bundle\?/, (request) => {
    tags.push(request.headers['if-none-match']);
    const etag = `"${served.sequence}"`;
    return request.headers['if-none-match'] === etag ? [304, {}] : [200, served, { etag }];
  });
  const hinted = onboardingDocument({ roots: [pki.root.certificate], port: 8883 });
  expect(hinted.trust.refreshHintSeconds).toBe(3600);
  const { keeper, state, changes, log } = await keep(api.url, {}, { random: () => 0 });
  await until(() => tags.length >= 3, 'it was polled');
  expect(tags.slice(0, 3)).toEqual([undefined, '"7"', '"7"']);
  expect(changes).toEqual([]);
  served = bundle(8, [pki.root.certificate, other.root.certificate]);
  await until(() => changes.includes('trust'), 'the new bundle was installed');
  expect(keeper.document.trust.sequence).toBe(8);
  expect((await readDocument(state)).trust.roots).toHaveLength(2);
  expect(readFileSync(join(state, 'roots.pem'), 'utf8')).toContain(other.root.certificate.trim());
  expect((await readOrigin(state))?.trust?.sequence).toBe(8);
  expect(keeper.acknowledgement).toEqual({ sequence: 8, installedAt: (await readOrigin(state))?.trust?.installedAt });
  expect(log).toEqual([`trust: sequence 8 installed, 2 roots, from ${api.url}`]);
});

const wrong = bundle(9, [other.root.certificate]);
test.each<[string, unknown, RegExp]>([
  ['an empty one', { ...wrong, roots: [] }, /has no roots/],
  ['a lower sequence', { ...wrong, sequence: 6 }, /sequence 6, which is below 7/],
  ['the same sequence with other roots', { ...wrong, sequence: 7 }, /sequence 7 of what is installed, and other roots/],
  [
    'a root that is not what its fingerprint says',
    { ...wrong, roots: [{ ...wrong.roots[0], sha256: '0'.repeat(64) }] },
    /fingerprint/,
  ],
  ['an intermediate', bundle(9, [other.edgeCa.certificate]), /intermediate/],
  ['something else', 'roots', /not a JSON object/],
])('of a bundle, %s is refused, and the last good one stays', async (_name, offered, reason) => {
  const { keeper, state, log, changes } = await keep(null, {});
  expect(await keeper.offerTrust(offered, 'a test')).toBe('refused');
  expect(log).toEqual([expect.stringMatching(/what came from a test was refused, sequence 7 stays\./)]);
  expect(log[0]).toMatch(reason);
  expect(changes).toEqual([]);
  expect((await readDocument(state)).trust).toEqual(keeper.document.trust);
  expect(keeper.document.trust.roots[0]?.pem).toBe(pki.root.certificate);
});

test('the bundle that is installed already is no change', async () => {
  const { keeper, log, changes } = await keep(null, {});
  expect(await keeper.offerTrust(bundle(7, [pki.root.certificate]), 'a test')).toBe('same');
  expect([log, changes]).toEqual([[], []]);
});

test('a gateway that cannot be reached makes it ask the API, which names another; the key of the device is kept', async () => {
  const api = await startApi({ roots: [pki.root.certificate] });
  const moved = onboardingDocument({
    roots: [pki.root.certificate],
    port: 8884,
    host: 'gw2.example',
    credential: sas(3600),
  });
  moved.gateway.id = 'gateway-2';
  const proofs = answering(api, /onboarding$/, () => [200, moved]);
  const { keeper, state, log, changes } = await keep(api.url, {});
  await keeper.inDoubt();
  await until(() => changes.includes('gateway'), 'it moved');
  expect(proofs[0]).toMatch(/^SharedAccessSignature sr=hub\.azure-devices\.net%2Fdevices%2Fsensor-1&sig=/);
  expect(keeper.document.connectionString).toBe(
    `HostName=${hub};DeviceId=sensor-1;SharedAccessKey=${deviceKey};GatewayHostName=gw2.example:8884`,
  );
  expect((await readDocument(state)).gateway.id).toBe('gateway-2');
  expect(log).toEqual(['the gateway is now gateway-2 at gw2.example: connecting there']);
});

test('a device that was moved learns it with its next token', async () => {
  const api = await startApi({ roots: [pki.root.certificate] });
  const there = { id: 'gateway-2', hostname: 'gw2.example', ports: { mqtt: 8884, amqp: null, websocket: null } };
  answering(api, /sas-token$/, () => [
    200,
    { sasToken: sasToken(hub, 'sensor-1', 60), hub: { hostname: hub }, gateway: there },
  ]);
  const { keeper, changes } = await keep(api.url, { credential: sas(1) }, { random: () => 0 });
  await until(() => changes.includes('gateway'), 'it moved');
  expect(keeper.document.connectionString).toMatch(/GatewayHostName=gw2\.example:8884$/);
});

test('doubts that come in a row do not storm the API', async () => {
  const api = await startApi({ roots: [pki.root.certificate] });
  answering(api, /onboarding$/, () => [503, {}]);
  const { keeper } = await keep(api.url, {}, { shortestMs: 100 });
  const end = Date.now() + 500;
  while (Date.now() < end) {
    await keeper.inDoubt();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  expect(api.requests.filter((each) => each.includes('onboarding')).length).toBeLessThanOrEqual(6);
});

test('what another process stored in the meantime is taken up when something does not work', async () => {
  const { keeper, state, changes } = await keep(null, { credential: sas(-10) });
  const document: OnboardingDocument = onboardingDocument({
    roots: [pki.root.certificate],
    port: 8883,
    credential: sas(3600),
  });
  await storeDocument(state, {
    document,
    origin: { api: null, rootSha256: null, joinedAt: '2026-02-01T00:00:00.000Z' },
  });
  await keeper.renewExpired();
  expect(keeper.document.connectionString).toBe(document.connectionString);
  expect(changes).toEqual(['gateway']);
});

test('a clock that was set is noticed, said, and answered with a new connection', async () => {
  let offset = 0;
  const now = () => new Date(Date.now() + offset);
  const { log, changes } = await keep(null, {}, { now, clockMs: 10 });
  offset = -3_600_000;
  await until(() => changes.includes('clock'), 'it was noticed');
  expect(log[0]).toMatch(/set 3600 s back: connecting again/);
  offset += 5_000;
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(changes).toEqual(['clock']);
});

test('a folder that cannot be written is said, and what is new counts all the same', async () => {
  const { keeper, state, log } = await keep(null, {});
  const { rm, writeFile } = await import('node:fs/promises');
  await rm(state, { recursive: true });
  await writeFile(state, 'a file in place of the folder');
  expect(await keeper.offerTrust(bundle(8, [other.root.certificate]), 'a test')).toBe('installed');
  expect(log[0]).toMatch(/cannot be stored, and counts until this process ends/);
  expect(keeper.document.trust.sequence).toBe(8);
});
