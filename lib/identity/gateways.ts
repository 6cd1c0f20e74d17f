import { z } from 'zod';
import { GatepostError } from '../errors.ts';
import { authInputSchema, newAuthentication, sameAuthentication } from './authentication.ts';
import type { Fleet } from './fleet.ts';
import { childrenOf, notEdge } from './gateway-cache.ts';
import {
  type Described,
  defaultMaxDevices,
  defaultPorts,
  describeGateway,
  type GatewaySettings,
  type GatewayView,
  gatewaySettings,
  sameSettings,
  settingsTag,
} from './gateway-record.ts';
import { checkedParent } from './gateway-tree.ts';
import { hostnameSchema, idSchema } from './ids.ts';
import type { DeviceRecord, NewDevice, Page, TwinRecord } from './registry.ts';
import { type Conditions, requireConditions } from './settings-etag.ts';

const port = z.int().min(1).max(65_535).nullable();

/** The body of PUT. What is left out stays as it is, or gets its default when the gateway is new. */
export const gatewayInputSchema = z.strictObject({
  hostname: hostnameSchema,
  parent: idSchema.nullable().optional().meta({ description: 'The gateway that this one stands behind; null: none.' }),
  maxDevices: z
    .int()
    .min(1)
    .max(1_000_000)
    .optional()
    .meta({ description: `Default ${defaultMaxDevices}.` }),
  ports: z
    .strictObject({ mqtt: port.optional(), amqp: port.optional(), websocket: port.optional() })
    .optional()
    .meta({ description: 'Where devices reach it, behind port forwarding; null: not served.' }),
  auth: authInputSchema.optional(),
  enabled: z.boolean().optional(),
});

export type GatewayInput = z.output<typeof gatewayInputSchema>;

export interface PutAnswer<T> extends Described<T> {
  created: boolean;
}

/** How often a write that lost a race is done again from what is there then. */
const mostTries = 5;

/**
 * Makes an Edge device a gateway: creates its identity or adopts the one of that id, links it behind its parent, and records
 * its host name and limits. Repeated, it changes nothing and heals what a lost call left half-done.
 */
export async function putGateway(
  fleet: Fleet,
  id: string,
  input: GatewayInput,
  conditions: Conditions,
): Promise<PutAnswer<GatewayView>> {
  let created = false;
  let current = conditions;
  for (let tries = 0; tries < mostTries; tries += 1) {
    const readAt = fleet.clock().getTime();
    const twin = await fleet.registry.twin(id);
    if (twin !== undefined && !twin.isEdge) throw notEdge(id);
    // Half of a gateway that this very call has made is not what the conditions were about.
    if (!created) requireConditions(current, etagOf(twin));
    mergedSettings(input, twin);
    const parent = input.parent ? await checkedParent(fleet.registry, id, input.parent, twin) : undefined;
    const parentScopes = parent !== undefined ? [parent.scope] : input.parent === null ? [] : undefined;
    const isMoved = parent !== undefined && twin?.parentScopes[0] !== parent.scope;
    const place = isMoved ? await fleet.gateways.reserve(parent) : undefined;
    const outcome = await write(fleet, id, input, twin, parentScopes).catch((error: unknown) => {
      place?.giveBack();
      throw error;
    });
    fleet.gateways.drop(id);
    if (outcome === 'lost') place?.giveBack();
    else place?.keep();
    created ||= outcome === 'created';
    if (typeof outcome === 'string') continue;
    if ('tags' in outcome) {
      fleet.gateways.remember(outcome, readAt);
      const devices = created ? 0 : await fleet.gateways.countNow(outcome.deviceScope ?? '');
      return { ...describeGateway(outcome, mergedSettings(input, outcome), devices), created };
    }
    if (parentScopes !== undefined) fleet.gateways.left(twin?.parentScopes[0]);
    // The tag that the gateway has now if nobody else changed it too.
    if (current.ifMatch !== undefined) current = { ifMatch: etagOf(twin && { ...twin, ...stateOf(outcome) }) };
  }
  throw new GatepostError('precondition_failed', 'The gateway is being changed by others right now. Try again.');
}

function stateOf(device: DeviceRecord): Pick<TwinRecord, 'status' | 'parentScopes' | 'authentication'> {
  const { status, parentScopes, authentication } = device;
  return { status, parentScopes, authentication };
}

/**
 * One step towards what is asked for. A twin means that all of it is so; after any other step the gateway is read again,
 * which is also how the parent link is verified. An identity is one that was replaced; `lost`: somebody else was faster.
 */
async function write(
  fleet: Fleet,
  id: string,
  input: GatewayInput,
  twin: TwinRecord | undefined,
  parentScopes: string[] | undefined,
): Promise<TwinRecord | DeviceRecord | 'created' | 'lost'> {
  const { registry } = fleet;
  const status = input.enabled === undefined ? undefined : input.enabled ? ('enabled' as const) : ('disabled' as const);
  if (twin === undefined) {
    const device: NewDevice = {
      deviceId: id,
      status: status ?? 'enabled',
      isEdge: true,
      authentication: newAuthentication(input.auth),
      ...(parentScopes === undefined ? {} : { parentScopes }),
    };
    return (await registry.createDevice(device)) === 'exists' ? 'lost' : 'created';
  }
  try {
    const identity = await writeIdentity(fleet, twin, input, status, parentScopes);
    if (identity !== 'same') return identity;
    const settings = mergedSettings(input, twin);
    if (sameSettings(gatewaySettings(twin.tags), settings)) return twin;
    return await registry.patchTags(id, settingsTag(settings), twin.etag);
  } catch (error) {
    if (error instanceof GatepostError && error.code === 'precondition_failed') return 'lost';
    throw error;
  }
}

