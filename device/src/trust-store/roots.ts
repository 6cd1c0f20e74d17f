import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { fingerprint, isAnchor, readCertificates, subjectOf } from '../certificates.ts';
import { parseGatewayAddress } from '../connection-string.ts';
import { parseTrustBundle } from '../document.ts';
import { GatepostDeviceError, reasonOf } from '../errors.ts';
import { gatewayAddress } from '../protocol.ts';
import { readDocument } from '../state.ts';

export interface GatewayToProve {
  host: string;
  port: number;
  /** Whether a person named it: then it must answer. One from the state folder may be out of reach, as in a factory. */
  named: boolean;
}

/** The roots that are to be trusted, and the gateway by which that can be proven. */
export interface WantedTrust {
  roots: X509Certificate[];
  from: string;
  gateway: GatewayToProve | undefined;
}

export interface TrustSources {
  state: string;
  /** A bundle, as PEM or as the JSON of `GET /trust-bundle`. */
  bundle?: string | undefined;
  /** Files with one certificate each, PEM or DER. */
  roots?: string[] | undefined;
  gateway?: string | undefined;
}

/**
 * Reads the roots from files where files are named, else from what `join` stored. Each must be able to anchor a chain.
 * Throws `usage`, `root_not_anchor`, `bundle_invalid` and what {@link readDocument} throws.
 */
export async function wantedTrust({ state, bundle, roots = [], gateway }: TrustSources): Promise<WantedTrust> {
  const named = gateway === undefined ? undefined : namedGateway(gateway);
  if (bundle === undefined && roots.length === 0) {
    const document = await readDocument(state);
    const known = document.trust.roots.map(({ pem }) => new X509Certificate(pem));
    const address = named ?? { ...gatewayAddress(document, 'mqtt'), named: false };
    return { roots: known, from: `trust bundle ${document.trust.sequence} in ${state}`, gateway: address };
  }
  const files = [...(bundle === undefined ? [] : [bundle]), ...roots];
  const found = (await Promise.all(files.map((file) => certificatesOf(file, file === bundle)))).flat();
  const unique = [...new Map(found.map((root) => [fingerprint(root), root])).values()];
  return { roots: unique, from: files.join(', '), gateway: named };
}

async function certificatesOf(file: string, isBundle: boolean): Promise<X509Certificate[]> {
  let bytes: Buffer;
  try {
    bytes = await readFile(file);
  } catch (error) {
    throw new GatepostDeviceError('usage', `${file} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
  const certificates = parse(bytes, file);
  if (certificates.length === 0) throw new GatepostDeviceError('usage', `${file} holds no certificate.`);
  if (!isBundle && certificates.length > 1) {
    throw new GatepostDeviceError('usage', `${file} holds ${certificates.length} certificates: name it with --bundle.`);
  }
  for (const certificate of certificates) {
    if (isAnchor(certificate)) continue;
    throw new GatepostDeviceError(
      'root_not_anchor',
      `${file} holds "${subjectOf(certificate)}", which is not a self-signed root CA: no client can trust a gateway by it. Take the root above it.`,
    );
  }
  return certificates;
}

function parse(bytes: Buffer, file: string): X509Certificate[] {
  const text = bytes.toString('utf8');
  if (text.trimStart().startsWith('{')) {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw new GatepostDeviceError('bundle_invalid', `${file} is not JSON: ${reasonOf(error)}`, { cause: error });
    }
    return parseTrustBundle(value).roots.map(({ pem }) => new X509Certificate(pem));
  }
  try {
    return text.includes('-----BEGIN') ? readCertificates(text) : [new X509Certificate(bytes)];
  } catch (error) {
    throw new GatepostDeviceError('usage', `${file} holds a certificate that does not read: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

function namedGateway(text: string): GatewayToProve {
  try {
    const { host, port } = parseGatewayAddress(text);
    return { host, port: port ?? 8883, named: true };
  } catch (error) {
    throw new GatepostDeviceError('usage', `--gateway takes HOST or HOST:PORT, not ${JSON.stringify(text)}.`, {
      cause: error,
    });
  }
}
