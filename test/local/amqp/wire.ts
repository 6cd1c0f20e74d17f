import rhea, { type Connection, type ConnectionOptions, type Message, type Receiver, type Sender } from 'rhea';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { type KeyedDevice, newName, type Site } from '../gateway/site.ts';
import { tokenOf } from './sdk.ts';

export interface Dial {
  /** SASL PLAIN. Without a user name there is no SASL, or what `mechanism` names. */
  userName?: string;
  password?: string;
  mechanism?: 'ANONYMOUS' | 'MSSBCBS' | 'EXTERNAL';
  certificate?: { cert: string; key: string };
  idleMs?: number;
}

/** A bare AMQP client: it does what a test says, and nothing by itself. */
export class WireClient {
  readonly connection: Connection;
  /** Resolves with the condition of the close, or with `none`, once the connection has ended. */
  readonly ended: Promise<string>;
  #answers: Promise<Receiver> | undefined;
  #requests: Promise<Sender> | undefined;

  private constructor(gateway: Gateway, { userName, password, mechanism, certificate, idleMs }: Dial) {
    const container = rhea.create_container();
    const mechanisms = mechanism && {
      [mechanism]: { start: (done: (e: undefined, r: Buffer) => void) => done(undefined, Buffer.alloc(0)) },
    };
    const options = {
      transport: 'tls',
      host: 'localhost',
      port: gateway.ports.amqp,
      ca: gateway.root,
      reconnect: false,
      ...certificate,
      ...(userName === undefined ? {} : { username: userName, password }),
      ...(mechanisms && { sasl_mechanisms: mechanisms }),
      ...(idleMs === undefined ? {} : { idle_time_out: idleMs }),
    };
    // Errors of links and sessions come to whoever asked for them.
    for (const event of ['error', 'sender_error', 'receiver_error', 'session_error']) container.on(event, () => {});
    this.connection = container.connect(options as unknown as ConnectionOptions);
    this.ended = new Promise((resolve) => {
      const condition = () => (this.connection.get_error()?.condition as string | undefined) ?? 'none';
      this.connection.once('connection_close', () => resolve(condition()));
      this.connection.once('disconnected', () => resolve(condition()));
    });
  }

  /** Rejects with the condition where the connection does not open. */
  static async dial(gateway: Gateway, options: Dial = {}): Promise<WireClient> {
    const client = new WireClient(gateway, options);
    await Promise.race([
      new Promise<void>((resolve) => client.connection.once('connection_open', () => resolve())),
      client.ended.then((condition) => Promise.reject(new Error(condition))),
    ]);
    return client;
  }

  async close(): Promise<void> {
    this.connection.close();
    await this.ended;
  }

  /** Opens a link to send on. Rejects with the condition where it is refused. */
  sender(address: string, more: object = {}): Promise<Sender> {
    const sender = this.connection.open_sender({ target: { address }, autosettle: true, ...more });
    return opened(sender, 'sender', () => sender.target);
  }

  /** Opens a link to receive on. Rejects with the condition where it is refused. */
  receiver(address: string, more: object = {}): Promise<Receiver> {
    const receiver = this.connection.open_receiver({ source: { address }, ...more });
    return opened(receiver, 'receiver', () => receiver.source);
  }

  /** Shows a token. Answers the status. */
  async putToken(token: unknown, more: Record<string, unknown> = {}): Promise<number> {
    this.#answers ??= this.receiver('$cbs');
    this.#requests ??= this.sender('$cbs');
    const [answers, requests] = await Promise.all([this.#answers, this.#requests]);
    const answered = next(answers);
    requests.send({
      message_id: 'token-1',
      application_properties: { operation: 'put-token', type: 'servicebus.windows.net:sastoken', name: 'x', ...more },
      body: token,
    });
    const answer = await answered;
    if (answer.correlation_id !== 'token-1') throw new Error('the answer is of another request');
    return answer.application_properties?.['status-code'] as number;
  }
}

/** The next message on a link. */
export function next(receiver: Receiver): Promise<Message> {
  return new Promise((resolve) => receiver.once('message', ({ message }: { message: Message }) => resolve(message)));
}

/** Sends, and answers `accepted` or the condition of the rejection. `format` sends bytes as they are. */
export function send(sender: Sender, message: Message | Buffer, format?: number): Promise<string> {
  return new Promise((resolve) => {
    sender.once('accepted', () => resolve('accepted'));
    sender.once('rejected', ({ delivery }) => resolve(String(delivery.remote_state.error?.condition)));
    sender.once('sender_close', () => resolve(`closed: ${(sender.error as { condition?: string })?.condition}`));
    sender.send(message, undefined, format);
  });
}

/** A link is refused by an ATTACH without a source or target and a DETACH that follows. */
function opened<T extends Sender | Receiver>(
  link: T,
  kind: string,
  terminus: () => { address?: string } | undefined,
): Promise<T> {
  return new Promise((resolve, reject) => {
    link.once(`${kind}_open`, () => {
      if (terminus()?.address !== undefined) resolve(link);
    });
    link.once(`${kind}_error`, () => reject(new Error((link.error as { condition: string }).condition)));
  });
}

export function data(text: string | Buffer, more: object = {}): Message {
  return { body: rhea.message.data_section(Buffer.from(text as string)), ...more };
}

/** What a test file needs again and again. */
export function clientsOf(site: Site): {
  dial(gateway: Gateway, options?: Dial): Promise<WireClient>;
  connect(gateway: Gateway): Promise<{ client: WireClient; device: KeyedDevice; path: string }>;
} {
  const dial = async (gateway: Gateway, options?: Dial) => {
    const client = await WireClient.dial(gateway, options);
    site.closeLater(client);
    return client;
  };
  return {
    dial,
    /** A client that has shown the token of a new device. */
    async connect(gateway) {
      const device = await site.device(newName(), gateway);
      const client = await dial(gateway);
      const status = await client.putToken(tokenOf(site, device.deviceId, device.key));
      if (status !== 200) throw new Error(`put-token: ${status}`);
      return { client, device, path: `/devices/${device.deviceId}` };
    },
  };
}
