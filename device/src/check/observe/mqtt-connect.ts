import { isIP } from 'node:net';
import { checkServerIdentity, connect, type TLSSocket } from 'node:tls';
import { reasonOf, systemCode } from '../../errors.ts';
import type { ClientCertificate } from '../../session.ts';

export interface MqttConnectOptions {
  address: string;
  host: string;
  port: number;
  /** PEM. */
  roots: string;
  clientId: string;
  userName: string;
  /** A SAS token; undefined for a client that proves itself by its certificate. */
  password: string | undefined;
  certificate: ClientCertificate | undefined;
  timeoutMs: number;
}

export type MqttConnectResult =
  /** The return code of CONNACK: MQTT 3.1.1, section 3.2.2.3. */
  { connack: number } | { failed: 'closed' | 'silent' | 'unproven'; reason: string };

const disconnectPacket = Buffer.from([0xe0, 0]);

/**
 * Says CONNECT, hears CONNACK and says DISCONNECT. Nothing is sent before chain and name are proven. The session is
 * not a clean one: a clean one would throw away the subscriptions and messages of the client whose id this is, while
 * one that is kept and left changes nothing of them (MQTT 3.1.1, section 3.1.2.4).
 */
export function sayConnect(options: MqttConnectOptions): Promise<MqttConnectResult> {
  return new Promise((resolve) => {
    let socket: TLSSocket;
    const settle = (result: MqttConnectResult) => {
      clearTimeout(timer);
      resolve(result);
      if ('connack' in result && result.connack === 0) socket.end(disconnectPacket, () => socket.destroy());
      else socket.destroy();
    };
    const timer = setTimeout(() => {
      settle({ failed: 'silent', reason: `no CONNACK within ${options.timeoutMs / 1000} s` });
    }, options.timeoutMs);
    try {
      socket = dial(options);
    } catch (error) {
      clearTimeout(timer);
      resolve({ failed: 'unproven', reason: reasonOf(error) });
      return;
    }
    let proven = false;
    let received = Buffer.alloc(0);
    socket.on('error', (error) => {
      const reason = [systemCode(error), reasonOf(error)].filter(Boolean).join(': ');
      settle({ failed: proven ? 'closed' : 'unproven', reason });
    });
    socket.once('close', () => settle({ failed: 'closed', reason: 'it closed the connection' }));
    socket.once('secureConnect', () => {
      proven = true;
      socket.write(connectPacket(options));
    });
    socket.on('data', (bytes) => {
      received = Buffer.concat([received, bytes]);
      if (received.length < 4) return;
      if (received[0] === 0x20 && received[1] === 2) settle({ connack: received[3] ?? -1 });
      else settle({ failed: 'closed', reason: 'it answered something that is not CONNACK' });
    });
  });
}

function dial({ address, host, port, roots, certificate }: MqttConnectOptions): TLSSocket {
  return connect({
    host: address,
    port,
    ca: roots,
    rejectUnauthorized: true,
    checkServerIdentity: (_name, peer) => checkServerIdentity(host, peer),
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...(certificate === undefined
      ? {}
      : { cert: certificate.certificate, key: certificate.key, passphrase: certificate.passphrase }),
  });
}

/** A CONNECT packet (MQTT 3.1.1, section 3.1) with a kept session and a keep-alive of a minute. */
function connectPacket({ clientId, userName, password }: MqttConnectOptions): Buffer {
  const flags = 0x80 | (password === undefined ? 0 : 0x40);
  const content = Buffer.concat([
    text('MQTT'),
    Buffer.from([4, flags, 0, 60]),
    text(clientId),
    text(userName),
    ...(password === undefined ? [] : [text(password)]),
  ]);
  return Buffer.concat([Buffer.from([0x10, ...remainingLength(content.length)]), content]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** Seven bits a byte, the lowest first: MQTT 3.1.1, section 2.2.3. */
function remainingLength(length: number): number[] {
  const bytes: number[] = [];
  let rest = length;
  do {
    const more = rest > 127 ? 0x80 : 0;
    bytes.push((rest & 0x7f) | more);
    rest >>= 7;
  } while (rest > 0);
  return bytes;
}
