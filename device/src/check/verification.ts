import type { Check } from './context.ts';
import { defineCodes, finder } from './findings.ts';
import { isWrong } from './observe/clock.ts';

export const verificationCodes = defineCodes({
  verification_ok: {
    severity: 'ok',
    cause: 'OpenSSL, which the SDKs for Node, C and Python use, accepts the chain.',
    cure: 'Nothing needs to be done.',
    command:
      'openssl s_client -connect {host}:{port} -CAfile {roots} -verify_hostname {host} -verify_return_error </dev/null',
  },
  chain_refused: {
    severity: 'error',
    cause: 'The chain of the gateway leads to a trusted root, and OpenSSL still refuses it: {verdict}.',
    cure: 'Make the certificate that it complains of anew: PATH_LENGTH_EXCEEDED is a CA below one with too small a pathlen, INVALID_PURPOSE lacks serverAuth, a KEY_TOO_SMALL or MD_TOO_WEAK is too weak.',
    command:
      'openssl s_client -connect {host}:{port} -CAfile {roots} -verify_hostname {host} -verify_return_error </dev/null',
  },
});

const found = finder(verificationCodes);

/** The dates have a check of their own, which also knows whether the clock is to blame. */
const dates = ['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'];

export const verificationCheck: Check = {
  name: 'verification',
  title: "OpenSSL's own verdict on the chain",
  needs: ['chain', 'edge-ca'],
  ownOnly: false,
  async run({ common, observe }) {
    const handshake = await observe.handshake();
    if ('failed' in handshake) return { skippedFor: 'tls' };
    const { verdict } = handshake.ok;
    if (verdict === undefined) return [found('verification_ok', common, {})];
    // OpenSSL stops at the first fault that it meets: behind a date there may be another. It goes by this clock.
    if (dates.includes(verdict)) return { skippedFor: isWrong(await observe.clock()) ? 'clock' : 'expiry' };
    return [found('chain_refused', common, { verdict })];
  },
};