async function writeIdentity(
  fleet: Fleet,
  twin: TwinRecord,
  input: GatewayInput,
  status: 'enabled' | 'disabled' | undefined,
  parentScopes: string[] | undefined,
): Promise<DeviceRecord | 'same' | 'lost'> {
  const authentication = input.auth === undefined ? undefined : newAuthentication(input.auth);
  const isSame =
    (status === undefined || status === twin.status) &&
    (parentScopes === undefined || parentScopes[0] === twin.parentScopes[0]) &&
    (authentication === undefined || sameAuthentication(authentication, twin.authentication));
  if (isSame) return 'same';
  // Whole-object replace: without the keys that are there, the hub would make new ones.
  const device = await fleet.registry.device(twin.deviceId);
  if (device === undefined) return 'lost';
  const keepsAuthentication = authentication === undefined || sameAuthentication(authentication, device.authentication);
  return fleet.registry.replaceDevice({
    ...device,
    ...(status === undefined ? {} : { status }),
    ...(parentScopes === undefined ? {} : { parentScopes }),
    ...(keepsAuthentication ? {} : { authentication }),
  });
}

/** Throws `gateway_not_found` also for an Edge device that is no gateway. */
export async function getGateway(fleet: Fleet, id: string): Promise<Described<GatewayView>> {
  const { twin, settings } = await readGateway(fleet, id);
  return describeGateway(twin, settings, await fleet.gateways.countNow(twin.deviceScope ?? ''));
}

/** One page of gateways. It may be short and still have a next one, where tags were spoiled by hand. */
export async function listGateways(
  fleet: Fleet,
  page: { size: number; continuation?: string },
): Promise<Page<GatewayView>> {
  const where = 'capabilities.iotEdge = true AND is_defined(tags.gatepost.hostname)';
  const { rows, continuation } = await fleet.registry.queryTwins(where, page);
  const gateways = rows.flatMap((twin) => {
    const settings = gatewaySettings(twin.tags);
    return settings === undefined ? [] : [describeGateway(twin, settings, undefined).view];
  });
  return { rows: gateways, ...(continuation === undefined ? {} : { continuation }) };
}

/** The scope that devices behind a gateway carry; throws `gateway_not_found`. */
export async function scopeOfGateway(fleet: Fleet, id: string): Promise<string> {
  const { twin } = await readGateway(fleet, id);
  return twin.deviceScope ?? '';
}

/** Deletes the Edge identity. Throws `gateway_has_children` unless they may be orphaned. */
export async function deleteGateway(
  fleet: Fleet,
  id: string,
  options: { orphan: boolean; ifMatch?: string | undefined },
): Promise<void> {
  const { twin } = await readGateway(fleet, id);
  requireConditions({ ifMatch: options.ifMatch }, etagOf(twin));
  if (!options.orphan) await refuseWithChildren(fleet, id, twin.deviceScope ?? '');
  const etag = options.ifMatch === undefined ? undefined : (await fleet.registry.device(id))?.etag;
  const wasThere = await fleet.registry.deleteDevice(id, etag);
  fleet.gateways.drop(id);
  fleet.gateways.left(twin.parentScopes[0]);
  if (!wasThere) throw notFound(id);
}

async function refuseWithChildren(fleet: Fleet, id: string, scope: string): Promise<void> {
  const { rows } = await fleet.registry.queryTwins(childrenOf(scope), { size: 1 });
  if (rows.length === 0) return;
  const detail = `Move what stands behind ${id} to another gateway first, or repeat the call with ?orphan=true to cut it off.`;
  throw new GatepostError('gateway_has_children', detail);
}

async function readGateway(fleet: Fleet, id: string): Promise<{ twin: TwinRecord; settings: GatewaySettings }> {
  const twin = await fleet.registry.twin(id);
  const settings = twin?.isEdge ? gatewaySettings(twin.tags) : undefined;
  if (twin === undefined || settings === undefined) throw notFound(id);
  return { twin, settings };
}

function notFound(id: string): GatepostError {
  return new GatepostError('gateway_not_found', `PUT /api/v1/gateways/${id} makes an Edge device a gateway.`);
}

function etagOf(twin: TwinRecord | undefined): string | undefined {
  const settings = twin === undefined ? undefined : gatewaySettings(twin.tags);
  return twin === undefined || settings === undefined ? undefined : describeGateway(twin, settings, undefined).etag;
}

/** What is asked for on top of what is recorded on top of the defaults. */
function mergedSettings(input: GatewayInput, twin: TwinRecord | undefined): GatewaySettings {
  const recorded = twin === undefined ? undefined : gatewaySettings(twin.tags);
  const ports = { ...(recorded?.ports ?? defaultPorts) };
  for (const protocol of ['mqtt', 'amqp', 'websocket'] as const) {
    const asked = input.ports?.[protocol];
    if (asked !== undefined) ports[protocol] = asked;
  }
  if (ports.mqtt === null && ports.amqp === null && ports.websocket === null) {
    const errors = [{ pointer: '/ports', detail: 'Let the gateway serve at least one protocol.' }];
    throw new GatepostError('invalid_request', '/ports: let the gateway serve at least one protocol.', { errors });
  }
  return { hostname: input.hostname, maxDevices: input.maxDevices ?? recorded?.maxDevices ?? defaultMaxDevices, ports };
}
