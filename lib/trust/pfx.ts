import { X509Certificate } from 'node:crypto';
import { type Duplex, duplexPair } from 'node:stream';
import { connect, createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import { GatepostError } from '../errors.ts';
import type { Redacted } from '../redacted.ts';

const handshakeMs = 5_000;

/**
 * Opens a PFX and answers its certificate. Node has no function that does, but its TLS reads one: a handshake with
 * ourselves in memory shows the certificate and proves that the private key belongs to it. Throws `root_not_pfx`.
 */
export async function certificateOfPfx(pfx: Uint8Array, password: Redacted | undefined): Promise<X509Certificate> {
  const context = openPfx(pfx, password);
  try {
    return await handshake(context);
  } catch (cause) {
    throw new GatepostError(
      'root_not_pfx',
      'It holds no certificate together with the private key of that certificate.',
      {
        cause,
      },
    );
  }
}

function openPfx(pfx: Uint8Array, password: Redacted | undefined): SecureContext {
  try {
    return createSecureContext({
      pfx: Buffer.from(pfx),
      ...(password === undefined ? {} : { passphrase: password.reveal() }),
      // A weak key is to be told of as such, by the lint: level 0 lets it load.
      ciphers: 'DEFAULT:@SECLEVEL=0',
    });
  } catch (error) {
    throw new GatepostError('root_not_pfx', adviceFor((error as Error).message), { cause: error });
  }
}

function adviceFor(message: string): string {
  if (/mac verify failure/i.test(message)) return 'The password is not that of the PFX.';
  if (/unsupported/i.test(message)) {
    return 'It is encrypted with an algorithm that is no longer supported, such as RC2: export it anew with AES-256.';
  }
  return 'Send a PKCS#12 file with one certificate and its private key, in base64.';
}

function handshake(context: SecureContext): Promise<X509Certificate> {
  const [clientSide, serverSide] = duplexPair() as [Duplex, Duplex];
  return new Promise<X509Certificate>((resolve, reject) => {
    const server = new TLSSocket(serverSide, { isServer: true, secureContext: context });
    const client = connect({ socket: clientSide, rejectUnauthorized: false, ciphers: 'DEFAULT:@SECLEVEL=0' });
    const timer = setTimeout(() => finish(() => reject(new Error('The handshake does not end'))), handshakeMs);
    const finish = (settle: () => void) => {
      clearTimeout(timer);
      settle();
      client.destroy();
      server.destroy();
    };
    server.on('error', (error) => finish(() => reject(error)));
    client.on('error', (error) => finish(() => reject(error)));
    client.on('secureConnect', () => {
      const { raw } = client.getPeerCertificate();
      finish(() => (raw === undefined ? reject(new Error('No certificate')) : resolve(new X509Certificate(raw))));
    });
  });
}
