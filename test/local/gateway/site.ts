import iotDevice, { type Client } from 'azure-iot-device';
import { Mqtt } from 'azure-iot-device-mqtt';
import { connect, type MqttClient } from 'mqtt';
import { ensureEdgeIdentity } from '../../../local/cloud/edge-identity.ts';
import { callHub, type HubAccess } from '../../../local/cloud/hub-api.ts';
import { type Gateway, type GatewayOptions, startGateway } from '../../../local/gateway/gateway.ts';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import { type Hub, startHub } from '../../../local/hub/hub.ts';
import { issue, selfSigned } from '../../../local/kit/certificates.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';

export interface KeyedDevice {
  deviceId: string;
  moduleId?: string;
  key: string;
  secondaryKey: string;
  connectionString: string;
}

export interface Packet {
  clientId: string;
  userName: string;
  password?: string;
  certificate?: { cert: string; key: string };
}

/** A hub with one gateway, and what a test needs to put devices behind it. */
export class Site {
  readonly faults = new FaultSwitch();
  readonly hub: Hub;
  readonly access: HubAccess;
  readonly gateways: Gateway[] = [];
  readonly #open: { close(): Promise<unknown> }[] = [];

  private constructor(hub: Hub, faults: FaultSwitch, ca: string) {
    this.hub = hub;
    this.faults = faults;
    this.access = { hostname: hub.hostname, port: hub.port, connectionString: hub.connectionString, ca };
  }

  static async open(): Promise<Site> {
    const faults = new FaultSwitch();
    const ca = await selfSigned({ commonName: 'Test CA of the hub' });
    const { chain, privateKey } = await issue(ca, {
      commonName: 'hub',
      names: ['localhost', 'gatepost.azure-devices.net'],
    });
    return new Site(await startHub({ faults, tls: { cert: chain, key: privateKey } }), faults, ca.certificate);
  }

  async gateway(options: Partial<GatewayOptions> & { id: string }): Promise<Gateway> {
    const edgeKey = await ensureEdgeIdentity(this.access, options.id);
    const { hostname, port, ca } = this.access;
    const hub = { hostname, port, ca, devices: this.hub.devices };
    const gateway = await startGateway({ faults: this.faults, hub, edgeKey, ...options });
    this.gateways.push(gateway);
    return gateway;
  }

  async close(): Promise<void> {
    await this.closeClients();
    for (const gateway of this.gateways) await gateway.close();
    await this.hub.close();
  }

