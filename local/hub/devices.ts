import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CloudToDeviceMessage,
  type DeviceBackend,
  DeviceError,
  type DeviceSink,
  type Identity,
} from '../mqtt/identity.ts';
import { HubError } from './errors.ts';
import { propertiesJson } from './model.ts';
import type { HubRegistry } from './registry.ts';
import { isBelow } from './scopes.ts';
import type { Throttle } from './throttle.ts';
import { patchReported } from './twin-patch.ts';

/** One message that the hub received from a device. */
export interface ReceivedMessage {
  deviceId: string;
  moduleId: string | null;
  /** The gateway that it came through; null straight from the device. */
  gatewayId: string | null;
  enqueuedAt: string;
  properties: Record<string, string>;
  /** base64 */
  body: string;
}

/** The device side of the hub: what a gateway forwards to, and what the hub's own MQTT endpoint does. */
export interface HubDevices extends DeviceBackend {
  /**
   * `via` is the gateway that forwards. The hub takes it only for an enabled device in that gateway's scope, at any depth:
   * it rejects with 401003 where the device was moved away or its gateway was made anew.
   */
  telemetry(from: Identity, properties: Record<string, string>, body: Buffer, via?: string): Promise<void>;
}

const maxPendingMessages = 50;
const maxMessageBytes = 64 * 1024;
const messageLifeMs = 3_600_000;
/** The stream is kept in memory: the oldest messages make room. */
const maxReceived = 100_000;

export class ConnectedDevices implements HubDevices {
  readonly received: ReceivedMessage[] = [];
  readonly #registry: HubRegistry;
  readonly #throttle: Throttle;
  readonly #now: () => Date;
  readonly #sinks = new Map<string, DeviceSink[]>();
  readonly #delivering = new Set<DeviceSink>();

  constructor(registry: HubRegistry, throttle: Throttle, now: () => Date) {
    this.#registry = registry;
    this.#throttle = throttle;
    this.#now = now;
    registry.on('desired', (deviceId, moduleId, patch) => {
      this.#sinks.get(keyOf({ deviceId, moduleId }))?.at(-1)?.desired(patch);
    });
  }

