import { callHub, type HubAccess, type HubAnswer } from './hub-api.ts';

/**
 * Makes `id` an IoT Edge device of the hub, as an installer does before anybody has heard of Gatepost: no twin tags are
 * set. One that exists stays as it is. Answers the key of its `$edgeHub` module, which the hub makes with the device.
 */
export async function ensureEdgeIdentity(hub: HubAccess, id: string): Promise<string> {
  const path = `/devices/${encodeURIComponent(id)}`;
  const device = { deviceId: id, status: 'enabled', authentication: { type: 'sas' }, capabilities: { iotEdge: true } };
  // Without If-Match it creates and nothing else: the hub answers 409 where the device exists.
  const made = await callHub(hub, 'PUT', path, device);
  if (made.status !== 200 && made.status !== 409) throw new Error(`The hub refused to create ${id}: ${said(made)}`);
  const module = await callHub(hub, 'GET', `${path}/modules/$edgeHub`);
  const { authentication } = module.body as { authentication?: { symmetricKey?: { primaryKey?: string } } };
  const key = authentication?.symmetricKey?.primaryKey;
  if (key === undefined) throw new Error(`The hub has no $edgeHub module for ${id}: ${said(module)}`);
  return key;
}

function said(answer: HubAnswer): string {
  return `status ${answer.status} ${JSON.stringify(answer.body)}`;
}
