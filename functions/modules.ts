import { z } from 'zod';
import { defineRoute, type Route } from '../lib/http/route.ts';
import { idSchema } from '../lib/identity/ids.ts';
import { deleteModule, getModule, moduleViewSchema, putModule } from '../lib/identity/modules.ts';
import { fleetReaders, fleetWriters, hubProblems } from './policies.ts';
import type { Services } from './services.ts';

const path = 'api/v1/devices/{deviceId}/modules/{moduleId}';
const params = z.strictObject({ deviceId: idSchema, moduleId: idSchema });
const tag = 'Modules';
const example = {
  id: 'meter',
  deviceId: 'press-4',
  auth: { type: 'sas' },
  connection: { state: 'disconnected', lastActivity: null },
};

export function modulesRoutes(services: Services): Route[] {
  return [
    defineRoute({
      name: 'putModule',
      methods: ['PUT'],
      path,
      summary: 'Make a module on a device',
      description:
        'With symmetric keys: a gateway takes nothing else of a module. There is nothing to say in the body.',
      tag,
      access: fleetWriters,
      params,
      body: z.strictObject({}).optional(),
      bodyExample: {},
      answers: {
        200: { description: 'It is there.', schema: moduleViewSchema, example },
        201: { description: 'It was made.', schema: moduleViewSchema, example },
      },
      problems: [
        'device_not_found',
        'device_is_gateway',
        'module_managed',
        'credential_mismatch',
        'quota_exceeded',
        ...hubProblems,
      ],
      audit: { action: 'module.put', when: 'change', subject: ({ params }) => ({ ...params }) },
      act: async ({ params: { deviceId, moduleId }, log }) => {
        const { created, view } = await putModule(await services.fleet(), deviceId, moduleId);
        log.info('module_put', { deviceId, moduleId, status: created ? 201 : 200 });
        return { status: created ? 201 : 200, json: view };
      },
    }),
    defineRoute({
      name: 'getModule',
      methods: ['GET'],
      path,
      summary: 'Read a module',
      tag,
      access: fleetReaders,
      params,
      answers: { 200: { description: 'The module.', schema: moduleViewSchema, example } },
      problems: ['module_not_found', ...hubProblems],
      act: async ({ params: { deviceId, moduleId } }) => ({
        status: 200,
        json: await getModule(await services.fleet(), deviceId, moduleId),
      }),
    }),
    defineRoute({
      name: 'deleteModule',
      methods: ['DELETE'],
      path,
      summary: 'Delete a module',
      tag,
      access: fleetWriters,
      params,
      answers: { 204: { description: 'It is gone.' } },
      problems: ['module_not_found', 'module_managed', ...hubProblems],
      audit: { action: 'module.delete', when: 'change', subject: ({ params }) => ({ ...params }) },
      act: async ({ params: { deviceId, moduleId }, log }) => {
        await deleteModule(await services.fleet(), deviceId, moduleId);
        log.info('module_deleted', { deviceId, moduleId });
        return { status: 204 };
      },
    }),
  ];
}
