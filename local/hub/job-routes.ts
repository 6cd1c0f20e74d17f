import type { RegistryJobs } from './jobs.ts';
import { type HubRoute, param, readJson } from './routes.ts';

/** Import and export jobs of the registry. */
export function jobRoutes(jobs: RegistryJobs): HubRoute[] {
  const access = (action: 'read' | 'write' | 'delete') =>
    ({ right: 'RegistryWrite', actions: [`jobs/${action}`] }) as const;
  return [
    {
      method: 'POST',
      path: '/jobs/create',
      access: access('write'),
      meter: 'registry',
      handle: (exchange) => ({ status: 200, body: jobs.create(readJson(exchange)) }),
    },
    { method: 'GET', path: '/jobs', access: access('read'), handle: () => ({ status: 200, body: jobs.list() }) },
    {
      method: 'GET',
      path: '/jobs/{id}',
      access: access('read'),
      handle: (exchange) => ({ status: 200, body: jobs.get(param(exchange, 'id')) }),
    },
    {
      method: 'DELETE',
      path: '/jobs/{id}',
      access: access('delete'),
      handle: (exchange) => {
        jobs.cancel(param(exchange, 'id'));
        return { status: 204 };
      },
    },
  ];
}
