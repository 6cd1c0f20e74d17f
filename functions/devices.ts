import { z } from 'zod';
import { pageAnswer, pageQueryShape, pageRequest, pageSchema } from '../lib/http/paging.ts';
import { defineRoute, type Route } from '../lib/http/route.ts';
import { deviceInputSchema, deviceViewSchema } from '../lib/identity/device-record.ts';
import { deleteDevice, getDevice, listDevices, putDevice } from '../lib/identity/devices.ts';
import { idSchema } from '../lib/identity/ids.ts';
import { fleetReaders, fleetWriters, hubProblems } from './policies.ts';
import type { Services } from './services.ts';

const params = z.strictObject({ deviceId: idSchema });
const tag = 'Devices';
const example = {
  id: 'press-4',
  gateway: 'gateway-1',
  auth: { type: 'sas' },
  enabled: true,
  tags: { line: 4 },
  connection: { state: 'disconnected', lastActivity: null },
};

export function devicesRoutes(services: Services): Route[] {
  return [
    putRoute(services),
    defineRoute({
      name: 'getDevice',
      methods: ['GET'],
      path: 'api/v1/devices/{deviceId}',
      summary: 'Read a device',
      tag,
      access: fleetReaders,
      params,
      answers: {
        200: { description: 'The device.', schema: deviceViewSchema, headers: { etag: 'Of its settings.' }, example },
      },
      problems: ['device_not_found', ...hubProblems],
      act: async ({ params: { deviceId } }) => {
        const { view, etag } = await getDevice(await services.fleet(), deviceId);
        return { status: 200, json: view, headers: { etag } };
      },
    }),
    defineRoute({
      name: 'deleteDevice',
      methods: ['DELETE'],
      path: 'api/v1/devices/{deviceId}',
      summary: 'Delete a device with its modules and keys',
      tag,
      access: fleetWriters,
      params,
      answers: { 204: { description: 'It is gone.' } },
      problems: ['device_not_found', 'device_is_gateway', 'precondition_failed', ...hubProblems],
      audit: { action: 'device.delete', when: 'change', subject: ({ params: { deviceId } }) => ({ deviceId }) },
      act: async ({ params: { deviceId }, ifMatch, log }) => {
        await deleteDevice(await services.fleet(), deviceId, ifMatch);
        log.info('device_deleted', { deviceId });
        return { status: 204 };
      },
    }),
    defineRoute({
      name: 'listDevices',
      methods: ['GET'],
      path: 'api/v1/devices',
      summary: 'List the devices, or those behind one gateway',
      description: 'In pages: follow nextLink until there is none.',
      tag,
      access: fleetReaders,
      query: z.strictObject({ gateway: idSchema.optional(), ...pageQueryShape }),
      answers: {
        200: { description: 'One page.', schema: pageSchema(deviceViewSchema), example: { value: [example] } },
      },
      problems: ['gateway_not_found', ...hubProblems],
      act: async ({ query, url }) => {
        const list = `devices of ${query.gateway ?? '*'}`;
        const page = await listDevices(await services.fleet(), query.gateway, pageRequest(query, list));
        return { status: 200, json: pageAnswer(page, url, list) };
      },
    }),
  ];
}

function putRoute(services: Services): Route {
  return defineRoute({
    name: 'putDevice',
    methods: ['PUT'],
    path: 'api/v1/devices/{deviceId}',
    summary: 'Make a device and put it behind its gateway',
    description:
      'Creates the identity or adopts the one of that id. Another gateway moves it. What the body leaves out stays as it is, ' +
      'or gets its default when the device is new (symmetric keys, enabled, no tags). Keys never change by accident and are ' +
      'never in the answer.',
    tag,
    access: fleetWriters,
    params,
    body: deviceInputSchema,
    bodyExample: { gateway: 'gateway-1' },
    answers: {
      200: { description: 'It is as asked.', schema: deviceViewSchema, headers: { etag: 'Of its settings.' }, example },
      201: { description: 'It was made.', schema: deviceViewSchema, headers: { etag: 'Of its settings.' }, example },
    },
    problems: [
      'device_is_gateway',
      'gateway_not_found',
      'gateway_not_edge',
      'gateway_not_configured',
      'gateway_disabled',
      'gateway_full',
      'precondition_failed',
      'quota_exceeded',
      ...hubProblems,
    ],
    audit: {
      action: 'device.put',
      when: 'change',
      subject: ({ params: { deviceId }, body }) => ({ deviceId, gatewayId: body.gateway }),
    },
    act: async ({ params: { deviceId }, body, ifMatch, ifNoneMatch, log }) => {
      const fleet = await services.fleet();
      const { view, etag, created } = await putDevice(fleet, deviceId, body, { ifMatch, ifNoneMatch });
      log.info('device_put', { deviceId, gatewayId: body.gateway, status: created ? 201 : 200 });
      return { status: created ? 201 : 200, json: view, headers: { etag } };
    },
  });
}
