import https from 'node:https';
import common from 'azure-iot-common';
import iothub from 'azure-iothub';
import { type Hub, type HubOptions, startHub } from '../../../local/hub/hub.ts';
import { developmentCa, issue, type KeyedCertificate } from '../../../local/kit/certificates.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';

export interface HubUnderTest {
  hub: Hub;
  faults: FaultSwitch;
  ca: KeyedCertificate;
  /** The real service client, on its way to the double: every host leads there, the Host header and SNI stay. */
  registry: iothub.Registry;
  registryOf(connectionString: string): iothub.Registry;
  agent: https.Agent;
  stop(): Promise<void>;
}

export async function startHubUnderTest(options: Partial<HubOptions> = {}): Promise<HubUnderTest> {
  const faults = new FaultSwitch();
  const ca = await developmentCa(undefined);
  const hostname = options.hostname ?? 'gatepost.azure-devices.net';
  const server = await issue(ca, { commonName: 'hub', names: ['localhost', '127.0.0.1', hostname] });
  const hub = await startHub({ faults, tls: { cert: server.chain, key: server.privateKey }, ...options });
  const agent = new https.Agent({ keepAlive: true, ca: ca.certificate, host: '127.0.0.1', port: hub.port });
  const registryOf = (connectionString: string): iothub.Registry => {
    const registry = iothub.Registry.fromConnectionString(connectionString);
    useAgent(registry, agent);
    return registry;
  };
  const stop = async (): Promise<void> => {
    agent.destroy();
    await hub.close();
  };
  return { hub, faults, ca, registry: registryOf(hub.connectionString), registryOf, agent, stop };
}

/** azure-iothub has no public option for it: its REST client takes an agent. */
export function useAgent(client: object, agent: https.Agent): void {
  const { _restApiClient } = client as { _restApiClient: { setOptions(options: object): void } };
  _restApiClient.setOptions({ http: { agent } });
}

/** A device as the hub answers it; azure-iothub's own type lacks the scopes. */
export interface DeviceAnswer {
  deviceId: string;
  etag: string;
  generationId: string;
  status: string;
  deviceScope?: string;
  parentScopes?: string[];
  capabilities: { iotEdge: boolean };
  connectionState: string;
  lastActivityTime: string;
  authentication: {
    type: string;
    symmetricKey: { primaryKey: string | null; secondaryKey: string | null };
    x509Thumbprint: { primaryThumbprint: string | null; secondaryThumbprint: string | null };
  };
}

export async function createDevice(
  registry: iothub.Registry,
  deviceId: string,
  more: Record<string, unknown> = {},
): Promise<DeviceAnswer> {
  const { responseBody } = await registry.create({ deviceId, ...more });
  return responseBody as unknown as DeviceAnswer;
}

export async function createEdge(
  registry: iothub.Registry,
  deviceId: string,
  more: Record<string, unknown> = {},
): Promise<DeviceAnswer & { deviceScope: string }> {
  const device = await createDevice(registry, deviceId, { capabilities: { iotEdge: true }, ...more });
  return { ...device, deviceScope: device.deviceScope ?? '' };
}

export async function getDevice(registry: iothub.Registry, deviceId: string): Promise<DeviceAnswer> {
  return (await registry.get(deviceId)).responseBody as unknown as DeviceAnswer;
}

export interface RawAnswer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  json(): Record<string, unknown>;
}

/** A request as any HTTPS client would send it, for what azure-iothub cannot be made to send. */
export function request(
  under: Pick<HubUnderTest, 'hub' | 'agent'>,
  method: string,
  path: string,
  options: { authorization?: string; headers?: Record<string, string>; body?: unknown } = {},
): Promise<RawAnswer> {
  const body = options.body === undefined ? undefined : JSON.stringify(options.body);
  const headers: Record<string, string> = { ...options.headers };
  if (options.authorization !== undefined) headers.authorization = options.authorization;
  if (body !== undefined) headers['content-type'] = 'application/json; charset=utf-8';
  return new Promise((resolve, reject) => {
    const outgoing = https.request(
      { agent: under.agent, host: under.hub.hostname, path, method, headers },
      (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          const { statusCode: status = 0, headers: answered } = incoming;
          resolve({ status, headers: answered, text, json: () => JSON.parse(text) });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

/** A token as azure-iot-common writes it; `policy` names the shared access policy, absent for a device's own key. */
export function sasToken(resource: string, key: string, options: { policy?: string; seconds?: number } = {}): string {
  const expiry = Math.floor(Date.now() / 1000) + (options.seconds ?? 3600);
  return common.SharedAccessSignature.create(resource, options.policy as string, key, expiry).toString();
}

/** The key in a connection string. */
export function keyIn(connectionString: string): string {
  return common.ConnectionString.parse(connectionString).SharedAccessKey ?? '';
}

export interface Refusal {
  /** The name of the error that the SDK makes of the answer. */
  error: string;
  message: string;
  status: number | undefined;
  /** The hub's own name of it, from a header. */
  code: string | undefined;
  body: string | undefined;
}

/**
 * What a call of the SDK fails with. The error itself is not handed on: it holds the request with its token, and a
 * failing assertion would print all of that.
 */
export async function refusal(call: Promise<unknown>): Promise<Refusal | 'no error'> {
  try {
    await call;
    return 'no error';
  } catch (caught) {
    const error = caught as Error & {
      responseBody?: string;
      response?: { statusCode?: number; headers?: Record<string, string> };
    };
    return {
      error: error.name,
      message: error.message,
      status: error.response?.statusCode,
      code: error.response?.headers?.['iothub-errorcode'],
      body: error.responseBody,
    };
  }
}
