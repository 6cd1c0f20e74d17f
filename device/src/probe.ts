import type { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { checkServerIdentity, connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { fingerprint, isAnchor, isIssuedBy, readCertificates, subjectOf } from './certificates.ts';
import { GatepostDeviceError, reasonOf, systemCode } from './errors.ts';

export interface ProbeOptions {
  host: string;
  port: number;
  /** The trusted roots, one PEM text. */
  roots: string;
  timeoutMs?: number;
  now?: () => Date;
}

/** What a gateway proved: the chain it sent, and which trusted root that chain ends in. */
export interface ProvenPeer {
  address: string;
  rootSha256: string;
  certificate: { subject: string; notAfter: Date; sha256: string };
}

/**
 * Connects, checks the gateway's chain against the roots and its name against the host, and disconnects. Nothing is sent.
 * The device SDK reports every first failure as "Not authorized", a wrong name and a dead host alike, so this is where
 * the real reason is found. Throws one of the `chain_`, `host_name_`, `certificate_` and `gateway_` codes.
 */
export async function probeGateway(options: ProbeOptions): Promise<ProvenPeer> {
  const socket = await handshake(options);
  try {
    return provePeer(socket, options);
  } finally {
    socket.destroy();
  }
}

/**
 * Checks a finished handshake. The verdict is ours, not only `socket.authorized`: the chain must have been verified and
 * end in one of the roots, and the name is compared again.
 */
export function provePeer(socket: TLSSocket, options: ProbeOptions): ProvenPeer {
  const chain = chainOf(socket);
  const leaf = chain[0];
  const where = `${options.host}:${options.port}`;
  if (leaf === undefined) throw new GatepostDeviceError('gateway_not_tls', `${where} sent no certificate.`);
  const fault = socket.authorizationError as unknown;
  const code = typeof fault === 'string' ? fault : (systemCode(fault) ?? (fault ? reasonOf(fault) : undefined));
  if (code !== undefined && code !== 'ERR_TLS_CERT_ALTNAME_INVALID') throw explainChain(code, chain, options);
  const wrongName = checkServerIdentity(options.host, leaf.toLegacyObject() as PeerCertificate);
  if (wrongName !== undefined) {
    const names = leaf.subjectAltName?.replaceAll('DNS:', '').replaceAll('IP Address:', '') ?? 'no name at all';
    throw new GatepostDeviceError(
      'host_name_mismatch',
      `The certificate of ${where} is for ${names}, not for ${options.host}: GatewayHostName must equal the "hostname" in the gateway's config.toml.`,
    );
  }
  const root = readCertificates(options.roots).find((each) => chain.some((one) => isIssuedBy(one, each)));
  if (!socket.authorized || root === undefined) throw explainChain('UNTRUSTED', chain, options);
  return {
    address: `${socket.remoteAddress}:${socket.remotePort}`,
    rootSha256: fingerprint(root),
    certificate: { subject: subjectOf(leaf), notAfter: new Date(leaf.validTo), sha256: fingerprint(leaf) },
  };
}

/** Turns an error of the connection itself into a named one. */
export function explainConnection(error: unknown, host: string, port: number): GatepostDeviceError {
  if (error instanceof GatepostDeviceError) return error;
  const code = systemCode(error) ?? '';
  const where = `${host}:${port}`;
  if (['ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'EAI_NODATA'].includes(code)) {
    return new GatepostDeviceError(
      'gateway_not_found',
      `The name ${host} cannot be resolved (${code}): DNS or the hosts file of this device must know the gateway.`,
      { cause: error },
    );
  }
  if (code === 'ECONNREFUSED') {
    return new GatepostDeviceError(
      'gateway_unreachable',
      `${where} refuses connections: edgeHub is not running there, or listens on another port.`,
      { cause: error },
    );
  }
  if (/^ERR_SSL_|^EPROTO$/.test(code)) {
    return new GatepostDeviceError(
      'gateway_not_tls',
      `${where} does not complete a TLS handshake (${reasonOf(error)}): something else listens there.`,
      { cause: error },
    );
  }
  return new GatepostDeviceError(
    'gateway_unreachable',
    `${where} cannot be reached: ${reasonOf(error)}${code === '' ? '' : ` (${code})`}.`,
    { cause: error },
  );
}

function handshake(options: ProbeOptions): Promise<TLSSocket> {
  const { host, port, roots } = options;
  const timeoutMs = options.timeoutMs ?? 10_000;
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      ca: roots,
      // The judgement follows in provePeer, which can say what the server really sent. Nothing is written until then.
      rejectUnauthorized: false,
      ...(isIP(host) === 0 ? { servername: host } : {}),
    });
    const settle = () => {
      clearTimeout(timer);
      socket.off('error', fail);
      socket.off('close', hungUp);
      // What still comes from a socket that is done with concerns nobody.
      socket.on('error', () => {});
    };
    const fail = (error: unknown) => {
      settle();
      socket.destroy();
      reject(explainConnection(error, host, port));
    };
    const hungUp = () => fail(new Error('it closed the connection during the TLS handshake'));
    const timer = setTimeout(() => fail(new Error(`no TLS handshake within ${timeoutMs / 1000} s`)), timeoutMs);
    socket.once('error', fail);
    socket.once('close', hungUp);
    socket.once('secureConnect', () => {
      settle();
      resolve(socket);
    });
  });
}

