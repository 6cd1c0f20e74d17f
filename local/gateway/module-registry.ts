import type { Exchange, Reply, Route } from '../kit/https-server.ts';
import type { ConnectDecision, ConnectRequest } from '../mqtt/identity.ts';
import type { OnBehalfOf, RegistryClient } from './registry-client.ts';

export interface ModuleRegistryOptions {
  /** The device id of the gateway. */
  gatewayId: string;
  /** Decides as about an MQTT client of the same name. */
  authenticate(connect: ConnectRequest): Promise<ConnectDecision>;
  /** Throws while there is no way to the hub. */
  client: Pick<RegistryClient, 'ask'>;
}

/**
 * What edgeHub answers on port 443 to the identity services of the devices behind it: their own modules, read, written and
 * deleted on their behalf (Azure/iotedge, edge-hub `RegistryController.cs`).
 */
export function moduleRegistryRoutes(options: ModuleRegistryOptions): Route[] {
  const one = '/devices/{deviceId}/modules/{moduleId}';
  const route = (
    method: string,
    path: string,
    question: OnBehalfOf,
    bodyOf: (exchange: Exchange) => object,
  ): Route => ({
    method,
    path,
    handle: async (exchange) => {
      try {
        const body = bodyOf(exchange);
        const deviceId = exchange.params.deviceId ?? '';
        if (!(await isDevice(options, deviceId, exchange))) return { status: 401 };
        // What is handed on starts at the device: the module, which may not exist yet, is left out of the chain.
        const authChain = deviceId === options.gatewayId ? deviceId : `${deviceId};${options.gatewayId}`;
        const { status, text } = await options.client.ask(
          question,
          { authChain, ...body },
          exchange.headers['if-match'],
        );
        const headers = { 'content-type': 'application/json; charset=utf-8' };
        return status === 204 || text === '' ? { status } : { status, headers, body: text };
      } catch (error) {
        if (error instanceof BadRequest) return failure(400, error);
        // To the child's identity service this is what a dead line looks like.
        return failure(500, error);
      }
    },
  });
  const moduleId = (exchange: Exchange) => ({ moduleId: exchange.params.moduleId });
  return [
    route('PUT', one, 'putModuleOnBehalfOf', (exchange) => ({ module: readModule(exchange) })),
    route('GET', one, 'getModuleOnBehalfOf', moduleId),
    route('DELETE', one, 'deleteModuleOnBehalfOf', moduleId),
    route('GET', '/devices/{deviceId}/modules', 'getModulesOnTargetDevice', () => ({})),
  ];
}

class BadRequest extends Error {}

function readModule(exchange: Exchange): object {
  let module: { deviceId?: unknown; moduleId?: unknown };
  try {
    module = JSON.parse(exchange.body.toString('utf8'));
  } catch {
    throw new BadRequest("Value cannot be null. (Parameter 'module')");
  }
  if (module?.deviceId === exchange.params.deviceId && module?.moduleId === exchange.params.moduleId) return module;
  throw new BadRequest("Device Id or module Id doesn't match between request URI and body.");
}

/** By token in the header, else by the certificate of the handshake: a device, never one of its modules. */
async function isDevice(options: ModuleRegistryOptions, deviceId: string, exchange: Exchange): Promise<boolean> {
  const { authorization } = exchange.headers;
  const decision = await options.authenticate({
    clientId: deviceId,
    userName: `https/${deviceId}/?api-version=2018-06-30`,
    password: authorization,
    clean: true,
    certificates: exchange.certificates,
    again: false,
  });
  return 'ok' in decision;
}

function failure(status: number, error: unknown): Reply {
  const errorMessage = error instanceof Error ? error.message : String(error);
  return { status, body: { errorMessage } };
}
