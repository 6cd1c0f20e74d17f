import { X509Certificate } from 'node:crypto';
import type { Bench } from './kit/bench.ts';
import { deviceToken } from './kit/device-token.ts';
import { type Call, caller, deviceId, moduleId, rootName, startFleet } from './kit/fleet.ts';
import { table } from './kit/numbers.ts';

type Fleet = Awaited<ReturnType<typeof startFleet>>;

interface Operation {
  name: string;
  run(): Promise<unknown>;
}

const newDevice = 'bench-device-2';

export const upstream: Bench = {
  name: 'upstream',
  about: 'calls to the services behind the API, per operation',
  async run({ print }) {
    const fleet = await startFleet();
    try {
      const rows: string[][] = [];
      let onboarding = 0;
      for (const { name, run } of await operations(fleet, caller(fleet))) {
        fleet.faults.resetCalls();
        await run();
        const calls = fleet.faults.calls();
        if (name === onboardNew) onboarding = count(calls.hub);
        rows.push([name, ...(['hub', 'vault', 'storage'] as const).map((target) => tell(calls[target]))]);
      }
      print(table(['operation', 'IoT Hub', 'Key Vault', 'Storage'], rows));
      return {
        summary: `onboarding a new device behind a known gateway costs the hub ${onboarding} call(s) (ratio to the least possible: ${onboarding})`,
        good: onboarding === 1,
      };
    } finally {
      await fleet.close();
    }
  },
};

const onboardNew = 'onboard a new device';

async function operations(fleet: Fleet, call: Call): Promise<Operation[]> {
  const device = `/api/v1/devices/${deviceId}`;
  const gateway = `/api/v1/gateways/${fleet.gatewayId}`;
  const { connectionString } = (await call('POST', `${device}/connection-string`, { credential: 'key' })) as {
    connectionString: string;
  };
  const asDevice = { authorization: deviceToken(connectionString) };
  const second = await fleet.addGateway();
  const sha256 = new X509Certificate(second.root).fingerprint256;
  let token = '';
  const operation = (name: string, method: string, path: string, body?: object, headers?: Record<string, string>) => ({
    name,
    run: () => call(method, path, body, headers),
  });
  return [
    operation('import a root', 'POST', '/api/v1/roots', {
      name: `root-${sha256.slice(0, 2).toLowerCase()}`,
      pem: second.root,
    }),
    operation('read the bundle after that', 'GET', '/api/v1/trust-bundle'),
    operation('read the bundle', 'GET', '/api/v1/trust-bundle'),
    operation('read a root', 'GET', `/api/v1/roots/${rootName}`),
    operation('register a gateway', 'PUT', `/api/v1/gateways/${second.id}`, { hostname: second.hostname }),
    operation('register it again', 'PUT', `/api/v1/gateways/${second.id}`, { hostname: second.hostname }),
    operation('read a gateway', 'GET', gateway),
    operation(onboardNew, 'POST', `/api/v1/devices/${newDevice}/onboard`, { gateway: fleet.gatewayId }),
    operation('onboard it again', 'POST', `/api/v1/devices/${newDevice}/onboard`, { gateway: fleet.gatewayId }),
    operation('read a device', 'GET', device),
    operation('list devices', 'GET', '/api/v1/devices'),
    operation('issue a connection string', 'POST', `${device}/connection-string`, { credential: 'key' }),
    operation('issue one with a SAS token', 'POST', `${device}/connection-string`, { credential: 'sas' }),
    operation('create a module', 'PUT', `${device}/modules/${moduleId}-2`, {}),
    {
      name: 'issue a join token',
      run: async () => {
        token = ((await call('POST', `${device}/join-token`, {})) as { token: string }).token;
      },
    },
    { name: 'redeem it', run: () => call('POST', '/api/v1/join', { token }, {}) },
    operation('device reads its document', 'GET', `${device}/onboarding`, undefined, asDevice),
    operation('device reads it again', 'GET', `${device}/onboarding`, undefined, asDevice),
    operation('device asks for a SAS token', 'POST', `${device}/sas-token`, {}, asDevice),
    operation('roll a key', 'POST', `${device}/keys/rotate`, { key: 'secondary' }),
    operation('move a device', 'PUT', device, { gateway: second.id }),
    operation('delete a device', 'DELETE', `/api/v1/devices/${newDevice}`),
  ];
}

function count(calls: Record<string, number>): number {
  return Object.values(calls).reduce((sum, each) => sum + each, 0);
}

function tell(calls: Record<string, number>): string {
  return Object.entries(calls)
    .map(([name, times]) => (times === 1 ? name : `${name} (${times}x)`))
    .join(', ');
}
