import { X509Certificate } from 'node:crypto';
import { startFunctionsHost } from '../local/functions-host/host.ts';
import { plainApp } from './kit/apps.ts';
import type { Bench } from './kit/bench.ts';
import { deviceToken } from './kit/device-token.ts';
import { caller, deviceId, moduleId, rootName, startFleet } from './kit/fleet.ts';
import { LoadClient } from './kit/load.ts';
import { median, table } from './kit/numbers.ts';

const bundle = '/api/v1/trust-bundle';
const connections = 16;

type Fleet = Awaited<ReturnType<typeof startFleet>>;

export const throughput: Bench = {
  name: 'throughput',
  about: 'requests per second of every read, against a no-op function in the same host',
  async run({ smoke, print }) {
    const seconds = smoke ? 0.1 : 2;
    const rounds = smoke ? 1 : 3;
    const plain = await plainApp();
    const host = await startFunctionsHost({ directory: plain.directory });
    const fleet = await startFleet();
    const client = new LoadClient();
    const measure = (url: string, headers: Record<string, string> = {}) =>
      client.requestsPerSecond({ url, headers, seconds, connections });
    const measurePlain = () => measure(`${host.url}/noop`);
    try {
      await measurePlain();
      const rows: string[][] = [];
      let ofBundle = 0;
      for (const [path, headers] of await reads(fleet)) {
        await measure(`${fleet.api}${path}`, headers);
        const measured: { plain: number; ours: number }[] = [];
        // One after the other in turn: what the machine does besides hits both alike.
        for (let round = 0; round < rounds; round++) {
          const ours = await measure(`${fleet.api}${path}`, headers);
          measured.push({ plain: await measurePlain(), ours });
        }
        const ratio = median(measured.map(({ plain, ours }) => ours / plain));
        if (path === bundle) ofBundle = ratio;
        const [noop, ours] = [median(measured.map((each) => each.plain)), median(measured.map((each) => each.ours))];
        rows.push([`GET ${template(path, fleet)}`, noop.toFixed(0), ours.toFixed(0), ratio.toFixed(2)]);
      }
      print(table([`requests/s, ${connections} connections`, 'no-op', 'Gatepost', 'ratio'], rows));
      return {
        summary: `the trust bundle at ${ofBundle.toFixed(2)} of a no-op function (aim 0.8 or more)`,
        good: ofBundle >= 0.5,
      };
    } finally {
      client.close();
      await fleet.close();
      await host.close();
      plain.remove();
    }
  },
};

async function reads(fleet: Fleet): Promise<[path: string, headers: Record<string, string>][]> {
  const operator = { authorization: `Bearer ${fleet.operatorToken}` };
  const { connectionString } = (await caller(fleet)('POST', `/api/v1/devices/${deviceId}/connection-string`, {
    credential: 'key',
  })) as { connectionString: string };
  const device = { authorization: deviceToken(connectionString) };
  const sha256 = new X509Certificate(fleet.gateways[0]?.root ?? '').fingerprint256.replaceAll(':', '').toLowerCase();
  return [
    [bundle, {}],
    [`${bundle}?format=json`, {}],
    [`${bundle}?format=pkcs7`, {}],
    [`${bundle}/roots/${sha256}`, {}],
    ['/api/v1/health', {}],
    ['/api/v1/openapi.json', {}],
    ['/api/v1/ready', operator],
    ['/api/v1/roots', operator],
    [`/api/v1/roots/${rootName}`, operator],
    ['/api/v1/gateways', operator],
    [`/api/v1/gateways/${fleet.gatewayId}`, operator],
    [`/api/v1/gateways/${fleet.gatewayId}/devices`, operator],
    ['/api/v1/devices', operator],
    [`/api/v1/devices/${deviceId}`, operator],
    [`/api/v1/devices/${deviceId}/modules/${moduleId}`, operator],
    [`/api/v1/devices/${deviceId}/onboarding`, device],
  ];
}

function template(path: string, fleet: Fleet): string {
  return path
    .replace('/api/v1', '')
    .replace(deviceId, '{deviceId}')
    .replace(moduleId, '{moduleId}')
    .replace(rootName, '{name}')
    .replace(fleet.gatewayId, '{gatewayId}')
    .replace(/[0-9a-f]{64}/, '{sha256}');
}
