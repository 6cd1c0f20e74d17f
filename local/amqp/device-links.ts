import { randomUUID } from 'node:crypto';
import rhea, { type Delivery, type Message, type Receiver, type Sender } from 'rhea';
import {
  type CloudToDeviceMessage,
  type DeviceBackend,
  DeviceError,
  type DeviceSink,
  type Identity,
} from '../mqtt/identity.ts';
import { type MethodAnswer, MethodCalls } from '../mqtt/method-calls.ts';
import type { LinkKind } from './addresses.ts';
import { bodyOf, cloudToDeviceMessage, readTelemetry, textOf } from './message.ts';
import { Outbox } from './outbox.ts';

type Link = Receiver | Sender;

/** After so many attempts a hub gives a message up, by default. */
const mostDeliveries = 10;

/** Kinds of links that come in pairs, which name each other by a correlation id. */
const siblings = new Map<LinkKind, LinkKind>([
  ['methodRequests', 'methodResponses'],
  ['methodResponses', 'methodRequests'],
  ['twinRequests', 'twinAnswers'],
  ['twinAnswers', 'twinRequests'],
]);

/** The links of one identity on one connection (Azure/iotedge, edge-hub Amqp ClientConnectionHandler.cs). */
export class DeviceLinks implements DeviceSink {
  readonly identity: Identity;
  readonly #devices: DeviceBackend;
  readonly #links = new Map<LinkKind, Link>();
  readonly #outboxes = new WeakMap<Link, Outbox>();
  readonly #methods: MethodCalls;
  readonly #waiting: (() => void)[] = [];
  /** What becomes of the cloud-to-device message that is under way; there is one at a time. */
  #underway: { link: Link; settle(outcome: Outcome): void } | undefined;
  #hearsDesired = true;
  #ended = false;
  #detach: (() => void) | undefined;
  #cloudToDevice: Promise<unknown> = Promise.resolve();

  constructor(identity: Identity, devices: DeviceBackend) {
    this.identity = identity;
    this.#devices = devices;
    this.#methods = new MethodCalls(identity);
  }

  /** The backend may use the links until they end. */
  begin(): void {
    this.#detach = this.#devices.attach(this.identity, this);
  }

  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#detach?.();
    this.#methods.end();
    this.#settle('gone');
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Takes a link up. One of the same kind has to go, and so has the other half of a pair that it does not belong to. */
  add(kind: LinkKind, link: Link): void {
    const before = this.#links.get(kind);
    this.#links.set(kind, link);
    if (link.is_sender()) this.#outboxes.set(link, new Outbox(link as Sender));
    before?.close();
    const sibling = siblings.get(kind);
    const other = sibling && this.#links.get(sibling);
    if (sibling !== undefined && other !== undefined && correlationOf(other) !== correlationOf(link)) {
      this.#links.delete(sibling);
      other.close();
    }
    if (kind === 'twinAnswers') this.#hearsDesired = true;
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Answers whether it was the last one. */
  remove(link: Link): boolean {
    for (const [kind, known] of this.#links) if (known === link) this.#links.delete(kind);
    if (this.#underway?.link === link) this.#settle('detached');
    return this.#links.size === 0;
  }

  /** What came on a link of this device. Rejects with what the transfer is rejected with. */
  async receive(kind: LinkKind, message: Message | Buffer, format: number | undefined): Promise<void> {
    if (kind === 'telemetry') {
      for (const { properties, body } of readTelemetry(message, format)) {
        await this.#devices.telemetry(this.identity, properties, body);
      }
    } else if (!Buffer.isBuffer(message)) {
      if (kind === 'twinRequests') await this.#twinRequest(message);
      else if (kind === 'methodResponses') this.#methodResponse(message);
    }
  }

  /** What the device says about a message that it was sent. */
  outcome(delivery: Delivery, outcome: Outcome): void {
    if (this.#underway?.link === delivery.link) this.#settle(outcome);
    if (!delivery.remote_settled) delivery.update(true);
  }

  desired(patch: object): void {
    if (!this.#hearsDesired) return;
    this.#send('twinAnswers', { body: rhea.message.data_section(Buffer.from(JSON.stringify(patch))) });
  }

  method(name: string, payload: unknown, timeoutMs: number): Promise<MethodAnswer> {
    const requestId = randomUUID();
    const request: Message = {
      correlation_id: requestId,
      application_properties: { 'IoThub-methodname': name },
      body: rhea.message.data_section(Buffer.from(JSON.stringify(payload ?? null))),
    };
    const send = () => this.#send('methodRequests', request);
    return this.#methods.call(requestId, timeoutMs, send);
  }

  cloudToDevice(message: CloudToDeviceMessage): Promise<boolean> {
    const result = this.#cloudToDevice.then(() => this.#deliver(message));
    this.#cloudToDevice = result;
    return result;
  }

  /** Again and again while the device abandons it. A message that is rejected, or too often abandoned, is dead. */
  async #deliver(message: CloudToDeviceMessage): Promise<boolean> {
    for (let count = 0; count < mostDeliveries; ) {
      while (!this.#ended && !this.#links.has('cloudToDevice')) {
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      }
      if (this.#ended) return false;
      const outcome = await this.#deliverOnce(message, count);
      if (outcome === 'gone') return false;
      if (outcome === 'accepted' || outcome === 'rejected') return true;
      if (outcome === 'released') count += 1;
    }
    return true;
  }

  #deliverOnce(message: CloudToDeviceMessage, count: number): Promise<Outcome> {
    const link = this.#links.get('cloudToDevice');
    if (link === undefined) return Promise.resolve('detached');
    const { deviceId, moduleId } = this.identity;
    const path = `/devices/${encodeURIComponent(deviceId)}`;
    const to = moduleId === null ? path : `${path}/modules/${encodeURIComponent(moduleId)}`;
    const lockToken = randomUUID();
    const request = cloudToDeviceMessage(message, to, { lockToken, count });
    return new Promise((settle) => {
      this.#underway = { link, settle };
      this.#send('cloudToDevice', request, rhea.string_to_uuid(lockToken));
    });
  }

  #settle(outcome: Outcome): void {
    const settle = this.#underway?.settle;
    this.#underway = undefined;
    settle?.(outcome);
  }

  async #twinRequest(message: Message): Promise<void> {
    const correlationId = textOf(message.correlation_id);
    switch (message.message_annotations?.operation) {
      case 'GET':
        if (correlationId === '') return;
        return this.#answerTwin(correlationId, 200, async () =>
          JSON.stringify(await this.#devices.twin(this.identity)),
        );
      case 'PATCH':
        return this.#answerTwin(correlationId, 204, async () => {
          await this.#devices.patchReported(this.identity, parsePatch(bodyOf(message)));
          return '';
        });
      case 'PUT':
      case 'DELETE':
        if (correlationId === '') return;
        this.#hearsDesired = message.message_annotations.operation === 'PUT';
        return this.#answerTwin(correlationId, 200, async () => '');
    }
  }

