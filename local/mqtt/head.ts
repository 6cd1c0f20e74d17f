import type { X509Certificate } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Aedes, type AuthErrorCode, type AuthenticateError, type Client, type ConnectPacket } from 'aedes';
import type { Fault, FaultSwitch, FaultTarget } from '../kit/faults.ts';
import { peerCertificates } from '../kit/peer-certificates.ts';
import { type ServerTls, serveTls } from '../kit/tls-server.ts';
import { ConnectedClients } from './clients.ts';
import { type ConnectDecision, type ConnectRequest, clientIdOf, type DeviceBackend } from './identity.ts';
import { handlePublish } from './publish.ts';
import { Session } from './session.ts';
import { parseFilter } from './topics.ts';

export interface MqttHeadOptions {
  tls: ServerTls;
  /** 0 takes a free port. A port that is taken is replaced by a free one. */
  port?: number;
  authenticate(connect: ConnectRequest): Promise<ConnectDecision>;
  devices: DeviceBackend;
  faults?: FaultSwitch;
  /** Whose faults strike here. Default: hub. */
  faultTarget?: FaultTarget;
  /** Clients above this number are refused with CONNACK 3; one that reconnects does not count. Default: no limit. */
  maxClients?: number;
  /** In place of `maxClients` where other protocols are served too: who is connected over any of them. */
  clients?: ConnectedClients;
  /** How often `authenticate` looks again at every connected client, with `again: true`. Default: never. */
  reauthenticateMs?: number;
}

export interface MqttHead {
  port: number;
  /** Serves a connection that did not come to `port`, such as a WebSocket. */
  accept(stream: Duplex, certificates: X509Certificate[]): void;
  /** The ids of the connected clients: `{deviceId}` or `{deviceId}/{moduleId}`. */
  clients(): string[];
  /** Cuts the connection of this client id, if it is connected. */
  disconnect(clientId: string): void;
  /** New connections are served with this certificate; those that stand stay. */
  setCertificate(tls: { cert: string; key: string }): void;
  close(): Promise<void>;
}

/** Serves the MQTT 3.1.1 device protocol of IoT Hub over TLS on loopback. */
export async function startMqttHead(options: MqttHeadOptions): Promise<MqttHead> {
  const head = new Head(options);
  const broker = await createBroker(options, head);
  const accept = (stream: Duplex, certificates: X509Certificate[]) => {
    head.certificates.set(stream, certificates);
    stream.on('error', () => {});
    broker.handle(stream);
  };
  const server = await serveTls({ ...options, accept: (socket) => accept(socket, peerCertificates(socket)) });
  const timer = options.reauthenticateMs && setInterval(() => void head.lookAgain(), options.reauthenticateMs);
  if (timer) timer.unref();
  return {
    port: server.port,
    accept,
    clients: () => [...head.connected.keys()],
    disconnect: (clientId) => head.connected.get(clientId)?.drop(),
    setCertificate: (tls) => server.setCertificate(tls),
    close: async () => {
      if (timer) clearInterval(timer);
      for (const session of head.connected.values()) session.end();
      const closed = server.close();
      await new Promise<void>((resolve) => broker.close(resolve));
      await closed;
    },
  };
}

/** aedes, told what each client may do. Nothing that one client publishes ever reaches another. */
async function createBroker(options: MqttHeadOptions, head: Head): Promise<Aedes> {
  const broker = await Aedes.createBroker({
    preConnect: (client, packet, done) => {
      head.preConnect(client, packet, done).catch(() => client.conn.destroy());
    },
    authenticate: (client, _user, _password, done) => {
      head.authenticate(client, done).catch(() => client.conn.destroy());
    },
    authorizePublish: (client, packet, done) => {
      const session = client === null ? undefined : head.session(client);
      if (client === null || session === undefined) return done(new Error('not connected'));
      handlePublish({ ...options, client, session, packet }).then(
        (answer) => {
          if (answer === 'acknowledge') done(null);
          else if (answer === 'disconnect') client.conn.destroy();
        },
        (error: Error) => done(error),
      );
    },
    authorizeSubscribe: (client, subscription, done) => {
      const session = head.session(client);
      const topic = session && parseFilter(subscription.topic, session.identity);
      if (session === undefined || topic === undefined) return done(null, null);
      session.subscribe(topic, subscription.qos);
      done(null, subscription);
    },
    // While a client connects, the broker would send again what the last connection of its session did not
    // acknowledge. The backend keeps such messages itself and sends them, so those of the broker are dropped.
    authorizeForward: (client, packet) => (client.connected ? packet : null),
  });
  broker.on('clientReady', (client) => head.ready(client));
  broker.on('subscribe', (_subscriptions, client) => head.session(client)?.subscribed());
  broker.on('unsubscribe', (filters, client) => head.unsubscribe(client, filters));
  broker.on('ack', (_packet, client) => head.session(client)?.acknowledged());
  return broker;
}

