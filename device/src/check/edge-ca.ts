import type { X509Certificate } from 'node:crypto';
import { subjectOf } from '../certificates.ts';
import type { Check, Context } from './context.ts';
import { defineCodes, type Finding, finder } from './findings.ts';
import { extensionsOf } from './observe/extensions.ts';
import { commonNameOf } from './observe/path.ts';

export const edgeCaCodes = defineCodes({
  edge_ca_ok: {
    severity: 'ok',
    cause: 'The Edge CA {subject} is a CA, may sign certificates, and is not named like the gateway.',
    cure: 'Nothing needs to be done.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -showcerts </dev/null',
  },
  edge_ca_not_ca: {
    severity: 'error',
    cause: 'The certificate that signed that of the gateway, {subject}, is no CA (basicConstraints without CA:TRUE).',
    cure: 'Make the Edge CA certificate anew with basicConstraints=critical,CA:TRUE and keyUsage keyCertSign; a device or identity certificate does not do.',
    command:
      'openssl s_client -connect {host}:{port} -showcerts </dev/null | openssl crl2pkcs7 -nocrl -certfile /dev/stdin | openssl pkcs7 -print_certs -text -noout',
  },
  edge_ca_cannot_sign: {
    severity: 'error',
    cause: 'The Edge CA {subject} is a CA whose key usage does not allow it to sign certificates (keyCertSign).',
    cure: 'Make the Edge CA certificate anew with keyUsage=critical,digitalSignature,keyCertSign.',
    command:
      'openssl s_client -connect {host}:{port} -showcerts </dev/null | openssl crl2pkcs7 -nocrl -certfile /dev/stdin | openssl pkcs7 -print_certs -text -noout',
  },
  edge_ca_loop: {
    severity: 'error',
    cause:
      'The Edge CA has the common name {host}, as the certificate that it signed, and no key ids tell the two apart: the chain is a loop to OpenSSL ({verdict}).',
    cure: 'Give the Edge CA a common name of its own, such as "{host}.ca", and make its certificate anew with subjectKeyIdentifier.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} </dev/null | grep -i -A 8 "certificate chain"',
  },
  edge_ca_named_as_host: {
    severity: 'warning',
    cause:
      'The Edge CA has the common name {host}, as the certificate that it signed: OpenSSL tells them apart by their key ids, other TLS stacks may not.',
    cure: 'Give the Edge CA a common name of its own, such as "{host}.ca", and make its certificate anew.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} </dev/null | grep -i -A 8 "certificate chain"',
  },
  edge_ca_no_key_ids: {
    severity: 'warning',
    cause:
      'In the chain of the gateway, {what}: after a renewal under the same name, clients cannot tell the old CA from the new one.',
    cure: 'Make the Edge CA certificate anew with subjectKeyIdentifier=hash and authorityKeyIdentifier=keyid.',
    command:
      'openssl s_client -connect {host}:{port} -showcerts </dev/null | openssl crl2pkcs7 -nocrl -certfile /dev/stdin | openssl pkcs7 -print_certs -text -noout',
  },
});

const found = finder(edgeCaCodes);

export const edgeCaCheck: Check = {
  name: 'edge-ca',
  title: 'the Edge CA of the gateway',
  needs: ['peer'],
  ownOnly: false,
  async run(context) {
    const { certificates } = await context.observe.path();
    const [leaf, edgeCa] = certificates;
    // The issuer was not sent: that is for the chain to say.
    if (leaf === undefined || edgeCa === undefined) return { skippedFor: 'chain' };
    const findings = [
      ...certificates.slice(1).flatMap((each) => mayIssue(context, each)),
      ...(await judgeName(context, edgeCa)),
      ...judgeKeyIds(context, leaf, edgeCa),
    ];
    if (findings.length > 0) return findings;
    return [found('edge_ca_ok', context.common, { subject: named(edgeCa) })];
  },
};

function mayIssue({ common }: Context, certificate: X509Certificate): Finding[] {
  const values = { subject: named(certificate) };
  const { isCa, mayCertify } = extensionsOf(certificate);
  if (!isCa) return [found('edge_ca_not_ca', common, values)];
  return mayCertify === false ? [found('edge_ca_cannot_sign', common, values)] : [];
}

/** learn.microsoft.com/azure/iot-edge, "iot-edge-limits-and-restrictions": the CA must not be named as the gateway is. */
async function judgeName({ common, host, observe }: Context, edgeCa: X509Certificate): Promise<Finding[]> {
  if (commonNameOf(edgeCa)?.toLowerCase() !== host) return [];
  const handshake = await observe.handshake();
  const verdict = 'ok' in handshake ? handshake.ok.verdict : undefined;
  const isLoop = /SELF_SIGNED/.test(verdict ?? '');
  return [
    isLoop ? found('edge_ca_loop', common, { verdict: verdict ?? '' }) : found('edge_ca_named_as_host', common, {}),
  ];
}

function judgeKeyIds({ common }: Context, leaf: X509Certificate, edgeCa: X509Certificate): Finding[] {
  const missing = [
    ...(extensionsOf(edgeCa).subjectKeyId ? [] : [`${named(edgeCa)} has no subject key id`]),
    ...(extensionsOf(leaf).authorityKeyId ? [] : [`${named(leaf)} has no authority key id`]),
  ];
  return missing.length === 0 ? [] : [found('edge_ca_no_key_ids', common, { what: missing.join(', and ') })];
}

function named(certificate: X509Certificate): string {
  return `"${subjectOf(certificate)}"`;
}
