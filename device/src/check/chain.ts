import type { X509Certificate } from 'node:crypto';
import { fingerprint, isAnchor, subjectOf } from '../certificates.ts';
import type { Check, Context } from './context.ts';
import { defineCodes, type Finding, finder } from './findings.ts';
import { isSelfSigned, isSignedBy, type Path } from './observe/path.ts';

export const chainCodes = defineCodes({
  chain_ok: {
    severity: 'ok',
    cause: 'The chain of the gateway ends in the trusted root {root}.',
    cure: 'Nothing needs to be done.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -verify_return_error </dev/null',
  },
  chain_incomplete: {
    severity: 'error',
    cause:
      'The gateway sends its own certificate without the Edge CA that signed it ({issuer}): nobody can follow that to a root.',
    cure: 'Put the full chain into the file of [edge_ca] cert in config.toml (Edge CA first, the root last), then "sudo iotedge config apply".',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -showcerts </dev/null',
  },
  gateway_self_signed: {
    severity: 'error',
    cause:
      'The gateway answers with a certificate that it has signed itself ({subject}): that is not what edgeHub does.',
    cure: 'Look on the gateway which program holds port {port}; edgeHub gets its certificate from the Edge CA in config.toml.',
    command: 'openssl s_client -connect {host}:{port} -showcerts </dev/null',
  },
  root_unknown: {
    severity: 'error',
    cause: 'The chain of the gateway ends in {top}, which this device does not trust.',
    cure: 'Import the root of this gateway with Gatepost and join again; or the gateway has lost its Edge CA and made one of its own: see [edge_ca] in its config.toml.',
    command: 'openssl s_client -connect {host}:{port} -CAfile {roots} -showcerts </dev/null',
  },
  root_name_reused: {
    severity: 'error',
    cause: 'The chain of the gateway leads to a root named {issuer}; the trusted root of that name has another key.',
    cure: 'The root was made anew under its old name: import the new one with Gatepost and join again, or give the gateway an Edge CA of the old one.',
    command:
      'openssl s_client -connect {host}:{port} -CAfile {roots} -showcerts </dev/null; openssl x509 -noout -fingerprint -sha256 -in {roots}',
  },
  root_not_installed: {
    severity: 'error',
    cause:
      'The gateway uses the root {root}, which is in the trust bundle of {api} (sequence {sequence}) and not on this device.',
    cure: 'Let this device fetch the newer bundle: join again.',
    command:
      'curl -s {api}/api/v1/trust-bundle | openssl crl2pkcs7 -nocrl -certfile /dev/stdin | openssl pkcs7 -print_certs -noout',
  },
  root_not_anchor: {
    severity: 'error',
    cause:
      'Trusted here is {subject}, which is an intermediate: OpenSSL and Node end a chain at a self-signed root only.',
    cure: 'Hand out the root above it.',
    command: 'openssl x509 -noout -subject -issuer -ext basicConstraints -in {roots}',
  },
});

const found = finder(chainCodes);

export const chainCheck: Check = {
  name: 'chain',
  title: "the gateway's root is a trusted one",
  needs: ['peer'],
  ownOnly: false,
  async run(context) {
    const path = await context.observe.path();
    return [path.anchor === undefined ? await explain(context, path) : anchored(context, path.anchor)];
  },
};

function anchored({ common }: Context, anchor: X509Certificate): Finding {
  if (!isAnchor(anchor)) return found('root_not_anchor', common, { subject: named(anchor) });
  return found('chain_ok', common, { root: named(anchor) }, [`SHA-256 ${fingerprint(anchor)}`]);
}

async function explain(context: Context, path: Path): Promise<Finding> {
  const { common, observe, trusted } = context;
  const top = path.certificates.at(-1);
  if (top === undefined) return found('root_unknown', common, { top: 'nothing' });
  const details = trustedHere(trusted);
  const newer = await inNewerBundle(context);
  if (newer !== undefined) return found('root_not_installed', common, newer, details);
  const issuer = `"${top.issuer.split('\n').join(',')}"`;
  if (path.namesake !== undefined) return found('root_name_reused', common, { issuer }, details);
  const isAlone = path.certificates.length === 1;
  if (isAlone && isSelfSigned(top)) return found('gateway_self_signed', common, { subject: named(top) }, details);
  // A CA that sits above nothing but the root may be what the root is called: only more certificates would tell.
  if (isAlone) return found('chain_incomplete', common, { issuer }, [...details, ...strangers(await observe.sent())]);
  return found('root_unknown', common, { top: isSelfSigned(top) ? named(top) : issuer }, details);
}

function trustedHere(trusted: X509Certificate[]): string[] {
  return trusted.map((root) => `trusted here: ${named(root)}, SHA-256 ${fingerprint(root)}`);
}

/** Certificates that were sent and belong to no chain: an Edge CA that was replaced, with the file of the old one. */
function strangers([leaf, ...others]: X509Certificate[]): string[] {
  return others
    .filter((each) => leaf !== undefined && !isSignedBy(leaf, each))
    .map((each) => `sent along, and not its issuer: ${named(each)}`);
}

/** The root that the API hands out by now, where the gateway sends it or it could be the missing one. */
async function inNewerBundle({ observe, own }: Context): Promise<{ root: string; sequence: number } | undefined> {
  const bundle = await observe.bundle();
  if (bundle === undefined || own === undefined) return undefined;
  const { certificates } = await observe.path();
  const root = [...bundle.roots].find((each) => certificates.some((one) => isSignedBy(one, each)));
  return root === undefined ? undefined : { root: named(root), sequence: bundle.sequence };
}

function named(certificate: X509Certificate): string {
  return `"${subjectOf(certificate)}"`;
}
