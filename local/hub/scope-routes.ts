import type { Exchange } from '../kit/https-server.ts';
import { HubError } from './errors.ts';
import { type Device, deviceJson, type Module, moduleJson } from './model.ts';
import { childrenOf, type HubRegistry } from './registry.ts';
import { type HubRoute, param, readCount } from './routes.ts';

const access = { own: 'edgeHub' } as const;
const pageSize = 100;

/**
 * What edgeHub asks the hub: who stands in its scope. Only the Edge device and its $edgeHub may ask, for themselves
 * (Azure/iotedge, edge-hub `DeviceScopeApiClient.cs`).
 */
export function scopeRoutes(registry: HubRegistry): HubRoute[] {
  return [
    {
      method: 'GET',
      path: '/devices/{id}/modules/{moduleId}/devicesAndModulesInDeviceScope',
      access,
      handle: (exchange) => {
        const edge = requireEdge(registry, exchange);
        const query = exchange.url.searchParams;
        const count = readCount(query.get('deviceCount'), pageSize, pageSize, 'deviceCount');
        const start = readContinuation(query.get('continuationToken'));
        const all = [edge, ...childrenOf(registry, edge)];
        const page = all.slice(start, start + count);
        const next = start + count < all.length ? nextLink(exchange, start + count) : null;
        return { status: 200, body: scopeJson(page, page.flatMap(modulesOf), next) };
      },
    },
    {
      method: 'GET',
      path: '/devices/{id}/modules/{moduleId}/deviceAndModuleInDeviceScope',
      access,
      handle: (exchange) => {
        const edge = requireEdge(registry, exchange);
        const target = exchange.url.searchParams.get('targetDeviceId') ?? '';
        const moduleId = exchange.url.searchParams.get('targetModuleId');
        const device = [edge, ...childrenOf(registry, edge)].find((one) => one.deviceId === target);
        // The hub answers 400 for a device that is not in the scope (Azure/iotedge#296).
        if (device === undefined) throw new HubError('InvalidDeviceScope', `${target} is not in the scope.`);
        if (!moduleId) return { status: 200, body: scopeJson([device], [], null) };
        const module = device.modules[moduleId];
        if (module === undefined)
          throw new HubError('InvalidDeviceScope', `${target}/${moduleId} is not in the scope.`);
        return { status: 200, body: scopeJson([device], [module], null) };
      },
    },
  ];
}

function requireEdge(registry: HubRegistry, exchange: Exchange): Device {
  const device = registry.device(param(exchange, 'id'));
  if (device.iotEdge && param(exchange, 'moduleId') === '$edgeHub') return device;
  throw new HubError('ArgumentInvalid', 'Only the $edgeHub of an Edge device has a scope to ask for.');
}

function modulesOf(device: Device): Module[] {
  return Object.values(device.modules);
}

function scopeJson(devices: Device[], modules: Module[], continuationLink: string | null): object {
  return { devices: devices.map(deviceJson), modules: modules.map(moduleJson), continuationLink };
}

function readContinuation(token: string | null): number {
  if (token === null || token === '') return 0;
  const start = Number(Buffer.from(token, 'base64url').toString('utf8'));
  if (Number.isInteger(start) && start > 0) return start;
  throw new HubError('ArgumentInvalid', 'The continuationToken is not valid.');
}

/** Relative, as edgeHub appends it to the hub's address. */
function nextLink(exchange: Exchange, start: number): string {
  const query = new URLSearchParams(exchange.url.searchParams);
  query.set('continuationToken', Buffer.from(String(start)).toString('base64url'));
  return `${exchange.url.pathname}?${query}`;
}
