import type { Exchange, Reply } from '../kit/https-server.ts';
import type { ConnectedDevices } from './devices.ts';
import { HubError } from './errors.ts';
import { checkCondition, readObject } from './input.ts';
import { twinEtag, twinJson } from './model.ts';
import type { HubRegistry } from './registry.ts';
import { entity, type HubRoute, param, readCondition, readJson } from './routes.ts';

const read = { right: 'ServiceConnect', actions: ['twins/read'] } as const;
const write = { right: 'ServiceConnect', actions: ['twins/write'] } as const;
const invoke = { right: 'ServiceConnect', actions: ['directMethods/invoke/action'] } as const;

const maxMethodPayload = 128 * 1024;

/** Twins and direct methods, of devices and of modules. */
export function twinRoutes(registry: HubRegistry, devices: ConnectedDevices): HubRoute[] {
  return ['/twins/{id}', '/twins/{id}/modules/{moduleId}'].flatMap((path): HubRoute[] => [
    {
      method: 'GET',
      path,
      access: read,
      meter: 'twinRead',
      handle: (exchange) => answerTwin(registry, exchange),
    },
    {
      method: 'PATCH',
      path,
      access: write,
      meter: 'twinWrite',
      handle: (exchange) => {
        const { deviceId, moduleId } = identityOf(exchange);
        const condition = readCondition(exchange);
        const { twin } = registry.principal(deviceId, moduleId);
        if (condition !== undefined) checkCondition(condition, twinEtag(twin));
        registry.patchTwin(deviceId, moduleId, readJson(exchange));
        return answerTwin(registry, exchange);
      },
    },
    {
      method: 'POST',
      path: `${path}/methods`,
      access: invoke,
      meter: 'method',
      handle: async (exchange) => {
        const identity = identityOf(exchange);
        registry.principal(identity.deviceId, identity.moduleId);
        return { status: 200, body: await devices.invoke(identity, readCall(readJson(exchange))) };
      },
    },
  ]);
}

function answerTwin(registry: HubRegistry, exchange: Exchange): Reply {
  const { deviceId, moduleId } = identityOf(exchange);
  const device = registry.device(deviceId);
  const module = moduleId === null ? undefined : registry.module(deviceId, moduleId);
  return entity(twinJson(device, module), twinEtag((module ?? device).twin));
}

function identityOf(exchange: Exchange): { deviceId: string; moduleId: string | null } {
  return { deviceId: param(exchange, 'id'), moduleId: exchange.params.moduleId ?? null };
}

/** Timeouts and sizes as learn.microsoft.com, *Understand and invoke direct methods from IoT Hub*, gives them. */
function readCall(body: unknown): { name: string; payload: unknown; responseMs: number; connectMs: number } {
  const { methodName, payload, responseTimeoutInSeconds, connectTimeoutInSeconds } = readObject(body);
  if (typeof methodName !== 'string' || methodName === '') {
    throw new HubError('ArgumentInvalid', 'The methodName is missing.');
  }
  if (Buffer.byteLength(JSON.stringify(payload ?? null)) > maxMethodPayload) {
    throw new HubError('MessageTooLarge', 'The payload of a method has at most 128 KB.');
  }
  return {
    name: methodName,
    payload,
    responseMs: readSeconds(responseTimeoutInSeconds, 'responseTimeoutInSeconds', 30, 5) * 1000,
    connectMs: readSeconds(connectTimeoutInSeconds, 'connectTimeoutInSeconds', 0, 0) * 1000,
  };
}

function readSeconds(value: unknown, name: string, fallback: number, min: number): number {
  if (value === undefined || value === null) return fallback;
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= 300) return value;
  throw new HubError('ArgumentInvalid', `${name} is a whole number of seconds from ${min} to 300.`);
}