  /** Closes what a test has opened with {@link sdk} and {@link stay}. */
  async closeClients(): Promise<void> {
    for (const each of this.#open.splice(0)) await each.close();
  }

  closeLater(client: { close(): Promise<unknown> }): void {
    this.#open.push(client);
  }

  /** The real SDK, given nothing but the connection string and the gateway's root. */
  async sdk(device: KeyedDevice, root: string): Promise<Client> {
    const client = iotDevice.Client.fromConnectionString(device.connectionString, Mqtt);
    this.#open.push(client);
    await client.setOptions({ ca: root });
    await client.open();
    return client;
  }

  /** A bare MQTT connection that stays. */
  async stay(at: Gateway, device: KeyedDevice, token?: string): Promise<MqttClient> {
    const { code, client } = await knock(at, this.packet(device, token === undefined ? {} : { token }));
    this.#open.push({ close: () => client.endAsync(true) });
    if (code !== 0) throw new Error(`CONNACK ${code}`);
    return client;
  }

  patchTwin(deviceId: string, desired: object): Promise<unknown> {
    return this.call('PATCH', `/twins/${deviceId}`, { properties: { desired } }, { 'if-match': '"*"' });
  }

  async reported(deviceId: string): Promise<Record<string, unknown>> {
    const twin = await this.call('GET', `/twins/${deviceId}`);
    return (twin as { properties: { reported: Record<string, unknown> } }).properties.reported;
  }

  /** The bodies of the telemetry that the hub has received from a device, the oldest first. */
  bodiesFrom(deviceId: string): string[] {
    const messages = this.hub.received().filter((message) => message.deviceId === deviceId);
    return messages.map((message) => Buffer.from(message.body, 'base64').toString());
  }

  async call(method: string, path: string, body?: object, headers?: Record<string, string>): Promise<unknown> {
    const answer = await callHub(this.access, method, path, body, headers);
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  async scopeOf(gateway: Gateway): Promise<string> {
    return ((await this.call('GET', `/devices/${gateway.id}`)) as { deviceScope: string }).deviceScope;
  }

  /** A device of the hub; behind `gateway`, if one is given. */
  async device(deviceId: string, gateway?: Gateway, fields: object = {}): Promise<KeyedDevice> {
    const scope = gateway === undefined ? {} : { deviceScope: await this.scopeOf(gateway) };
    const made = await this.call('PUT', `/devices/${deviceId}`, {
      deviceId,
      status: 'enabled',
      authentication: { type: 'sas' },
      ...scope,
      ...fields,
    });
    return this.#keyed({ deviceId }, made, gateway);
  }

  /** A device behind `gateway` that has no keys. */
  async x509(
    type: 'selfSigned' | 'certificateAuthority',
    deviceId: string,
    gateway: Gateway,
    more: object = {},
  ): Promise<void> {
    const deviceScope = await this.scopeOf(gateway);
    await this.call('PUT', `/devices/${deviceId}`, { deviceId, deviceScope, authentication: { type, ...more } });
  }

  async module(deviceId: string, moduleId: string, gateway: Gateway): Promise<KeyedDevice> {
    const body = { deviceId, moduleId, authentication: { type: 'sas' } };
    const made = await this.call('PUT', `/devices/${deviceId}/modules/${moduleId}`, body);
    return this.#keyed({ deviceId, moduleId }, made, gateway);
  }

  /** Reads, changes and writes a device. */
  async change(deviceId: string, fields: object): Promise<void> {
    const device = (await this.call('GET', `/devices/${deviceId}`)) as object;
    await this.call('PUT', `/devices/${deviceId}`, { ...device, ...fields }, { 'if-match': '"*"' });
  }

  #keyed(id: { deviceId: string; moduleId?: string }, made: unknown, gateway: Gateway | undefined): KeyedDevice {
    const { symmetricKey } = (
      made as { authentication: { symmetricKey: { primaryKey: string; secondaryKey: string } } }
    ).authentication;
    const parts = [
      `HostName=${this.hub.hostname}`,
      `DeviceId=${id.deviceId}`,
      ...(id.moduleId === undefined ? [] : [`ModuleId=${id.moduleId}`]),
      `SharedAccessKey=${symmetricKey.primaryKey}`,
      ...(gateway === undefined ? [] : [`GatewayHostName=${gateway.hostname}:${gateway.ports.mqtt}`]),
    ];
    const { primaryKey: key, secondaryKey } = symmetricKey;
    return { ...id, key, secondaryKey, connectionString: parts.join(';') };
  }

  /** A CONNECT as the Azure SDKs write it, for a test to bend. */
  packet(device: KeyedDevice, bend: Partial<Packet> & { token?: string } = {}): Packet {
    const id = device.moduleId === undefined ? device.deviceId : `${device.deviceId}/${device.moduleId}`;
    const path = device.moduleId === undefined ? '' : `/modules/${device.moduleId}`;
    const audience = `${this.hub.hostname}/devices/${device.deviceId}${path}`;
    return {
      clientId: id,
      userName: `${this.hub.hostname}/${id}/?api-version=2021-04-12`,
      password: bend.token ?? makeSasToken(audience, device.key, Math.floor(Date.now() / 1000) + 3600),
      ...bend,
    };
  }
}

/** Opens one connection without any retry. Answers the CONNACK return code, 0 being accepted, and the client. */
export async function knock(
  gateway: Gateway,
  packet: Packet,
): Promise<{ code: number | 'closed'; client: MqttClient }> {
  const client = connect(`mqtts://localhost:${gateway.ports.mqtt}`, {
    clientId: packet.clientId,
    username: packet.userName,
    ...(packet.password === undefined ? {} : { password: packet.password }),
    ...packet.certificate,
    ca: gateway.root,
    protocolVersion: 4,
    clean: true,
    reconnectPeriod: 0,
  });
  // A refused connection also reports errors, which the outcome already tells.
  client.on('error', () => {});
  const code = await new Promise<number | 'closed'>((resolve) => {
    client.once('packetreceive', (packet) => resolve(packet.cmd === 'connack' ? (packet.returnCode ?? -1) : -1));
    client.once('close', () => resolve('closed'));
  });
  return { code, client };
}

/** Like {@link knock}, for what is let in or not and does nothing more. */
export async function codeOf(gateway: Gateway, packet: Packet): Promise<number | 'closed'> {
  const { code, client } = await knock(gateway, packet);
  await client.endAsync(true);
  return code;
}

/** Waits until `holds`, at most five seconds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const giveUp = Date.now() + 5000;
  while (!(await holds())) {
    if (Date.now() > giveUp) throw new Error(`it never came to be that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Resolves when the gateway has cut the connection. */
export function endOf(client: MqttClient): Promise<void> {
  return new Promise((resolve) => client.once('close', () => resolve()));
}

/** What the SDK hands out as a twin; its own types are wider than what it is. */
export interface DeviceTwin {
  properties: {
    desired: { [name: string]: unknown; $version: number };
    reported: { update(patch: object, done: (error?: Error) => void): void };
  };
  on(event: string, listener: (patch: object) => void): void;
}

export async function twinOf(client: Client): Promise<DeviceTwin> {
  return (await client.getTwin()) as unknown as DeviceTwin;
}

export function report(twin: DeviceTwin, patch: object): Promise<void> {
  return new Promise((resolve, reject) => {
    twin.properties.reported.update(patch, (error) => (error ? reject(error) : resolve()));
  });
}

let made = 0;

/** A device id that no other test of the file uses. */
export function newName(): string {
  made += 1;
  return `press-${made}`;
}
