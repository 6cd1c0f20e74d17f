import { setTimeout as sleep } from 'node:timers/promises';
import { clientIdOf, type DeviceBackend, DeviceError, type DeviceSink, type Identity } from '../mqtt/identity.ts';
import { mergePatch, type Properties, patchBetween, versionOf } from './twin-patch.ts';

/** The device side of the hub, which must be told through which gateway a message came. */
export interface HubDevices extends DeviceBackend {
  telemetry(from: Identity, properties: Record<string, string>, body: Buffer, via?: string): Promise<void>;
}

/** A message on its way to the hub. */
export interface StoredMessage {
  from: Identity;
  properties: Record<string, string>;
  /** Base64. */
  body: string;
  storedAt: number;
}

export interface UpstreamOptions {
  hub: HubDevices;
  gatewayId: string;
  stored?: StoredMessage[] | undefined;
  changed(): void;
  now?: () => number;
}

/** storeAndForwardConfiguration.timeToLiveSecs of a new deployment: what is older is dropped, not forwarded. */
const timeToLiveMs = 7_200_000;
const retryMs = 1000;

interface Twin {
  desired: Properties;
  reported: Properties;
}

interface Attached {
  of: Identity;
  sink: DeviceSink;
  detach: (() => void) | undefined;
}

/**
 * The gateway's link to the hub. While it is down, telemetry is stored and twins are served from what was seen last;
 * once it is back all of it is caught up on, telemetry in its order (learn.microsoft.com/azure/iot-edge, "offline-capabilities").
 */
export class Upstream implements DeviceBackend {
  readonly #options: UpstreamOptions;
  readonly #messages: StoredMessage[];
  readonly #attached = new Set<Attached>();
  readonly #twins = new Map<string, Twin>();
  readonly #unsent = new Map<string, { of: Identity; patch: Properties }>();
  readonly #now: () => number;
  #online = true;
  #closed = false;
  #forwarding: Promise<void> | undefined;

  constructor(options: UpstreamOptions) {
    this.#options = options;
    this.#messages = [...(options.stored ?? [])];
    this.#now = options.now ?? Date.now;
    void this.#forward();
  }

  get online(): boolean {
    return this.#online;
  }

  /** What waits for the hub. */
  stored(): StoredMessage[] {
    return this.#messages;
  }

  close(): void {
    this.#closed = true;
    this.#detachAll();
  }

  setOnline(online: boolean): void {
    if (online === this.#online) return;
    this.#online = online;
    if (!online) {
      this.#detachAll();
      return;
    }
    for (const attached of this.#attached) this.#reattach(attached);
    void this.#forward();
    void this.#catchUp();
  }

  async telemetry(from: Identity, properties: Record<string, string>, body: Buffer): Promise<void> {
    this.#messages.push({ from, properties, body: body.toString('base64'), storedAt: this.#now() });
    this.#options.changed();
    await this.#forward();
  }

  async twin(of: Identity): Promise<{ desired: object; reported: object }> {
    const id = clientIdOf(of);
    if (this.#online) {
      const { desired, reported } = (await this.#options.hub.twin(of)) as Twin;
      this.#twins.set(id, { desired, reported });
    }
    return this.#twins.get(id) ?? { desired: {}, reported: {} };
  }

  async patchReported(of: Identity, patch: object): Promise<number> {
    if (this.#online) return this.#options.hub.patchReported(of, patch);
    const id = clientIdOf(of);
    const twin = this.#twins.get(id) ?? { desired: {}, reported: {} };
    const version = versionOf(twin.reported) + 1;
    const reported = { ...mergePatch(twin.reported, patch as Properties), $version: version };
    this.#twins.set(id, { ...twin, reported });
    // Removals must reach the hub too, so patches are joined with their nulls in them.
    const unsent = this.#unsent.get(id)?.patch ?? {};
    this.#unsent.set(id, { of, patch: mergePatch(unsent, patch as Properties, 'keep nulls') });
    return version;
  }

  attach(of: Identity, sink: DeviceSink): () => void {
    const attached: Attached = { of, sink, detach: undefined };
    this.#attached.add(attached);
    if (this.#online) this.#reattach(attached);
    return () => {
      this.#attached.delete(attached);
      attached.detach?.();
    };
  }

  #reattach(attached: Attached): void {
    const { of, sink } = attached;
    attached.detach = this.#options.hub.attach(of, {
      desired: (patch) => this.#desired(attached, patch as Properties),
      method: (name, payload, timeoutMs) => sink.method(name, payload, timeoutMs),
      cloudToDevice: (message) => sink.cloudToDevice(message),
    });
  }

  #detachAll(): void {
    for (const attached of this.#attached) {
      attached.detach?.();
      attached.detach = undefined;
    }
  }

  #desired({ of, sink }: Attached, patch: Properties): void {
    const id = clientIdOf(of);
    const twin = this.#twins.get(id);
    if (twin !== undefined) this.#twins.set(id, { ...twin, desired: mergePatch(twin.desired, patch) });
    sink.desired(patch);
  }

  /** Sends what was reported while the hub was away, and tells devices what they were asked for meanwhile. */
  async #catchUp(): Promise<void> {
    for (const [id, { of, patch }] of [...this.#unsent]) {
      this.#unsent.delete(id);
      await this.#options.hub.patchReported(of, patch).catch(() => {});
    }
    for (const { of, sink } of [...this.#attached]) {
      const before = this.#twins.get(clientIdOf(of))?.desired;
      const now = await this.twin(of).catch(() => undefined);
      if (before === undefined || now === undefined) continue;
      const desired = now.desired as Properties;
      if (versionOf(desired) > versionOf(before)) sink.desired(patchBetween(before, desired));
    }
  }

  #forward(): Promise<void> {
    this.#forwarding ??= this.#forwardAll().finally(() => {
      this.#forwarding = undefined;
    });
    return this.#forwarding;
  }

  async #forwardAll(): Promise<void> {
    while (this.#online && !this.#closed) {
      const [message] = this.#messages;
      if (message === undefined) return;
      if (!(await this.#deliver(message))) {
        void sleep(retryMs, undefined, { ref: false }).then(() => this.#forward());
        return;
      }
      this.#messages.shift();
      this.#options.changed();
    }
  }

  /** Answers false where it is worth another attempt. */
  async #deliver(message: StoredMessage): Promise<boolean> {
    if (this.#now() - message.storedAt > timeToLiveMs) return true;
    try {
      const body = Buffer.from(message.body, 'base64');
      await this.#options.hub.telemetry(message.from, message.properties, body, this.#options.gatewayId);
      return true;
    } catch (error) {
      // The hub says no, and will say it again: the identity is gone, for one.
      return error instanceof DeviceError && error.status < 500 && error.status !== 429;
    }
  }
}