type Waiting = { connect: ConnectRequest; fault: Fault | undefined };

/** The connections of one protocol head, from CONNECT to the end. */
class Head {
  readonly connected = new Map<string, Session>();
  readonly certificates = new WeakMap<Duplex, X509Certificate[]>();
  readonly #options: MqttHeadOptions;
  readonly #clients: ConnectedClients;
  readonly #waiting = new WeakMap<Client, Waiting>();
  readonly #sessions = new WeakMap<Client, Session>();

  constructor(options: MqttHeadOptions) {
    this.#options = options;
    this.#clients = options.clients ?? new ConnectedClients(options.maxClients);
  }

  session(client: Client): Session | undefined {
    return this.#sessions.get(client);
  }

  async preConnect(
    client: Client,
    packet: ConnectPacket,
    done: (error: Error | null, success: boolean) => void,
  ): Promise<void> {
    const { faults, faultTarget = 'hub' } = this.#options;
    const fault = faults?.strike(faultTarget, 'CONNECT', packet.clientId);
    faults?.count(faultTarget, 'CONNECT', packet.clientId.includes('/') ? '{id}/{moduleId}' : '{id}');
    if (fault !== undefined && 'hang' in fault) return;
    if (fault !== undefined && 'cut' in fault && fault.cut === 'before') {
      client.conn.destroy();
      return;
    }
    if (fault !== undefined && 'delayMs' in fault) await sleep(fault.delayMs);
    if (packet.protocolId !== 'MQTT' || packet.protocolVersion !== 4) {
      // CONNACK "unacceptable protocol version": only MQTT 3.1.1 is spoken.
      client.conn.end(Buffer.from([0x20, 2, 0, 1]));
      return;
    }
    this.#waiting.set(client, { connect: this.#connectRequest(client, packet), fault });
    done(null, true);
  }

  async authenticate(
    client: Client,
    done: (error: AuthenticateError | null, success: boolean | null) => void,
  ): Promise<void> {
    const waiting = this.#waiting.get(client);
    if (waiting === undefined) return;
    this.#waiting.delete(client);
    const decision = await this.#decide(waiting);
    if ('refused' in decision) {
      const returnCode = decision.refused as number as AuthErrorCode;
      done(Object.assign(new Error(decision.reason), { returnCode }), null);
      return;
    }
    if (waiting.fault !== undefined && 'cut' in waiting.fault) {
      client.conn.destroy();
      return;
    }
    const session = new Session(client, decision.ok, waiting.connect);
    this.#sessions.set(client, session);
    client.conn.once('close', () => this.#ended(session));
    done(null, true);
  }

  async #decide({ connect, fault }: Waiting): Promise<ConnectDecision> {
    if (fault !== undefined && 'status' in fault) return { refused: 3, reason: `status ${fault.status}` };
    let decision: ConnectDecision;
    try {
      decision = await this.#options.authenticate(connect);
    } catch (error) {
      return { refused: 3, reason: error instanceof Error ? error.message : String(error) };
    }
    if ('refused' in decision) return decision;
    if (clientIdOf(decision.ok) !== connect.clientId) {
      return { refused: 2, reason: 'the client id is not that of the identity' };
    }
    const hasRoom = this.#clients.hasRoomFor(connect.clientId);
    return hasRoom ? decision : { refused: 3, reason: 'too many clients' };
  }

  /**
   * CONNACK is on its way. A client that was connected with this id has to go (MQTT 3.1.1, section 3.1.4): aedes closes it,
   * but the backend is to see it go before the other comes.
   */
  ready(client: Client): void {
    const session = this.#sessions.get(client);
    if (session === undefined || client.conn.destroyed) return;
    const id = clientIdOf(session.identity);
    this.#clients.enter(id, session);
    this.connected.set(id, session);
    session.begin((sink) => this.#options.devices.attach(session.identity, sink));
    session.subscribed();
  }

  unsubscribe(client: Client, filters: string[]): void {
    const session = this.#sessions.get(client);
    for (const filter of filters) {
      const topic = session && parseFilter(filter, session.identity);
      if (topic !== undefined) session?.unsubscribe(topic);
    }
  }

  #ended(session: Session): void {
    session.end();
    const id = clientIdOf(session.identity);
    this.#clients.leave(id, session);
    if (this.connected.get(id) === session) this.connected.delete(id);
  }

  async lookAgain(): Promise<void> {
    for (const session of [...this.connected.values()]) {
      const decision = await this.#options
        .authenticate({ ...session.connect, again: true })
        .catch((): ConnectDecision => ({ ok: session.identity }));
      if ('refused' in decision) session.drop();
    }
  }

  #connectRequest(client: Client, packet: ConnectPacket): ConnectRequest {
    return {
      clientId: packet.clientId,
      userName: packet.username,
      password: packet.password?.toString('utf8'),
      clean: packet.clean ?? true,
      certificates: this.certificates.get(client.conn as Duplex) ?? [],
      again: false,
    };
  }
}
