import { type CertificateOptions, issue, type KeyedCertificate, selfSigned } from '../kit/certificates.ts';

/** What can be wrong with the certificates of a gateway, each thing as it happens in the field. Absent: nothing is. */
export interface CertificateFault {
  /** Whose root: one that nobody trusts, or a new one under the old name (certGen.sh run again). Default: the gateway's. */
  root?: 'another' | 'namesake';
  /** Makes the Edge CA anew with these: `{ ca: false }`, a common name that is the host name, dates, key usages. */
  edgeCa?: Partial<CertificateOptions>;
  /** Makes the server certificate with these: dates, names. */
  server?: Partial<CertificateOptions>;
  /**
   * What is sent. `server only` is an Edge CA file without its chain, `foreign chain` one with the chain of another
   * Edge CA, `with root` one that holds the root too. Default: server certificate and Edge CA.
   */
  sends?: 'server only' | 'foreign chain' | 'with root';
  /** A server certificate that nobody else has signed, as other programs on that port have it. */
  selfSigned?: boolean;
}

export interface Authorities {
  root: KeyedCertificate;
  edgeCa: KeyedCertificate;
  rootName: string;
  edgeCaName: string;
}

const day = 86_400_000;

/** The certificate of a gateway with this fault, and its chain as the gateway would send it. */
export async function badCertificate(
  authorities: Authorities,
  hostname: string,
  fault: CertificateFault,
): Promise<KeyedCertificate> {
  const server = {
    commonName: hostname,
    names: [hostname, 'edgeHub'],
    notAfter: new Date(Date.now() + 30 * day),
    ...fault.server,
  };
  if (fault.selfSigned === true) return selfSigned({ ca: false, ...server });
  const root = await rootFor(authorities, fault);
  const isOwn = fault.root === undefined && fault.edgeCa === undefined;
  const edgeCa = isOwn ? authorities.edgeCa : await newEdgeCa(root, authorities.edgeCaName, fault.edgeCa);
  const made = await issue(edgeCa, server);
  return { ...made, chain: await chainFor({ made, root, edgeCa }, fault) };
}

function rootFor(
  { root, rootName }: Authorities,
  fault: CertificateFault,
): Promise<KeyedCertificate> | KeyedCertificate {
  if (fault.root === undefined) return root;
  return selfSigned({ commonName: fault.root === 'namesake' ? rootName : 'Another root' });
}

function newEdgeCa(root: KeyedCertificate, name: string, bent: Partial<CertificateOptions> = {}) {
  return issue(root, { commonName: name, ca: 0, notAfter: new Date(Date.now() + 90 * day), ...bent });
}

async function chainFor(
  { made, root, edgeCa }: { made: KeyedCertificate; root: KeyedCertificate; edgeCa: KeyedCertificate },
  { sends }: CertificateFault,
): Promise<string> {
  if (sends === 'server only') return made.certificate;
  if (sends === 'foreign chain') return made.certificate + (await newEdgeCa(root, 'Edge CA of long ago')).certificate;
  const chain = made.certificate + edgeCa.certificate;
  return sends === 'with root' ? chain + root.certificate : chain;
}
