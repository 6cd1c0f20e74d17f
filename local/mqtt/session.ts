import type { Client } from 'aedes';
import type { CloudToDeviceMessage, ConnectRequest, DeviceSink, Identity } from './identity.ts';
import { type MethodAnswer, MethodCalls } from './method-calls.ts';
import { cloudToDeviceTopic, type Subscribable } from './topics.ts';

/** One connected client: what it has subscribed to and what it still owes an answer to. */
export class Session implements DeviceSink {
  readonly identity: Identity;
  readonly connect: ConnectRequest;
  readonly #client: Client;
  readonly #subscriptions = new Map<Subscribable, 0 | 1>();
  readonly #methods: MethodCalls;
  readonly #waiting: (() => void)[] = [];
  #requests = 0;
  #ended = false;
  #detach: (() => void) | undefined;
  #acknowledge: ((done: boolean) => void) | undefined;
  #cloudToDevice: Promise<unknown> = Promise.resolve();
  #telemetry: Promise<unknown> = Promise.resolve();

  constructor(client: Client, identity: Identity, connect: ConnectRequest) {
    this.#client = client;
    this.identity = identity;
    this.connect = connect;
    this.#methods = new MethodCalls(identity);
  }

  /** The connection stands: the backend may use it until it ends. */
  begin(attach: (sink: DeviceSink) => () => void): void {
    if (!this.#ended) this.#detach = attach(this);
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#detach?.();
    this.#methods.end();
    this.#acknowledge?.(false);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  drop(): void {
    this.end();
    this.#client.close();
  }

  subscribe(topic: Subscribable, qos: number): void {
    this.#subscriptions.set(topic, qos === 0 ? 0 : 1);
  }

  /** Subscriptions are in force: what waited for them goes out. */
  subscribed(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  unsubscribe(topic: Subscribable): void {
    this.#subscriptions.delete(topic);
  }

  /** One message after the other: a device's telemetry reaches the backend in the order it was sent. */
  inOrder<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#telemetry.then(work);
    this.#telemetry = result.catch(() => {});
    return result;
  }

  /** Sends where the device has subscribed, and answers whether it has. */
  send(subscription: Subscribable, topic: string, body: string | Buffer): boolean {
    if (this.#ended || !this.#subscriptions.has(subscription)) return false;
    this.#client.publish({ cmd: 'publish', topic, payload: body, qos: 0, dup: false, retain: false }, () => {});
    return true;
  }

  desired(patch: object): void {
    const version = (patch as { $version?: number }).$version;
    const query = version === undefined ? '' : `?$version=${version}`;
    this.send('desired', `$iothub/twin/PATCH/properties/desired/${query}`, JSON.stringify(patch));
  }

  method(name: string, payload: unknown, timeoutMs: number): Promise<MethodAnswer> {
    this.#requests += 1;
    const requestId = String(this.#requests);
    const topic = `$iothub/methods/POST/${name}/?$rid=${requestId}`;
    const send = () => this.send('methods', topic, JSON.stringify(payload ?? null));
    return this.#methods.call(requestId, timeoutMs, send);
  }

  methodResponse(requestId: string, status: number, body: Buffer): void {
    this.#methods.answer(requestId, status, body);
  }

  cloudToDevice(message: CloudToDeviceMessage): Promise<boolean> {
    // One at a time, so that a PUBACK is known to be that of the message on the way.
    const result = this.#cloudToDevice.then(() => this.#deliver(message));
    this.#cloudToDevice = result;
    return result;
  }

  async #deliver(message: CloudToDeviceMessage): Promise<boolean> {
    while (!this.#ended && !this.#subscriptions.has('cloudToDevice')) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    if (this.#ended) return false;
    const qos = this.#subscriptions.get('cloudToDevice') ?? 0;
    const topic = cloudToDeviceTopic(this.identity, message.id, message.properties);
    return new Promise((resolve) => {
      this.#acknowledge = (done) => {
        this.#acknowledge = undefined;
        resolve(done);
      };
      const packet = { cmd: 'publish', topic, payload: message.body, qos, dup: false, retain: false } as const;
      this.#client.publish(packet, (error) => {
        if (error !== undefined && error !== null) this.#acknowledge?.(false);
        else if (qos === 0) this.#acknowledge?.(true);
      });
    });
  }

  /** A PUBACK came: only a cloud-to-device message is ever sent at QoS 1. */
  acknowledged(): void {
    this.#acknowledge?.(true);
  }
}
