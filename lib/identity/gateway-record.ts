import { z } from 'zod';
import { type AuthView, authViewSchema, describeAuthentication } from './authentication.ts';
import { gatewayIdOfScope, hostnameSchema, hostnameWarnings, idSchema } from './ids.ts';
import type { TwinRecord } from './registry.ts';
import { settingsEtag } from './settings-etag.ts';
import type { Tags } from './tags.ts';

export const defaultMaxDevices = 100;
export const defaultMqttPort = 8883;

const port = z.int().min(1).max(65_535);

export const portsSchema = z
  .object({ mqtt: port.nullable(), amqp: port.nullable(), websocket: port.nullable() })
  .meta({ description: 'Null: the gateway does not serve that protocol.' });

export type Ports = z.output<typeof portsSchema>;

export const defaultPorts: Ports = { mqtt: defaultMqttPort, amqp: 5671, websocket: 443 };

/** What makes an Edge device a gateway: kept in its twin tags under `gatepost`. */
export interface GatewaySettings {
  hostname: string;
  maxDevices: number;
  ports: Ports;
}

export const gatewayViewSchema = z.object({
  id: idSchema,
  hostname: z.string(),
  parent: z.string().nullable(),
  maxDevices: z.int(),
  ports: portsSchema,
  auth: authViewSchema,
  enabled: z.boolean(),
  deviceScope: z.string(),
  devices: z.int().optional().meta({
    description:
      'How many devices and gateways are directly behind it. Not in lists: it costs a query for each gateway.',
  }),
  connection: z.object({ state: z.enum(['connected', 'disconnected']), lastActivity: z.string().nullable() }),
  warnings: z
    .array(z.object({ code: z.string(), detail: z.string() }))
    .optional()
    .meta({ description: 'Only where there are any.' }),
});

export type GatewayView = z.output<typeof gatewayViewSchema>;

// Tags can be edited by hand in the portal: what does not read as a gateway's settings makes no gateway. A port that is
// absent is null, since a twin keeps no null.
const storedSchema = z.object({
  hostname: hostnameSchema,
  maxDevices: z.int().min(1).default(defaultMaxDevices),
  ports: z
    .object({
      mqtt: port.nullable().default(null),
      amqp: port.nullable().default(null),
      websocket: port.nullable().default(null),
    })
    .default(defaultPorts),
});

/** The settings in a twin's tags, or undefined where the Edge device is not a gateway of ours. */
export function gatewaySettings(tags: Tags): GatewaySettings | undefined {
  return storedSchema.safeParse(tags.gatepost).data;
}

/** The whole of `tags.gatepost`: nulls remove what an earlier write left. */
export function settingsTag(settings: GatewaySettings): Tags {
  const { hostname, maxDevices, ports } = settings;
  return { gatepost: { hostname, maxDevices, ports: { ...ports } } };
}

export function sameSettings(one: GatewaySettings | undefined, other: GatewaySettings): boolean {
  return (
    one !== undefined &&
    one.hostname === other.hostname &&
    one.maxDevices === other.maxDevices &&
    one.ports.mqtt === other.ports.mqtt &&
    one.ports.amqp === other.ports.amqp &&
    one.ports.websocket === other.ports.websocket
  );
}

export interface Described<T> {
  view: T;
  etag: string;
}

export function describeGateway(
  twin: TwinRecord,
  settings: GatewaySettings,
  devices: number | undefined,
): Described<GatewayView> {
  const auth: AuthView = describeAuthentication(twin.authentication);
  const kept = {
    id: twin.deviceId,
    hostname: settings.hostname,
    parent: gatewayIdOfScope(twin.parentScopes[0]) ?? null,
    maxDevices: settings.maxDevices,
    ports: settings.ports,
    auth,
    enabled: twin.status === 'enabled',
    deviceScope: twin.deviceScope ?? '',
  };
  const warnings = hostnameWarnings(settings.hostname);
  const view = {
    ...kept,
    ...(devices === undefined ? {} : { devices }),
    connection: twin.connection,
    ...(warnings.length === 0 ? {} : { warnings }),
  };
  return { view, etag: settingsEtag(kept) };
}