  /** A refusal has a status and no body (Azure/iotedge, edge-hub Core DeviceMessageHandler.cs, HandleTwinOperationException). */
  async #answerTwin(correlationId: string, success: number, work: () => Promise<string>): Promise<void> {
    let status = success;
    let body = '';
    try {
      body = await work();
    } catch (error) {
      status = error instanceof DeviceError && error.status === 400 ? 400 : 500;
    }
    if (correlationId === '') return;
    this.#send('twinAnswers', {
      correlation_id: correlationId,
      message_annotations: { status: rhea.types.wrap_int(status) },
      body: rhea.message.data_section(Buffer.from(body)),
    });
  }

  /** An answer without a whole number as its status counts as a bad request (DeviceMessageHandler.cs, GenericBadRequest). */
  #methodResponse(message: Message): void {
    const status: unknown = message.application_properties?.['IoThub-status'];
    const correlationId = textOf(message.correlation_id).toLowerCase();
    if (typeof status === 'number') this.#methods.answer(correlationId, status, bodyOf(message));
    else this.#methods.answer(correlationId, 400, Buffer.alloc(0));
  }

  /** Answers whether the device has a link for it. */
  #send(kind: LinkKind, message: Message, tag?: Buffer): boolean {
    const link = this.#links.get(kind);
    const outbox = link && this.#outboxes.get(link);
    if (this.#ended || outbox === undefined) return false;
    outbox.send(message, tag);
    return true;
  }
}

/** `detached` where the link, and `gone` where the connection ended before the device said anything. */
export type Outcome = 'accepted' | 'rejected' | 'released' | 'detached' | 'gone';

function correlationOf(link: Link): string {
  const text = String(link.properties?.['com.microsoft:channel-correlation-id'] ?? '');
  return text.slice(text.indexOf(':') + 1);
}

function parsePatch(body: Buffer): object {
  try {
    const patch: unknown = JSON.parse(body.toString('utf8'));
    if (typeof patch === 'object' && patch !== null && !Array.isArray(patch)) return patch;
  } catch {
    // Answered as what it is: no object.
  }
  throw new DeviceError(400, 400004, 'The reported properties are not an object.');
}
