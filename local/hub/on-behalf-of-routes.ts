import type { Exchange } from '../kit/https-server.ts';
import { HubError } from './errors.ts';
import { type Condition, type Given, readObject, readText } from './input.ts';
import { type Device, moduleJson } from './model.ts';
import { childrenOf, type HubRegistry } from './registry.ts';
import { entity, type HubRoute, param, readCondition, readJson } from './routes.ts';

/**
 * How edgeHub hands on what a child device asks about its own modules: as itself, with the chain of ids from the device
 * up to itself (Azure/iotedge, edge-hub `RegistryOnBehalfOfApiClient.cs`).
 */
export function onBehalfOfRoutes(registry: HubRegistry): HubRoute[] {
  const route = (name: string, handle: (target: Device, body: Given, condition: Condition) => object): HubRoute => ({
    method: 'POST',
    path: `/devices/{id}/modules/{moduleId}/${name}`,
    access: { own: 'edgeHub' },
    meter: 'registry',
    handle: (exchange) => {
      const body = readObject(readJson(exchange));
      return handle(requireTarget(registry, exchange, body), body, readCondition(exchange)) as ReturnType<
        HubRoute['handle']
      >;
    },
  });
  return [
    route('putModuleOnBehalfOf', (target, body, condition) => {
      const given = readObject(body.module);
      const moduleId = readText(given.moduleId, 'moduleId') ?? '';
      const module = registry.putModule(target.deviceId, moduleId, given, condition, true);
      return entity(moduleJson(module), module.etag);
    }),
    route('getModuleOnBehalfOf', (target, body) => {
      const module = registry.module(target.deviceId, readText(body.moduleId, 'moduleId') ?? '');
      return entity(moduleJson(module), module.etag);
    }),
    route('getModulesOnTargetDevice', (target) => ({
      status: 200,
      body: Object.values(target.modules).map(moduleJson),
    })),
    route('deleteModuleOnBehalfOf', (target, body, condition) => {
      registry.deleteModule(target.deviceId, readText(body.moduleId, 'moduleId') ?? '', condition);
      return { status: 204 };
    }),
  ];
}

/** The device at the start of the chain; it must be the Edge device itself or a child of it. */
function requireTarget(registry: HubRegistry, exchange: Exchange, body: Given): Device {
  const edge = registry.device(param(exchange, 'id'));
  if (!edge.iotEdge || param(exchange, 'moduleId') !== '$edgeHub') {
    throw new HubError('ArgumentInvalid', 'Only the $edgeHub of an Edge device acts for others.');
  }
  const chain = (readText(body.authChain, 'authChain') ?? '').split(';');
  const [target] = chain;
  const device = [edge, ...childrenOf(registry, edge)].find((one) => one.deviceId === target);
  if (device !== undefined && chain.at(-1) === edge.deviceId) return device;
  throw new HubError('IotHubUnauthorizedAccess', 'Unauthorized');
}
