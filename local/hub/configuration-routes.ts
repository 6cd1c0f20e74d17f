import { HubError } from './errors.ts';
import { checkCondition, readObject } from './input.ts';
import type { Configuration } from './model.ts';
import type { HubRegistry } from './registry.ts';
import { entity, type HubRoute, param, readCondition, readCount, readJson } from './routes.ts';

const maxConfigurations = 100;
const idPattern = /^[a-z0-9\-:+%_#*?!(),=@;']{1,128}$/;

/** Automatic configurations, stored and listed but never rolled out, and configuration content for one Edge device. */
export function configurationRoutes(registry: HubRegistry): HubRoute[] {
  const read = { right: 'RegistryRead', actions: ['configurations/read'] } as const;
  const write = { right: 'RegistryWrite', actions: ['configurations/write'] } as const;
  const remove = { right: 'RegistryWrite', actions: ['configurations/delete'] } as const;
  return [
    {
      method: 'GET',
      path: '/configurations',
      access: read,
      handle: (exchange) => {
        const top = readCount(exchange.url.searchParams.get('top'), maxConfigurations, maxConfigurations, 'top');
        return { status: 200, body: [...registry.configurations.values()].slice(0, top).map(configurationJson) };
      },
    },
    {
      method: 'GET',
      path: '/configurations/{id}',
      access: read,
      handle: (exchange) => {
        const configuration = find(registry, param(exchange, 'id'));
        return entity(configurationJson(configuration), configuration.etag);
      },
    },
    {
      method: 'PUT',
      path: '/configurations/{id}',
      access: write,
      handle: (exchange) => {
        const given = readObject(readJson(exchange));
        const configuration = put(registry, param(exchange, 'id'), given, readCondition(exchange));
        return entity(configurationJson(configuration), configuration.etag);
      },
    },
    {
      method: 'DELETE',
      path: '/configurations/{id}',
      access: remove,
      handle: (exchange) => {
        const configuration = find(registry, param(exchange, 'id'));
        const condition = readCondition(exchange);
        if (condition !== undefined) checkCondition(condition, configuration.etag);
        registry.configurations.delete(configuration.id);
        registry.emit('changed');
        return { status: 204 };
      },
    },
    {
      method: 'POST',
      path: '/devices/{id}/applyConfigurationContent',
      access: { right: 'RegistryWrite', actions: ['configurations/applyToEdgeDevice/action'] },
      meter: 'registry',
      handle: (exchange) => {
        apply(registry, param(exchange, 'id'), readObject(readJson(exchange)));
        return { status: 204 };
      },
    },
  ];
}

function find(registry: HubRegistry, id: string): Configuration {
  const configuration = registry.configurations.get(id);
  if (configuration === undefined) throw new HubError('ConfigurationNotFound', `Configuration ${id} not found`);
  return configuration;
}

function put(
  registry: HubRegistry,
  id: string,
  given: Record<string, unknown>,
  condition: ReturnType<typeof readCondition>,
): Configuration {
  if (!idPattern.test(id)) throw new HubError('ArgumentInvalid', `The configuration id '${id}' is not valid.`);
  if (given.id !== id) throw new HubError('ArgumentInvalid', 'The id of the body is not that of the address.');
  const old = registry.configurations.get(id);
  if (condition === undefined) {
    if (old !== undefined) throw new HubError('ConfigurationAlreadyExists', `Configuration ${id} already exists`);
    if (registry.configurations.size >= maxConfigurations) {
      throw new HubError('ConfigurationCountLimitExceeded', `A hub has at most ${maxConfigurations} configurations.`);
    }
  } else checkCondition(condition, find(registry, id).etag);
  const content = readObject(given.content ?? {});
  // Content is immutable (learn.microsoft.com, *Automatic IoT device and module management*).
  if (old !== undefined && JSON.stringify(old.document.content ?? {}) !== JSON.stringify(content)) {
    const message = 'The content of a configuration cannot be changed.';
    throw new HubError('CannotModifyImmutableConfigurationContent', message);
  }
  const now = registry.now().toISOString();
  const { id: _id, etag: _etag, createdTimeUtc: _created, lastUpdatedTimeUtc: _updated, ...document } = given;
  const times = { createdTimeUtc: old?.createdTimeUtc ?? now, lastUpdatedTimeUtc: now };
  const configuration: Configuration = { id, etag: registry.newEtag(), ...times, document };
  registry.configurations.set(id, configuration);
  registry.emit('changed');
  return configuration;
}

function configurationJson({ id, document, etag, createdTimeUtc, lastUpdatedTimeUtc }: Configuration): object {
  const metrics = { results: {}, queries: {} };
  const defaults = {
    schemaVersion: '1.0',
    labels: {},
    targetCondition: '',
    priority: 0,
    systemMetrics: metrics,
    metrics,
  };
  return { id, ...defaults, ...document, createdTimeUtc, lastUpdatedTimeUtc, etag };
}

/** Sets the desired properties of the modules that the content names; modules that do not exist yet are made. */
function apply(registry: HubRegistry, deviceId: string, content: Record<string, unknown>): void {
  const device = registry.device(deviceId);
  if (!device.iotEdge) {
    throw new HubError('InvalidConfigurationContent', `Device ${deviceId} is no Edge device.`);
  }
  const modules = Object.entries(readObject(content.modulesContent ?? {}));
  if (modules.length === 0) throw new HubError('InvalidConfigurationContent', 'The content names no module.');
  for (const [moduleId, given] of modules) {
    const desired = readObject(given)['properties.desired'];
    if (desired === undefined) continue;
    const module = device.modules[moduleId] ?? registry.createModule(device, moduleId, { managedBy: 'iotEdge' });
    const removed = Object.fromEntries(Object.keys(module.twin.desired.values).map((name) => [name, null]));
    registry.patchTwin(deviceId, moduleId, { properties: { desired: { ...removed, ...readObject(desired) } } });
  }
}
