import { openRegistry } from '../../lib/azure/hub.ts';
import type { HubCredential } from '../../lib/azure/hub-rest.ts';
import { azureAgent } from '../../lib/azure/transport.ts';
import { createFleet, type Fleet } from '../../lib/identity/fleet.ts';
import type { Registry } from '../../lib/identity/registry.ts';
import { type Hub, startHub } from '../../local/hub/hub.ts';
import { developmentCa, issue } from '../../local/kit/certificates.ts';
import { FaultSwitch } from '../../local/kit/faults.ts';

/** A hub double with the product's own adapter on it, without the rest of the cloud. */
export interface TestHub {
  hub: Hub;
  faults: FaultSwitch;
  /** An adapter of its own, as another instance of the app has. */
  registry(options?: { timeoutMs?: number; credential?: HubCredential }): Promise<Registry>;
  /** What one instance of the app works with, with nothing remembered yet. */
  fleet(options?: { timeoutMs?: number; gatewayCacheSeconds?: number; clock?: () => Date }): Promise<Fleet>;
  /** The hub calls served since the last time, such as `{'PUT /devices/{id}': 1}`. */
  calls(): Record<string, number>;
  close(): Promise<void>;
}

/** The token that {@link startTestHub}'s hub takes. */
export const hubToken = 'token-of-the-app';

export async function startTestHub(): Promise<TestHub> {
  const faults = new FaultSwitch();
  const ca = await developmentCa(undefined);
  const hostname = 'gatepost.azure-devices.net';
  const server = await issue(ca, { commonName: 'localhost', names: ['localhost', '127.0.0.1', hostname] });
  const hub = await startHub({
    faults,
    tls: { cert: server.chain, key: server.privateKey },
    tokens: async (token) => (token === hubToken ? { oid: 'app' } : undefined),
    roleAssignments: [{ objectId: 'app', role: 'IoT Hub Data Contributor' }],
  });
  const agent = azureAgent({ local: { endpoints: { [hostname]: `127.0.0.1:${hub.port}` }, ca: ca.certificate } });
  const usual: HubCredential = {
    getToken: async () => ({ token: hubToken, expiresOnTimestamp: Date.now() + 3_600_000 }),
  };
  const registry: TestHub['registry'] = ({ timeoutMs = 10_000, credential = usual } = {}) =>
    openRegistry({ hostname, agent, credential, timeoutMs });
  return {
    hub,
    faults,
    registry,
    fleet: async ({ timeoutMs = 10_000, gatewayCacheSeconds = 60, clock = () => new Date() } = {}) =>
      createFleet(await registry({ timeoutMs }), { gatewayCacheSeconds, clock }),
    calls: () => {
      const served = faults.calls().hub;
      faults.resetCalls();
      return served;
    },
    close: async () => {
      agent.destroy();
      await hub.close();
    },
  };
}

/** The code of the problem that a call throws; fails where it throws none. */
export async function problemOf(call: Promise<unknown>): Promise<string> {
  const outcome = await call.then(
    () => 'no problem',
    (error: unknown) => (error as { code?: string }).code ?? String(error),
  );
  return outcome;
}
