import { join } from 'node:path';
import { type Control, startControl } from '../control.ts';
import { type Entra, startEntra } from '../entra/entra.ts';
import type { Gateway, GatewayPorts } from '../gateway/gateway.ts';
import { type Hub, startHub } from '../hub/hub.ts';
import { developmentCa, issue } from '../kit/certificates.ts';
import { FaultSwitch } from '../kit/faults.ts';
import { type Storage, startStorage } from '../storage/azurite.ts';
import { startVault, type Vault } from '../vault/vault.ts';
import { type AddGatewayOptions, gatewayAdder } from './gateways.ts';
import { RememberedPorts } from './ports.ts';
import { keep } from './running.ts';

export interface PartsOptions {
  directory: string;
  gateways: number;
  /** What the first gateway would like to listen on; absent is any. */
  gatewayPorts: Partial<GatewayPorts>;
  /** Whatever is pushed here is closed when the cloud closes, the last first. */
  cleanup: AsyncDisposableStack;
}

/** The cloud without the API. */
export interface Parts {
  faults: FaultSwitch;
  control: Control;
  /** Signs the certificates of all doubles but the gateways. */
  ca: { certificate: string; file: string };
  entra: Entra;
  hub: Hub;
  vault: Vault;
  storage: Storage;
  gateways: Gateway[];
  addGateway(options?: AddGatewayOptions): Promise<Gateway>;
}

const hubHostname = 'gatepost.azure-devices.net';
const vaultName = 'gatepost';

/** Starts every double. Rejects once whatever was still starting has come to an end. */
export async function startParts(options: PartsOptions): Promise<Parts> {
  const faults = new FaultSwitch();
  // Azurite takes a second: everything else starts meanwhile.
  const storage = keep(options.cleanup, startStorage({ faults, directory: join(options.directory, 'storage') }));
  try {
    const doubles = await startDoubles(options, faults);
    return { ...doubles, faults, storage: await storage };
  } catch (error) {
    await storage.catch(() => {});
    throw error;
  }
}

async function startDoubles(options: PartsOptions, faults: FaultSwitch): Promise<Omit<Parts, 'faults' | 'storage'>> {
  const { directory, cleanup } = options;
  const file = (name: string) => join(directory, name);
  const ports = new RememberedPorts(file('ports.json'));
  const { tls, ca } = await openCa(directory);
  const common = { faults, tls };
  const entra = await keep(cleanup, startEntra({ ...common, stateFile: file('entra.json'), port: ports.get('entra') }));
  const tokens = (token: string, audience: string) => entra.verify(token, audience);
  const hubOptions = { hostname: hubHostname, stateFile: file('hub.json'), port: ports.get('hub') };
  const vaultOptions = { name: vaultName, tenantId: entra.tenantId, stateFile: file('vault.json') };
  const [hub, vault] = await Promise.all([
    keep(cleanup, startHub({ ...common, ...hubOptions, tokens, mqttPort: ports.get('hub-mqtt'), ...hubRoles(entra) })),
    keep(cleanup, startVault({ ...common, ...vaultOptions, tokens, port: ports.get('vault'), ...vaultRoles(entra) })),
  ]);
  ports.set({ entra: entra.port, hub: hub.port, 'hub-mqtt': hub.mqttPort, vault: vault.port });
  const control = await keep(cleanup, startControl({ faults, telemetry: () => hub.received() }));
  const gateways: Gateway[] = [];
  const addGateway = gatewayAdder({ directory, faults, ports, hub, ca: ca.certificate, gateways, cleanup });
  // One after the other: their names are numbered.
  for (let index = 0; index < options.gateways; index += 1) {
    await addGateway({ ports: index === 0 ? options.gatewayPorts : {} });
  }
  return { control, ca, entra, hub, vault, gateways, addGateway };
}

async function openCa(
  directory: string,
): Promise<{ tls: { cert: string; key: string }; ca: { certificate: string; file: string } }> {
  const ca = await developmentCa(directory);
  if (ca.file === undefined) throw new Error('The development CA is kept in a folder.');
  const names = ['localhost', '127.0.0.1', hubHostname, `${vaultName}.vault.azure.net`];
  const server = await issue(ca, { commonName: 'localhost', names });
  return {
    tls: { cert: server.chain, key: server.privateKey },
    ca: { certificate: ca.certificate, file: ca.file },
  };
}

/** What the API's identity may do in the hub: its registry and its twins, nothing else. */
function hubRoles({ managedIdentity: { objectId } }: Entra): Pick<Parameters<typeof startHub>[0], 'roleAssignments'> {
  return {
    roleAssignments: [
      { objectId, role: 'IoT Hub Registry Contributor' },
      { objectId, role: 'IoT Hub Twin Contributor' },
    ],
  };
}

/**
 * In the vault the API's own identity reads what the bundle is made of, and a second one manages it; the operator may look
 * at everything in it.
 */
function vaultRoles(entra: Entra): Pick<Parameters<typeof startVault>[0], 'roleAssignments'> {
  const { managedIdentity: reader, trustManager: manager } = entra;
  const operator = entra.clients.find((client) => client.name === 'operator');
  return {
    roleAssignments: [
      { objectId: reader.objectId, role: 'Key Vault Certificate User' },
      { objectId: manager.objectId, role: 'Key Vault Secrets Officer' },
      { objectId: manager.objectId, role: 'Key Vault Certificates Officer' },
      ...(operator ? [{ objectId: operator.objectId, role: 'Key Vault Administrator' as const }] : []),
    ],
  };
}