/** What the peer sent, leaf first. The trusted root is not among it, unless the peer sent that too. */
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

function explainChain(code: string, chain: X509Certificate[], options: ProbeOptions): GatepostDeviceError {
  const where = `${options.host}:${options.port}`;
  const now = options.now?.() ?? new Date();
  const top = chain.at(-1);
  const signer = top === undefined ? 'an unknown issuer' : `"${top.issuer.split('\n').join(',')}"`;
  const trusted = readCertificates(options.roots);
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') {
    return explainTime(code, [...chain, ...trusted], where, now);
  }
  const names = listed(trusted.map((root) => `"${subjectOf(root)}"`));
  const weak = trusted.find(
    (each) => !isAnchor(each) && chain.some((one) => one.raw.equals(each.raw) || isIssuedBy(one, each)),
  );
  if (weak !== undefined) {
    return new GatepostDeviceError(
      'root_not_anchor',
      `Trusted here is "${subjectOf(weak)}", an intermediate, and not the root above it (${code}): hand out the root.`,
    );
  }
  const alone = chain.length === 1 && top !== undefined && top.subject !== top.issuer;
  if (alone && !trusted.some((root) => root.subject === top.issuer)) {
    return new GatepostDeviceError(
      'chain_incomplete',
      `${where} sends only its own certificate, signed by ${signer}, and no chain to a root (${code}): its Edge CA file must hold the full chain. Trusted here: ${names}.`,
    );
  }
  return new GatepostDeviceError(
    'chain_untrusted',
    `The certificate chain of ${where} ends in ${signer}, which this device does not trust (${code}). Trusted here: ${names}.`,
  );
}

function explainTime(code: string, candidates: X509Certificate[], where: string, now: Date): GatepostDeviceError {
  const expired = code === 'CERT_HAS_EXPIRED';
  const isAt = (one: X509Certificate) => (expired ? new Date(one.validTo) < now : new Date(one.validFrom) > now);
  const culprit = candidates.find(isAt) ?? candidates[0];
  const date =
    culprit === undefined ? 'an unknown date' : new Date(expired ? culprit.validTo : culprit.validFrom).toISOString();
  const name = culprit === undefined ? 'a certificate' : `"${subjectOf(culprit)}"`;
  const what = expired ? `expired at ${date}` : `is valid only from ${date}`;
  return new GatepostDeviceError(
    expired ? 'certificate_expired' : 'certificate_not_yet_valid',
    `In the chain of ${where}, ${name} ${what}; the clock of this device says ${now.toISOString()}. Check the clock first, then the gateway's certificates.`,
  );
}

/** All of a few names; of a whole system store only so many that a person still reads the line. */
function listed(names: string[]): string {
  if (names.length <= 5) return names.join(', ');
  return `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`;
}
