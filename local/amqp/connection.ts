import { randomUUID, type X509Certificate } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import rhea, {
  type Connection,
  type ConnectionOptions,
  type EventContext,
  type Message,
  type Receiver,
  type Sender,
  type Session,
} from 'rhea';
import type { Fault } from '../kit/faults.ts';
import type { ClientConnection } from '../mqtt/clients.ts';
import { clientIdOf } from '../mqtt/identity.ts';
import { type LinkAddress, parseAddress } from './addresses.ts';
import { DeviceLinks, type Outcome } from './device-links.ts';
import { type AmqpCondition, AmqpError, notAllowed, ofStatus } from './errors.ts';
import type { AmqpHeadOptions } from './head.ts';
import { maxLinkBytes, sizeOf } from './message.ts';
import { Outbox } from './outbox.ts';
import { Principal } from './principal.ts';
import { accept, holdAnswer, refuse } from './rhea-answers.ts';
import { saslMechanisms } from './sasl.ts';

type Link = Receiver | Sender;

/** A link that was let in. */
interface Attached extends LinkAddress {
  /** Of a device's link; `$cbs` has none. */
  device?: DeviceLinks;
  /** One transfer after the other. */
  transfers: Promise<unknown>;
}

/** How long a client has for its OPEN, as AmqpProtocolHead.cs has it. */
const openMs = 60_000;
const idleMs = 240_000;
const leastIdleMs = 5000;
const frameBytes = 65_536;
const linkCredit = 1000;

/** One AMQP connection, from its first byte to its end, with the devices that use it. */
export class AmqpConnection implements ClientConnection {
  readonly #options: AmqpHeadOptions;
  readonly #stream: Duplex;
  readonly #connection: Connection;
  readonly #principal: Principal;
  readonly #devices = new Map<string, DeviceLinks>();
  readonly #links = new Map<Link, Attached>();
  readonly #held = new Map<Link, () => void>();
  #attaching: Promise<unknown> = Promise.resolve();
  #ended = false;