  async telemetry(from: Identity, properties: Record<string, string>, body: Buffer, via?: string): Promise<void> {
    const device = this.#registry.device(from.deviceId);
    this.#registry.principal(from.deviceId, from.moduleId);
    const isLetIn = device.status === 'enabled' && (via === undefined || isBelow(this.#registry.devices, device, via));
    if (!isLetIn) {
      throw new HubError(
        'IotHubUnauthorized',
        `${from.deviceId} is disabled or not in the scope of ${via ?? 'the hub'}.`,
      );
    }
    this.#throttle.takeMessage();
    this.ingest({
      ...from,
      gatewayId: via ?? null,
      enqueuedAt: this.#now().toISOString(),
      properties,
      body: body.toString('base64'),
    });
  }

  ingest(message: ReceivedMessage): void {
    this.received.push(message);
    if (this.received.length > maxReceived) this.received.shift();
    this.#active(message);
  }

  async twin(of: Identity): Promise<{ desired: object; reported: object }> {
    this.#throttle.take('twinRead');
    const { twin } = this.#registry.principal(of.deviceId, of.moduleId);
    this.#active(of);
    return { desired: propertiesJson(twin.desired, false), reported: propertiesJson(twin.reported, false) };
  }

  async patchReported(of: Identity, patch: object): Promise<number> {
    this.#throttle.take('twinWrite');
    const { twin } = this.#registry.principal(of.deviceId, of.moduleId);
    const version = patchReported(twin, patch, this.#now().toISOString());
    this.#active(of);
    return version;
  }

  attach(of: Identity, sink: DeviceSink): () => void {
    const key = keyOf(of);
    this.#sinks.set(key, [...(this.#sinks.get(key) ?? []), sink]);
    this.#setConnected(of, true);
    if (of.moduleId === null) void this.#deliver(of.deviceId, sink);
    return () => {
      const left = (this.#sinks.get(key) ?? []).filter((one) => one !== sink);
      if (left.length > 0) this.#sinks.set(key, left);
      else this.#sinks.delete(key);
      this.#setConnected(of, left.length > 0);
    };
  }

  /** Puts a message into the device's queue of 50, for an hour, and answers its id. */
  sendCloudToDevice(deviceId: string, message: Partial<CloudToDeviceMessage>): string {
    const device = this.#registry.device(deviceId);
    const body = message.body ?? Buffer.alloc(0);
    if (body.length > maxMessageBytes) throw new HubError('MessageTooLarge', 'A message has at most 64 KB.');
    if (device.cloudToDevice.length >= maxPendingMessages) {
      throw new HubError('DeviceMaximumQueueDepthExceeded', `Device Queue depth cannot exceed ${maxPendingMessages}`);
    }
    const id = message.id ?? randomUUID();
    const expiresAt = new Date(this.#now().getTime() + messageLifeMs).toISOString();
    device.cloudToDevice.push({ id, properties: { ...message.properties }, body: body.toString('base64'), expiresAt });
    this.#registry.emit('changed');
    const sink = this.#sinks.get(keyOf({ deviceId, moduleId: null }))?.at(-1);
    if (sink !== undefined) void this.#deliver(deviceId, sink);
    return id;
  }

  /** Calls a method and waits `connectMs` for a device that is not there, `responseMs` for its answer. */
  async invoke(
    of: Identity,
    call: { name: string; payload: unknown; responseMs: number; connectMs: number },
  ): Promise<{ status: number; payload: unknown }> {
    const until = this.#now().getTime() + call.connectMs;
    for (;;) {
      const sink = this.#sinks.get(keyOf(of))?.at(-1);
      try {
        if (sink !== undefined) return await sink.method(call.name, call.payload, call.responseMs);
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error;
        if (error.status === 504) throw new HubError('GatewayTimeout', error.message);
        if (error.status !== 404) throw error;
      }
      if (this.#now().getTime() >= until) break;
      await sleep(50);
    }
    const message = `The operation failed because the requested device isn't online or hasn't registered the direct method callback. To learn more, see https://aka.ms/iothub404103`;
    throw new HubError('DeviceNotOnline', message);
  }

  async #deliver(deviceId: string, sink: DeviceSink): Promise<void> {
    if (this.#delivering.has(sink)) return;
    this.#delivering.add(sink);
    try {
      for (;;) {
        const queue = this.#registry.devices.get(deviceId)?.cloudToDevice ?? [];
        const next = queue[0];
        if (next === undefined) return;
        const isExpired = next.expiresAt <= this.#now().toISOString();
        const message = { id: next.id, properties: next.properties, body: Buffer.from(next.body, 'base64') };
        if (!isExpired && !(await sink.cloudToDevice(message))) return;
        const index = queue.indexOf(next);
        if (index !== -1) queue.splice(index, 1);
        this.#registry.emit('changed');
      }
    } finally {
      this.#delivering.delete(sink);
    }
  }

  #active(of: Identity): void {
    const device = this.#registry.devices.get(of.deviceId);
    const principal = of.moduleId === null ? device : device?.modules[of.moduleId];
    if (principal === undefined) return;
    principal.lastActivityTime = this.#now().toISOString();
    this.#registry.emit('changed');
  }

  #setConnected(of: Identity, isConnected: boolean): void {
    const device = this.#registry.devices.get(of.deviceId);
    const principal = of.moduleId === null ? device : device?.modules[of.moduleId];
    const state = isConnected ? 'Connected' : 'Disconnected';
    if (principal === undefined || principal.connectionState === state) return;
    principal.connectionState = state;
    principal.connectionStateUpdatedTime = this.#now().toISOString();
    this.#active(of);
  }
}

function keyOf(of: Identity): string {
  return JSON.stringify([of.deviceId, of.moduleId]);
}
