import type { X509Certificate } from 'node:crypto';
import { connect as connectPlain, isIP, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { reasonOf, systemCode } from '../../errors.ts';
import { SentCertificates } from './sent-certificates.ts';

export interface HandshakeOptions {
  address: string;
  host: string;
  port: number;
  /** PEM. */
  roots: string;
  timeoutMs: number;
}

/** A finished handshake, whatever its certificates are worth. */
export interface Handshake {
  /** In the order of the wire, the server's own first. */
  sent: X509Certificate[];
  /** False where the server speaks TLS 1.3 only, so that the list is what Node made of it. */
  isExact: boolean;
  protocol: string;
  /** OpenSSL's verdict on chain and dates, by the system's clock; undefined where it is content. */
  verdict: string | undefined;
}

export type HandshakeResult =
  | { ok: Handshake }
  | { failed: 'closed' | 'silent' | 'not-tls' | 'unreachable'; reason: string };

/** Makes one TLS handshake and judges nothing. Sends no application data. */
export async function shakeHands(options: HandshakeOptions): Promise<HandshakeResult> {
  const first = await attempt(options, { maxVersion: 'TLSv1.2' });
  // What refuses TLS 1.2 may speak TLS 1.3.
  if ('failed' in first && /PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|HANDSHAKE_FAILURE/i.test(first.reason)) {
    const second = await attempt(options, { minVersion: 'TLSv1.3' });
    return 'ok' in second ? second : first;
  }
  return first;
}

function attempt(options: HandshakeOptions, version: ConnectionOptions): Promise<HandshakeResult> {
  const { address, host, port, roots, timeoutMs } = options;
  return new Promise((resolve) => {
    const wire = connectPlain({ host: address, port });
    const sent = new SentCertificates();
    const socket = connect({
      socket: listeningIn(wire, (bytes) => sent.read(bytes)),
      ca: roots,
      rejectUnauthorized: false,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...version,
    });
    let connected = false;
    const settle = (result: HandshakeResult) => {
      clearTimeout(timer);
      resolve(result);
      socket.destroy();
      wire.destroy();
    };
    const fail = (error: unknown) => {
      const code = systemCode(error) ?? '';
      const reason = [code, reasonOf(error)].filter(Boolean).join(': ');
      if (!connected) settle({ failed: 'unreachable', reason });
      else settle({ failed: /^ERR_SSL_|^EPROTO$/.test(code) ? 'not-tls' : 'closed', reason });
    };
    const timer = setTimeout(() => {
      const what = connected ? 'no TLS handshake' : 'no TCP connection';
      settle({ failed: connected ? 'silent' : 'unreachable', reason: `${what} within ${timeoutMs / 1000} s` });
    }, timeoutMs);
    wire.once('connect', () => {
      connected = true;
    });
    wire.on('error', fail);
    socket.on('error', fail);
    socket.once('close', () => fail(new Error('it closed the connection during the handshake')));
    socket.once('secureConnect', () => settle({ ok: describe(socket, sent.certificates) }));
  });
}

function describe(socket: TLSSocket, read: X509Certificate[]): Handshake {
  const fault = socket.authorizationError as unknown;
  const verdict = typeof fault === 'string' ? fault : (systemCode(fault) ?? (fault ? reasonOf(fault) : undefined));
  const isExact = read.length > 0;
  return {
    sent: isExact ? read : chainOf(socket),
    isExact,
    protocol: socket.getProtocol() ?? 'TLS',
    // The name has a check of its own.
    verdict: verdict === 'ERR_TLS_CERT_ALTNAME_INVALID' ? undefined : verdict,
  };
}

function chainOf(socket: TLSSocket): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let next = socket.getPeerX509Certificate();
  while (next !== undefined && chain.length < 10) {
    const current = next;
    if (chain.some((each) => each.raw.equals(current.raw))) break;
    chain.push(current);
    next = current.issuerCertificate;
  }
  return chain;
}

/** The same connection, heard by somebody else on its way in: tls.connect() reads a net.Socket below JavaScript. */
function listeningIn(wire: Socket, hear: (bytes: Buffer) => void): Duplex {
  const heard = new Duplex({
    read: () => void wire.resume(),
    write: (chunk, _encoding, done) => void wire.write(chunk, (error) => done(error ?? null)),
    final: (done) => void wire.end(() => done()),
    destroy: (error, done) => {
      wire.destroy();
      done(error);
    },
  });
  wire.on('data', (bytes) => {
    hear(bytes);
    if (!heard.push(bytes)) wire.pause();
  });
  wire.on('end', () => heard.push(null));
  wire.on('close', () => heard.destroy());
  return heard;
}
