import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gatepostDevice, timeProgram } from './device/program.ts';
import { installedSize, sizeOfPackages } from './device/size.ts';
import { type FirstTelemetry, ours, plain, timeTelemetry } from './device/telemetry.ts';
import type { Bench } from './kit/bench.ts';
import { type Call, caller, startFleet } from './kit/fleet.ts';
import { median, table } from './kit/numbers.ts';

type Fleet = Awaited<ReturnType<typeof startFleet>>;

interface Pair<T> {
  plain: T;
  ours: T;
}

interface Site {
  fleet: Fleet;
  call: Call;
  /** A folder that goes when the bench ends. */
  folder: string;
  /** SHA-256 of the gateway's root. */
  pin: string;
}

const [joiner, runner, sampler] = ['bench-joiner', 'bench-runner', 'bench-sampler'];
const idleMs = 1_000;

export const device: Bench = {
  name: 'device',
  about: 'gatepost-device as a program, against plain Node and against a sample of the SDK on the same gateway',
  async run({ smoke, print }) {
    const rounds = (number: number) => (smoke ? 1 : number);
    const site = await startBenchSite();
    try {
      const version = await inTurn(rounds(31), {
        plain: () => timeProgram(['-e', '0']),
        ours: () => timeProgram([gatepostDevice, '--version']),
      });
      const join = await timeJoin(site, rounds(15));
      const runs = await timeRun(site, rounds(15), smoke ? 0 : idleMs);
      const telemetry = runs.map((run) => pick(run, ({ arrived }) => arrived));
      const memory = runs.map((run) => pick(run, ({ resident }) => resident));
      const size = [{ plain: sizeOfPackages(['azure-iot-device', 'azure-iot-device-mqtt']), ours: installedSize() }];
      const megabytes = size.map((each) => pick(each, ({ bytes }) => bytes / 1e6));
      const packages = size.map((each) => pick(each, (installed) => installed.packages));
      const rows = [
        row('`--version`, against `node -e 0`', version, (value) => `${value.toFixed(0)} ms`),
        row('`join` to stored document, against two bare requests', join, (value) => `${value.toFixed(0)} ms`),
        row('`run` to telemetry that the hub has', telemetry, (value) => `${value.toFixed(0)} ms`),
        row('memory of `run`, connected', memory, (value) => `${value.toFixed(0)} MB`),
        row('installed', megabytes, (value) => `${value.toFixed(1)} MB`),
        row('installed packages', packages, (value) => value.toFixed(0)),
      ];
      print(table(['median', 'plain', 'gatepost-device', 'ratio'], rows));
      const [ofRun, ofMemory] = [ratio(telemetry), ratio(memory)];
      return {
        summary:
          `run to first telemetry takes ${ofRun.toFixed(2)} times as long as the sample of the SDK (aim 1.2, at most 1.5), ` +
          `in ${ofMemory.toFixed(2)} times the memory (at most 1.5)`,
        good: ofRun <= 1.5 && ofMemory <= 1.5,
      };
    } finally {
      rmSync(site.folder, { recursive: true, force: true });
      await site.fleet.close();
    }
  },
};

/** A fleet whose gateway is registered with the port that it really has, and three devices behind it. */
async function startBenchSite(): Promise<Site> {
  const fleet = await startFleet();
  const folder = mkdtempSync(join(tmpdir(), 'gatepost-bench-'));
  try {
    const [gateway] = fleet.gateways;
    if (gateway === undefined) throw new Error('The cloud has no gateway.');
    const call = caller(fleet);
    const { id, hostname, ports, root } = gateway;
    await call('PUT', `/api/v1/gateways/${id}`, { hostname, ports: { mqtt: ports.mqtt } });
    for (const each of [joiner, runner, sampler]) {
      await call('POST', `/api/v1/devices/${each}/onboard`, { gateway: id });
    }
    writeFileSync(join(folder, 'root.pem'), root);
    return { fleet, call, folder, pin: new X509Certificate(root).fingerprint256 };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    await fleet.close();
    throw error;
  }
}

/** One after the other, and who begins changes: what the machine does besides hits both alike. The first round warms up. */
async function inTurn<T>(rounds: number, work: Pair<(round: number) => Promise<T>>): Promise<Pair<T>[]> {
  const pairs: Pair<T>[] = [];
  for (let round = 0; round <= rounds; round++) {
    const first = round % 2 === 0 ? await work.plain(round) : undefined;
    const own = await work.ours(round);
    const other = first ?? (await work.plain(round));
    if (round > 0) pairs.push({ plain: other, ours: own });
  }
  return pairs;
}

function timeJoin(site: Site, rounds: number): Promise<Pair<number>[]> {
  const { fleet } = site;
  return inTurn(rounds, {
    plain: async () => {
      const program = join(import.meta.dirname, 'device/plain-join.mjs');
      return timeProgram([program, fleet.api, await joinToken(site, joiner)]);
    },
    ours: (round) => joinInto(site, joiner, join(site.folder, `joined-${round}`)),
  });
}

async function timeRun(site: Site, rounds: number, idle: number): Promise<Pair<FirstTelemetry>[]> {
  const { fleet, call, folder } = site;
  const state = join(folder, 'runner');
  await joinInto(site, runner, state);
  const { connectionString } = (await call('POST', `/api/v1/devices/${sampler}/connection-string`, {
    credential: 'key',
  })) as { connectionString: string };
  const senders = {
    plain: plain(connectionString, join(folder, 'root.pem'), sampler),
    ours: ours(state, runner),
  };
  return inTurn(rounds, {
    plain: () => timeTelemetry(fleet, senders.plain, idle),
    ours: () => timeTelemetry(fleet, senders.ours, idle),
  });
}

/** Milliseconds for `join`, which has stored the document then. */
async function joinInto(site: Site, deviceId: string, state: string): Promise<number> {
  const env = { GATEPOST_JOIN_TOKEN: await joinToken(site, deviceId) };
  const parameters = ['join', '--api', site.fleet.api, '--root-sha256', site.pin, '--state', state];
  const took = await timeProgram([gatepostDevice, ...parameters], env);
  const { device } = JSON.parse(readFileSync(join(state, 'document.json'), 'utf8'));
  if (device.id !== deviceId) throw new Error(`${deviceId} has stored the document of ${device.id}.`);
  return took;
}

async function joinToken({ call }: Site, deviceId: string): Promise<string> {
  const { token } = (await call('POST', `/api/v1/devices/${deviceId}/join-token`, {})) as { token: string };
  return token;
}

function pick<T, U>(pair: Pair<T>, part: (value: T) => U): Pair<U> {
  return { plain: part(pair.plain), ours: part(pair.ours) };
}

/** The median of the ratios of the pairs: each was measured in the same weather. */
function ratio(pairs: Pair<number>[]): number {
  return median(pairs.map(({ plain, ours }) => ours / plain));
}

function row(what: string, pairs: Pair<number>[], show: (value: number) => string): string[] {
  const [other, own] = [median(pairs.map(({ plain }) => plain)), median(pairs.map(({ ours }) => ours))];
  return [what, show(other), show(own), ratio(pairs).toFixed(2)];
}
