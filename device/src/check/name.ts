import { isIP } from 'node:net';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { movedBy } from './agreement.ts';
import type { Check } from './context.ts';
import { defineCodes, finder } from './findings.ts';
import { commonNameOf } from './observe/path.ts';
import { namesOf } from './peer.ts';

export const nameCodes = defineCodes({
  name_ok: {
    severity: 'ok',
    cause: 'The certificate of the gateway is for {host}.',
    cure: 'Nothing needs to be done.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -verify_hostname {host} </dev/null',
  },
  name_mismatch: {
    severity: 'error',
    cause: 'The certificate of the gateway is for {names}, not for {host}.',
    cure: 'Make "hostname" in the config.toml of the gateway {host} and run "sudo iotedge config apply", or register the gateway under the name that it has and join again.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -verify_hostname {host} </dev/null',
  },
  name_is_address: {
    severity: 'error',
    cause:
      'The gateway is addressed by its IP {host}, and its certificate is for {names}: an address counts only as an IP in the alternative names.',
    cure: 'Address the gateway by the name in its certificate, or set "hostname" in its config.toml to the address.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -verify_ip {host} </dev/null',
  },
  name_only_in_common_name: {
    severity: 'warning',
    cause:
      'The certificate of the gateway has the name {host} in its common name only: Node takes that, the SDKs for Python, Go and others do not.',
    cure: 'Let edgeHub get its certificate from the Edge CA (no certificate of your own for it): that has alternative names.',
    command:
      'openssl s_client -connect {host}:{port} </dev/null 2>/dev/null | openssl x509 -noout -subject -ext subjectAltName',
  },
});

const found = finder(nameCodes);

export const nameCheck: Check = {
  name: 'name',
  title: "the host name in the gateway's certificate",
  needs: ['peer'],
  ownOnly: false,
  async run(context) {
    const { common, host, observe } = context;
    const [leaf] = await observe.sent();
    if (leaf === undefined) return { skippedFor: 'tls' };
    const names = namesOf(leaf);
    const fault = checkServerIdentity(host, leaf.toLegacyObject() as PeerCertificate);
    const moved = fault === undefined ? undefined : await movedBy(context);
    if (moved !== undefined) return { skippedFor: moved };
    if (fault !== undefined) {
      const values = { names: names.join(', ') || commonNameOf(leaf) || 'nobody' };
      return [isIP(host) === 0 ? found('name_mismatch', common, values) : found('name_is_address', common, values)];
    }
    return [names.length === 0 ? found('name_only_in_common_name', common, {}) : found('name_ok', common, {})];
  },
};
