import { X509Certificate } from 'node:crypto';
import { connect, type DetailedPeerCertificate } from 'node:tls';

export interface Peer {
  protocol: string;
  cipher: string;
  /** From the server's certificate to the root, `CN=NAME` each. */
  chain: string[];
}

/** Shakes hands as a device does, trusting `root` alone, and says who answered. Rejects a peer that does not verify. */
export function meetPeer(address: { host: string; port: number }, root: string): Promise<Peer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ ...address, servername: address.host, ca: root, timeout: 10_000 });
    socket.once('secureConnect', () => {
      const cipher = socket.getCipher().standardName;
      resolve({ protocol: socket.getProtocol() ?? '', cipher, chain: chainOf(socket.getPeerCertificate(true)) });
      socket.destroy();
    });
    socket.once('timeout', () => socket.destroy(new Error(`${address.host}:${address.port} did not answer in time`)));
    socket.once('error', reject);
  });
}

function chainOf(certificate: DetailedPeerCertificate): string[] {
  const subject = new X509Certificate(certificate.raw).subject.replaceAll('\n', ', ');
  const issuer = certificate.issuerCertificate;
  const isRoot = issuer === undefined || issuer.fingerprint256 === certificate.fingerprint256;
  return isRoot ? [subject] : [subject, ...chainOf(issuer)];
}
