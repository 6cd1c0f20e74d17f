import { bulk } from './bulk.ts';
import { deviceJson, moduleJson } from './model.ts';
import type { HubRegistry } from './registry.ts';
import { entity, type HubRoute, param, readCondition, readCount, readJson } from './routes.ts';

const read = { right: 'RegistryRead', actions: ['devices/read'] } as const;
const write = { right: 'RegistryWrite', actions: ['devices/write'] } as const;
const remove = { right: 'RegistryWrite', actions: ['devices/delete'] } as const;

/** The identity registry: devices, modules, bulk operations and statistics. */
export function deviceRoutes(registry: HubRegistry): HubRoute[] {
  return [
    {
      method: 'GET',
      path: '/devices',
      access: read,
      meter: 'registry',
      handle: (exchange) => {
        const top = readCount(exchange.url.searchParams.get('top'), 1000, 1000, 'top');
        return { status: 200, body: [...registry.devices.values()].slice(0, top).map(deviceJson) };
      },
    },
    {
      method: 'POST',
      path: '/devices',
      // The bulk update needs both, whatever it does (learn.microsoft.com, *Control access to IoT Hub by using Entra ID*).
      access: { right: 'RegistryWrite', actions: ['devices/write', 'devices/delete'] },
      meter: 'registry',
      handle: (exchange) => bulk(registry, readJson(exchange)),
    },
    {
      method: 'GET',
      path: '/devices/{id}',
      access: read,
      meter: 'registry',
      handle: (exchange) => {
        const device = registry.device(param(exchange, 'id'));
        return entity(deviceJson(device), device.etag);
      },
    },
    {
      method: 'PUT',
      path: '/devices/{id}',
      access: write,
      meter: 'registry',
      handle: (exchange) => {
        const device = registry.putDevice(param(exchange, 'id'), readJson(exchange), readCondition(exchange));
        return entity(deviceJson(device), device.etag);
      },
    },
    {
      method: 'DELETE',
      path: '/devices/{id}',
      access: remove,
      meter: 'registry',
      handle: (exchange) => {
        registry.deleteDevice(param(exchange, 'id'), readCondition(exchange));
        return { status: 204 };
      },
    },
    ...moduleRoutes(registry),
    ...statisticsRoutes(registry),
  ];
}

function moduleRoutes(registry: HubRegistry): HubRoute[] {
  const path = '/devices/{id}/modules/{moduleId}';
  return [
    {
      method: 'GET',
      path: '/devices/{id}/modules',
      access: { ...read, own: 'device' },
      meter: 'registry',
      handle: (exchange) => {
        const { modules } = registry.device(param(exchange, 'id'));
        return { status: 200, body: Object.values(modules).map(moduleJson) };
      },
    },
    {
      method: 'GET',
      path,
      access: { ...read, own: 'device' },
      meter: 'registry',
      handle: (exchange) => {
        const module = registry.module(param(exchange, 'id'), param(exchange, 'moduleId'));
        return entity(moduleJson(module), module.etag);
      },
    },
    {
      method: 'PUT',
      path,
      access: { ...write, own: 'device' },
      meter: 'registry',
      handle: (exchange, caller) => {
        const [id, moduleId] = [param(exchange, 'id'), param(exchange, 'moduleId')];
        const condition = readCondition(exchange);
        const module = registry.putModule(id, moduleId, readJson(exchange), condition, caller.kind === 'device');
        return entity(moduleJson(module), module.etag);
      },
    },
    {
      method: 'DELETE',
      path,
      access: { ...remove, own: 'device' },
      meter: 'registry',
      handle: (exchange) => {
        registry.deleteModule(param(exchange, 'id'), param(exchange, 'moduleId'), readCondition(exchange));
        return { status: 204 };
      },
    },
  ];
}

function statisticsRoutes(registry: HubRegistry): HubRoute[] {
  const access = { right: 'RegistryRead', actions: ['statistics/read'] } as const;
  const devices = () => [...registry.devices.values()];
  return [
    {
      method: 'GET',
      path: '/statistics/devices',
      access,
      handle: () => {
        const enabled = devices().filter((device) => device.status === 'enabled').length;
        const total = registry.devices.size;
        return {
          status: 200,
          body: { totalDeviceCount: total, enabledDeviceCount: enabled, disabledDeviceCount: total - enabled },
        };
      },
    },
    {
      method: 'GET',
      path: '/statistics/service',
      access,
      handle: () => {
        const connected = devices().filter((device) => device.connectionState === 'Connected').length;
        return { status: 200, body: { connectedDeviceCount: connected } };
      },
    },
  ];
}
