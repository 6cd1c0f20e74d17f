import type { X509Certificate } from 'node:crypto';
import { fingerprint, subjectOf } from '../certificates.ts';
import type { Check } from './context.ts';
import { defineCodes, finder } from './findings.ts';

export const tlsCodes = defineCodes({
  tls_ok: {
    severity: 'ok',
    cause: '{host}:{port} completes a TLS handshake ({protocol}) and sends {count}.',
    cure: 'Nothing needs to be done.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -showcerts </dev/null',
  },
  tls_not_spoken: {
    severity: 'error',
    cause: '{host}:{port} does not speak TLS as it should ({reason}): something else listens there.',
    cure: 'Look on the gateway which program holds the port; it must be edgeHub, with no proxy that speaks HTTP before it.',
    command: 'openssl s_client -connect {host}:{port} </dev/null',
  },
  tls_closed: {
    severity: 'error',
    cause: '{host}:{port} closes the connection during the TLS handshake ({reason}).',
    cure: 'Read the log of edgeHub (iotedge logs edgeHub): it has no certificate yet, is starting, or a proxy cuts TLS.',
    command: 'openssl s_client -connect {host}:{port} </dev/null',
  },
  tls_silent: {
    severity: 'error',
    cause: '{host}:{port} takes the connection and then says nothing: {reason}.',
    cure: 'Restart edgeHub on the gateway (iotedge restart edgeHub), and look whether a load balancer stands in between.',
    command: 'timeout 10 openssl s_client -connect {host}:{port} </dev/null',
  },
});

const found = finder(tlsCodes);

export const tlsCheck: Check = {
  name: 'tls',
  title: 'TLS, and what the gateway sends',
  needs: ['ports'],
  ownOnly: false,
  async run({ common, observe }) {
    const result = await observe.handshake();
    if ('failed' in result) {
      const { reason } = result;
      if (result.failed === 'not-tls') return [found('tls_not_spoken', common, { reason })];
      if (result.failed === 'silent') return [found('tls_silent', common, { reason })];
      return [found('tls_closed', common, { reason })];
    }
    const { sent, isExact, protocol } = result.ok;
    const count = sent.length === 1 ? '1 certificate' : `${sent.length} certificates`;
    const note = isExact ? [] : ['TLS 1.3 only: certificates that belong to no chain are not seen'];
    return [found('tls_ok', common, { protocol, count }, [...sent.flatMap(describe), ...note])];
  },
};

/** One certificate, for people. */
export function describe(certificate: X509Certificate, at: number): string[] {
  const day = (text: string) => new Date(text).toISOString().slice(0, 16).replace('T', ' ');
  return [
    `${at + 1}. ${subjectOf(certificate)}`,
    `issued by ${certificate.issuer.split('\n').join(',')}`,
    `valid ${day(certificate.validFrom)} to ${day(certificate.validTo)} UTC`,
    `SHA-256 ${fingerprint(certificate)}`,
  ];
}
