import { isIP } from 'node:net';
import { movedBy } from './agreement.ts';
import type { Check } from './context.ts';
import { defineCodes, finder } from './findings.ts';
import { isHubName } from './peer.ts';

export const dnsCodes = defineCodes({
  dns_ok: {
    severity: 'ok',
    cause: '{host} leads to {addresses}.',
    cure: 'Nothing needs to be done.',
    command: 'getent hosts {host}',
  },
  dns_not_needed: {
    severity: 'ok',
    cause: 'The gateway is named by its address {host}, which needs no DNS.',
    cure: 'Nothing needs to be done.',
    command: 'ip route get {host}',
  },
  dns_not_found: {
    severity: 'error',
    cause: 'Nobody knows the name {host}: neither DNS nor the hosts file of this device ({reason}).',
    cure: 'Have the name entered in the DNS that this device uses, or add "ADDRESS {host}" to /etc/hosts.',
    command: 'getent hosts {host}; cat /etc/resolv.conf',
  },
  dns_unavailable: {
    severity: 'error',
    cause: 'The DNS servers of this device do not answer, so {host} cannot be looked up ({reason}).',
    cure: 'Repair the network or the DNS servers of this device, or add "ADDRESS {host}" to /etc/hosts.',
    command: 'cat /etc/resolv.conf; getent hosts {host}; ip route',
  },
});

const found = finder(dnsCodes);

export const dnsCheck: Check = {
  name: 'dns',
  title: 'DNS of the gateway',
  needs: ['state'],
  ownOnly: false,
  async run(context) {
    const { common, host, observe } = context;
    if (isHubName(host)) return { skippedFor: 'peer' };
    if (isIP(host) !== 0) return [found('dns_not_needed', common, {})];
    const resolved = await observe.addresses();
    if ('addresses' in resolved) return [found('dns_ok', common, { addresses: resolved.addresses.join(', ') })];
    const moved = await movedBy(context);
    if (moved !== undefined) return { skippedFor: moved };
    // EAI_AGAIN is how getaddrinfo says that no server answered.
    const isAway = resolved.code === 'EAI_AGAIN' || resolved.code === 'ETIMEOUT' || resolved.code === 'ECONNREFUSED';
    return [found(isAway ? 'dns_unavailable' : 'dns_not_found', common, { reason: resolved.code || resolved.failed })];
  },
};
