import { z } from 'zod';
import { pageAnswer, pageQueryShape, pageRequest, pageSchema } from '../lib/http/paging.ts';
import { defineRoute, type Route } from '../lib/http/route.ts';
import { deviceViewSchema } from '../lib/identity/device-record.ts';
import { listDevices } from '../lib/identity/devices.ts';
import { gatewayViewSchema } from '../lib/identity/gateway-record.ts';
import { deleteGateway, gatewayInputSchema, getGateway, listGateways, putGateway } from '../lib/identity/gateways.ts';
import { idSchema } from '../lib/identity/ids.ts';
import { fleetReaders, fleetWriters, hubProblems } from './policies.ts';
import type { Services } from './services.ts';

const params = z.strictObject({ gatewayId: idSchema });
const tag = 'Gateways';
const example = {
  id: 'gateway-1',
  hostname: 'gateway-1.plant.example.com',
  parent: null,
  maxDevices: 100,
  ports: { mqtt: 8883, amqp: 5671, websocket: 443 },
  auth: { type: 'sas' },
  enabled: true,
  deviceScope: 'ms-azure-iot-edge://gateway-1-638000000000000000',
  devices: 12,
  connection: { state: 'connected', lastActivity: '2026-11-22T08:00:00Z' },
};

export function gatewaysRoutes(services: Services): Route[] {
  return [
    putRoute(services),
    defineRoute({
      name: 'getGateway',
      methods: ['GET'],
      path: 'api/v1/gateways/{gatewayId}',
      summary: 'Read a gateway',
      tag,
      access: fleetReaders,
      params,
      answers: {
        200: { description: 'The gateway.', schema: gatewayViewSchema, headers: { etag: 'Of its settings.' }, example },
      },
      problems: ['gateway_not_found', ...hubProblems],
      act: async ({ params: { gatewayId } }) => {
        const { view, etag } = await getGateway(await services.fleet(), gatewayId);
        return { status: 200, json: view, headers: { etag } };
      },
    }),
    deleteRoute(services),
    defineRoute({
      name: 'listGateways',
      methods: ['GET'],
      path: 'api/v1/gateways',
      summary: 'List the gateways',
      description: 'In pages: follow nextLink until there is none. A page may be short and still have a next one.',
      tag,
      access: fleetReaders,
      query: z.strictObject(pageQueryShape),
      answers: {
        200: { description: 'One page.', schema: pageSchema(gatewayViewSchema), example: { value: [example] } },
      },
      problems: hubProblems,
      act: async ({ query, url }) => {
        const page = await listGateways(await services.fleet(), pageRequest(query, 'gateways'));
        return { status: 200, json: pageAnswer(page, url, 'gateways') };
      },
    }),
    defineRoute({
      name: 'listGatewayDevices',
      methods: ['GET'],
      path: 'api/v1/gateways/{gatewayId}/devices',
      summary: 'List the devices behind a gateway',
      tag,
      access: fleetReaders,
      params,
      query: z.strictObject(pageQueryShape),
      answers: { 200: { description: 'One page.', schema: pageSchema(deviceViewSchema), example: { value: [] } } },
      problems: ['gateway_not_found', ...hubProblems],
      act: async ({ params: { gatewayId }, query, url }) => {
        const list = `devices of ${gatewayId}`;
        const page = await listDevices(await services.fleet(), gatewayId, pageRequest(query, list));
        return { status: 200, json: pageAnswer(page, url, list) };
      },
    }),
  ];
}

function putRoute(services: Services): Route {
  return defineRoute({
    name: 'putGateway',
    methods: ['PUT'],
    path: 'api/v1/gateways/{gatewayId}',
    summary: 'Make an Edge device a gateway',
    description:
      'Creates the Edge identity or adopts the one of that id, links it behind its parent, and records its host name and ' +
      'limits. What the body leaves out stays as it is, or gets its default when the gateway is new.',
    tag,
    access: fleetWriters,
    params,
    body: gatewayInputSchema,
    bodyExample: { hostname: 'gateway-1.plant.example.com' },
    answers: {
      200: {
        description: 'It is as asked.',
        schema: gatewayViewSchema,
        headers: { etag: 'Of its settings.' },
        example,
      },
      201: { description: 'It was made.', schema: gatewayViewSchema, headers: { etag: 'Of its settings.' }, example },
    },
    problems: [
      'gateway_not_edge',
      'gateway_not_found',
      'gateway_not_configured',
      'gateway_disabled',
      'gateway_full',
      'gateway_cycle',
      'gateway_too_deep',
      'precondition_failed',
      'quota_exceeded',
      ...hubProblems,
    ],
    audit: { action: 'gateway.put', when: 'change', subject: ({ params: { gatewayId } }) => ({ gatewayId }) },
    act: async ({ params: { gatewayId }, body, ifMatch, ifNoneMatch, log }) => {
      const fleet = await services.fleet();
      const { view, etag, created } = await putGateway(fleet, gatewayId, body, { ifMatch, ifNoneMatch });
      log.info('gateway_put', { gatewayId, status: created ? 201 : 200 });
      return { status: created ? 201 : 200, json: view, headers: { etag } };
    },
  });
}

function deleteRoute(services: Services): Route {
  return defineRoute({
    name: 'deleteGateway',
    methods: ['DELETE'],
    path: 'api/v1/gateways/{gatewayId}',
    summary: 'Delete a gateway',
    description:
      'Refused while devices or gateways stand behind it. With ?orphan=true they stay in the hub, cut off until they are PUT ' +
      'with another gateway.',
    tag,
    access: fleetWriters,
    params,
    query: z.strictObject({ orphan: z.stringbool({ truthy: ['true'], falsy: ['false'] }).default(false) }),
    answers: { 204: { description: 'It is gone.' } },
    problems: ['gateway_not_found', 'gateway_has_children', 'precondition_failed', ...hubProblems],
    audit: { action: 'gateway.delete', when: 'change', subject: ({ params: { gatewayId } }) => ({ gatewayId }) },
    act: async ({ params: { gatewayId }, query, ifMatch, log }) => {
      await deleteGateway(await services.fleet(), gatewayId, { orphan: query.orphan, ifMatch });
      log.info('gateway_deleted', { gatewayId });
      return { status: 204 };
    },
  });
}