  constructor(options: AmqpHeadOptions, stream: Duplex, certificates: X509Certificate[]) {
    this.#options = options;
    this.#stream = stream;
    this.#principal = new Principal(options, certificates);
    const container = rhea.create_container({ id: `DeviceGateway_${randomUUID().replaceAll('-', '')}` });
    Object.assign(container.sasl_server_mechanisms, saslMechanisms(this.#principal));
    const link = { autoaccept: false, credit_window: 0, treat_modified_as_released: false };
    const frames = { max_frame_size: frameBytes, idle_time_out: idleMs, channel_max: 8191 };
    const settings = { ...frames, tcp_no_delay: true, sender_options: link, receiver_options: link };
    this.#connection = container.create_connection(settings as object as ConnectionOptions);
    this.#listen();
    const timer = setTimeout(() => stream.destroy(), openMs);
    this.#connection.once('connection_open', () => clearTimeout(timer));
    stream.on('error', () => {});
    stream.on('close', () => {
      clearTimeout(timer);
      this.#end();
      // rhea listens for an end, which a connection that was cut does not have, and keeps its timers.
      this.#connection.eof();
    });
    this.#connection.accept(stream);
  }

  /** As edgeHub closes the connection of a client that has to go: without a reason. */
  drop(): void {
    this.#end();
    this.#close();
  }

  /** The server goes (AmqpProtocolHead.cs, SafeCloseExistingConnections). */
  async shutDown(): Promise<void> {
    this.#end();
    this.#close({ condition: 'amqp:link:detach-forced', description: 'Server busy, please retry operation' });
    const closed = new Promise<void>((resolve) => this.#stream.once('close', () => resolve()));
    if (!this.#stream.closed) await Promise.race([closed, sleep(100)]);
    this.#stream.destroy();
  }

  #listen(): void {
    const connection = this.#connection;
    connection.on('connection_open', () => void this.#opened());
    for (const event of ['receiver_open', 'sender_open']) {
      connection.on(event, (context: EventContext) => this.#attach(linkOf(context)));
    }
    for (const event of ['receiver_close', 'sender_close']) {
      connection.on(event, (context: EventContext) => this.#detached(linkOf(context)));
    }
    connection.on('session_close', ({ session }: EventContext) => {
      for (const link of [...this.#links.keys(), ...this.#held.keys()])
        if (link.session === session) this.#detached(link);
    });
    connection.on('message', (context: EventContext) => this.#transfer(context));
    for (const outcome of ['accepted', 'rejected', 'released'] as const) {
      connection.on(outcome, (context: EventContext) => this.#outcome(context, outcome));
    }
    for (const event of ['connection_error', 'session_error', 'sender_error', 'receiver_error', 'disconnected']) {
      // The close that comes with each of them says enough.
      connection.on(event, () => {});
    }
    for (const event of ['protocol_error', 'error']) connection.on(event, () => this.#stream.destroy());
  }

  async #opened(): Promise<void> {
    const { faults, faultTarget } = this.#options;
    const hostname = this.#connection.hostname ?? '';
    const fault = faults.strike(faultTarget, 'AMQP OPEN', hostname);
    faults.count(faultTarget, 'AMQP OPEN', '{host}');
    const answer = holdAnswer(this.#connection);
    if (fault !== undefined && (await this.#misbehave(fault)) === 'nothing') return;
    answer();
    if (fault !== undefined && 'status' in fault) this.#close(ofStatus(fault.status));
    else if (fault !== undefined && 'cut' in fault) this.#stream.destroy();
    const idle = this.#connection.idle_time_out;
    if (idle && idle < leastIdleMs) this.#close({ condition: 'amqp:internal-error', description: '' });
  }

  /** One after the other: what one link was let in by may let in the next. */
  #attach(link: Link): void {
    const answer = holdAnswer(link);
    this.#held.set(link, answer);
    this.#attaching = this.#attaching
      .then(() => this.#decide(link))
      .catch((error: unknown) => {
        if (!(error instanceof AmqpError)) throw error;
        refuse(link, error);
        return 'answer' as const;
      })
      .then((decision) => {
        if (decision === 'answer') answer();
      })
      .catch(() => this.#stream.destroy())
      .finally(() => this.#held.delete(link));
  }

  /** Lets a link in, or rejects with the reason why not. `nothing` leaves the client without an answer. */
  async #decide(link: Link): Promise<'answer' | 'nothing'> {
    const { faults, faultTarget } = this.#options;
    const address = (link.is_receiver() ? link.target : link.source)?.address ?? '';
    const found = parseAddress(address, link.is_receiver());
    const fault = faults.strike(faultTarget, 'AMQP ATTACH', address);
    faults.count(faultTarget, 'AMQP ATTACH', found?.template ?? '(unknown)');
    if (fault !== undefined && (await this.#misbehave(fault)) === 'nothing') return 'nothing';
    if (fault !== undefined && 'status' in fault) throw ofStatus(fault.status);
    if (address === '') throw notAllowed(`Link ${link.is_receiver() ? 'target' : 'source'} address is null or empty`);
    if (found === undefined) throw notAllowed(`Matching template not found for uri ${address}`);
    await this.#letIn(link, found);
    if (fault !== undefined && 'cut' in fault) this.#stream.destroy();
    return 'answer';
  }

  async #letIn(link: Link, found: LinkAddress): Promise<void> {
    const device = found.identity && (await this.#deviceOf(found));
    if (found.kind === 'cbs') this.#principal.openCbs(link.is_sender() ? new Outbox(link as Sender) : undefined);
    if (this.#ended || !link.is_remote_open()) return;
    this.#links.set(link, { ...found, transfers: Promise.resolve(), ...(device && { device }) });
    accept(link, found.kind, maxLinkBytes);
    device?.add(found.kind, link);
    if (link.is_receiver()) (link as Receiver).add_credit(linkCredit);
  }

  /** The device that a link is of, if it may be opened. */
  async #deviceOf({ identity, kind }: LinkAddress): Promise<DeviceLinks | undefined> {
    if (identity === undefined) return undefined;
    const id = clientIdOf(identity);
    if (!(await this.#principal.is(identity))) {
      throw notAllowed(`Unable to open ${kind} link as the connection could not be authenticated`);
    }
    const known = this.#devices.get(id);
    if (known !== undefined || this.#ended) return known;
    if (!this.#options.clients.hasRoomFor(id)) {
      throw new AmqpError('amqp:resource-limit-exceeded', 'Edge hub already has maximum allowed clients connected.');
    }
    const device = new DeviceLinks(identity, this.#options.devices);
    this.#options.clients.enter(id, this);
    this.#devices.set(id, device);
    device.begin();
    return device;
  }

  /** A device without links is gone, and its connection with it (ClientConnectionHandler.cs, RemoveLinkHandler). */
  #detached(link: Link): void {
    this.#held.get(link)?.();
    const attached = this.#links.get(link);
    this.#links.delete(link);
    if (attached?.device?.remove(link)) this.drop();
  }

  #transfer(context: EventContext): void {
    const link = linkOf(context);
    const attached = this.#links.get(link);
    if (attached === undefined) return;
    attached.transfers = attached.transfers
      .then(() => this.#receive(attached, context))
      .catch(() => this.#stream.destroy());
  }

  async #receive(attached: Attached, context: EventContext & { format?: number }): Promise<void> {
    const { faults, faultTarget } = this.#options;
    const { delivery, receiver } = context;
    const message = context.message as Message | Buffer | undefined;
    if (delivery === undefined || receiver === undefined || message === undefined) return;
    const fault = faults.strike(faultTarget, 'AMQP TRANSFER', receiver.target.address);
    faults.count(faultTarget, 'AMQP TRANSFER', attached.template);
    if (fault !== undefined && (await this.#misbehave(fault)) === 'nothing') return;
    try {
      const status = fault !== undefined && 'status' in fault ? fault.status : undefined;
      if (attached.kind === 'cbs') {
        if (!Buffer.isBuffer(message)) this.#principal.putToken(message, status);
      } else {
        if (status !== undefined) throw ofStatus(status);
        const size = Buffer.isBuffer(message) ? message.length : sizeOf(message);
        if (size > maxLinkBytes) {
          receiver.close({ condition: 'amqp:link:message-size-exceeded', description: `${size} > ${maxLinkBytes}` });
          return;
        }
        await attached.device?.receive(attached.kind, message, context.format);
      }
      if (fault !== undefined && 'cut' in fault) this.#stream.destroy();
      else delivery.accept();
    } catch (error) {
      delivery.reject(error instanceof AmqpError ? plain(error) : internalError);
    }
    receiver.add_credit(1);
  }

  #outcome(context: EventContext, outcome: Outcome): void {
    if (context.delivery !== undefined) this.#links.get(linkOf(context))?.device?.outcome(context.delivery, outcome);
  }

  /** Does what can be done before the work. Answers `nothing` where there is no more to it. */
  async #misbehave(fault: Fault): Promise<'nothing' | 'go on'> {
    if ('hang' in fault) return 'nothing';
    if ('delayMs' in fault) await sleep(fault.delayMs);
    if (!('cut' in fault) || fault.cut !== 'before') return 'go on';
    this.#stream.destroy();
    return 'nothing';
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const [id, device] of this.#devices) {
      device.end();
      this.#options.clients.leave(id, this);
    }
  }

  /** From the inside out, as the library under edgeHub does (Azure/azure-amqp, AmqpSession.cs, CloseLinks). */
  #close(reason?: AmqpCondition): void {
    const error = reason && plain(reason);
    const sessions = new Set<Session>();
    this.#connection.each_link((link: Link) => {
      link.close(error);
      sessions.add(link.session);
    });
    for (const session of sessions) session.close();
    this.#connection.close(error);
  }
}

const internalError = { condition: 'amqp:internal-error', description: '"Encountered server error"' };

function plain({ condition, description }: AmqpCondition): AmqpCondition {
  return { condition, description };
}

function linkOf(context: EventContext): Link {
  const link = context.receiver ?? context.sender;
  if (link === undefined) throw new Error('An event of a link without a link.');
  return link;
}
