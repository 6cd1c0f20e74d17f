import { createServer, type TLSSocket } from 'node:tls';
import { listen } from './https-server.ts';

/** `cert` is the chain that is sent. `ca` names the authorities that client certificates are asked from. */
export interface ServerTls {
  cert: string;
  key: string;
  ca?: string | string[];
}

export interface TlsServer {
  port: number;
  /** New connections are served with this certificate; those that stand stay. */
  setCertificate(tls: { cert: string; key: string }): void;
  /** Cuts every connection. */
  close(): Promise<void>;
}

/**
 * Serves a protocol over TLS on loopback. Client certificates are asked for and never demanded: whether one is good is for the
 * protocol to say. A port that is taken is replaced by a free one.
 */
export async function serveTls(options: {
  tls: ServerTls;
  port?: number | undefined;
  accept(socket: TLSSocket): void;
}): Promise<TlsServer> {
  const { cert, key, ca } = options.tls;
  const settings = { minVersion: 'TLSv1.2', ...(ca && { ca }) } as const;
  const server = createServer({ cert, key, requestCert: true, rejectUnauthorized: false, ...settings });
  const sockets = new Set<TLSSocket>();
  server.on('secureConnection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    options.accept(socket);
  });
  server.on('tlsClientError', () => {});
  const port = await listen(server, options.port ?? 0);
  return {
    port,
    setCertificate: (tls) => server.setSecureContext({ ...tls, ...settings }),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  };
}
