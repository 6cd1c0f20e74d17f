import type { X509Certificate } from 'node:crypto';
import type { Check } from './context.ts';
import { type CommonValues, defineCodes, type Finding, finder } from './findings.ts';

export const peerCodes = defineCodes({
  peer_ok: {
    severity: 'ok',
    cause: 'What answers at {host}:{port} is not the IoT Hub, by name and by certificate.',
    cure: 'Nothing needs to be done.',
    command: 'openssl s_client -connect {host}:{port} </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName',
  },
  gateway_is_hub: {
    severity: 'error',
    cause: '{host}, which should be the gateway, is the name of an IoT Hub: this device would go past its gateway.',
    cure: 'Register the gateway with its own host name, the "hostname" in its config.toml, and join again.',
    command: 'grep -o "GatewayHostName=[^;\\"]*" {state}/document.json',
  },
  peer_is_hub: {
    severity: 'error',
    cause:
      '{host}:{port} answers with the certificate of an IoT Hub ({names}): the name or a proxy leads past the gateway.',
    cure: 'Have DNS or the hosts file lead {host} to the gateway, and no proxy or port forwarding lead on to the hub.',
    command:
      'getent hosts {host}; openssl s_client -connect {host}:{port} </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName',
  },
});

const found = finder(peerCodes);

export function gatewayIsHub(common: CommonValues): Finding {
  return found('gateway_is_hub', common, {});
}

/** The domains of IoT Hub in the clouds of Azure (learn.microsoft.com/azure, "Compare Azure Government and global Azure"). */
const hubDomain = /(^|\.)azure-devices\.(net|us|cn)$/i;

export function isHubName(name: string): boolean {
  return hubDomain.test(name);
}

export const peerCheck: Check = {
  name: 'peer',
  title: 'the gateway, and not the IoT Hub',
  // Not TLS: a name that is the hub's is wrong whether it answers or not.
  needs: ['state'],
  ownOnly: false,
  async run({ common, host, own, observe }) {
    if (isHubName(host) || host === own?.string.hub) return [gatewayIsHub(common)];
    if ('failed' in (await observe.handshake())) return { skippedFor: 'tls' };
    const [leaf] = await observe.sent();
    const names = leaf === undefined ? [] : namesOf(leaf).filter((name) => isHubName(name.replace(/^\*\./, '')));
    if (names.length > 0) return [found('peer_is_hub', common, { names: names.join(', ') })];
    return [found('peer_ok', common, {})];
  },
};

/** The alternative names of a certificate, without their kinds. */
export function namesOf(certificate: X509Certificate): string[] {
  const names = certificate.subjectAltName?.split(', ') ?? [];
  return names.map((name) => name.replace(/^(DNS|IP Address):/, ''));
}
