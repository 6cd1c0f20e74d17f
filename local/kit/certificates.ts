import 'reflect-metadata';
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPair,
  type KeyObject,
  randomBytes,
  webcrypto,
} from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import * as x509 from '@peculiar/x509';

/** A certificate with its private key. `chain` is what a TLS server sends: the certificate, then its issuers below the root. */
export interface KeyedCertificate {
  certificate: string;
  privateKey: string;
  chain: string;
}

export type KeyType = 'ec-p256' | 'ec-p384' | 'rsa-2048';

export interface CertificateOptions {
  commonName: string;
  /** Subject alternative names: DNS names and IP addresses may be mixed. */
  names?: string[];
  /** `true` makes a CA, a number its path length. Default: an end-entity certificate. */
  ca?: boolean | number;
  keyType?: KeyType;
  notBefore?: Date;
  notAfter?: Date;
  /** Extended key usages of an end-entity certificate. Default: serverAuth. */
  usages?: ('serverAuth' | 'clientAuth')[];
  /** Key usage bits of a CA. Default: digitalSignature + keyCertSign + cRLSign. */
  keyUsages?: x509.KeyUsageFlags;
  /** False leaves out the subject and authority key ids, as tools of old do. */
  keyIdentifiers?: boolean;
}

const usageOids = { serverAuth: '1.3.6.1.5.5.7.3.1', clientAuth: '1.3.6.1.5.5.7.3.2' };
const day = 86_400_000;

x509.cryptoProvider.set(webcrypto as never);

/** A self-signed certificate: a root CA unless `options.ca` says otherwise. */
export async function selfSigned(options: CertificateOptions): Promise<KeyedCertificate> {
  const key = await newKey(options.keyType ?? 'ec-p256');
  const certificate = await sign({ ca: true, ...options }, key, key, options.commonName);
  return { certificate, privateKey: pkcs8(key.privateKey), chain: certificate };
}

/** A certificate signed by `issuer`, with a key of its own. */
export async function issue(issuer: KeyedCertificate, options: CertificateOptions): Promise<KeyedCertificate> {
  const key = await newKey(options.keyType ?? 'ec-p256');
  const issuerCertificate = new x509.X509Certificate(issuer.certificate);
  const issuerKey = { privateKey: createPrivateKey(issuer.privateKey), publicKey: createPublicKey(issuer.privateKey) };
  const certificate = await sign(options, key, issuerKey, issuerCertificate.subject, issuerCertificate);
  const isRoot = issuerCertificate.subject === issuerCertificate.issuer;
  const chain = isRoot ? certificate : `${certificate}${issuer.chain}`;
  return { certificate, privateKey: pkcs8(key.privateKey), chain };
}

/**
 * The certification authority of this folder's local cloud, made on first use. It signs the TLS certificates of the
 * doubles and nothing else: gateways have roots of their own, as in the field.
 */
export async function developmentCa(
  directory: string | undefined,
): Promise<KeyedCertificate & { file: string | undefined }> {
  if (directory === undefined) return { ...(await newDevelopmentCa()), file: undefined };
  const file = join(directory, 'development-ca.pem');
  const keyFile = join(directory, 'development-ca.key');
  try {
    const certificate = readFileSync(file, 'utf8');
    return { certificate, privateKey: readFileSync(keyFile, 'utf8'), chain: certificate, file };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const made = await newDevelopmentCa();
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(keyFile, made.privateKey, { mode: 0o600 });
  writeFileSync(file, made.certificate);
  return { ...made, file };
}

function newDevelopmentCa(): Promise<KeyedCertificate> {
  return selfSigned({ commonName: 'Gatepost local development CA', notAfter: new Date(Date.now() + 3650 * day) });
}

interface KeyPair {
  privateKey: KeyObject;
  publicKey: KeyObject;
}

const generate = promisify(generateKeyPair);

/** In the background: an RSA key takes long enough to be noticed by everything else that a double does. */
function newKey(type: KeyType): Promise<KeyPair> {
  if (type === 'rsa-2048') return generate('rsa', { modulusLength: 2048 });
  return generate('ec', { namedCurve: type === 'ec-p256' ? 'P-256' : 'P-384' });
}

function pkcs8(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }) as string;
}

async function sign(
  options: CertificateOptions,
  subjectKey: KeyPair,
  issuerKey: KeyPair,
  issuerName: string,
  issuerCertificate?: x509.X509Certificate,
): Promise<string> {
  const isCa = options.ca !== undefined && options.ca !== false;
  const publicKey = await importKey(subjectKey.publicKey);
  const extensions: x509.Extension[] = [
    new x509.BasicConstraintsExtension(isCa, typeof options.ca === 'number' ? options.ca : undefined, true),
  ];
  const hasKeyIds = options.keyIdentifiers !== false;
  if (hasKeyIds) extensions.push(await x509.SubjectKeyIdentifierExtension.create(publicKey));
  const caUsages = x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign;
  const usages = isCa ? (options.keyUsages ?? caUsages) : (options.keyUsages ?? x509.KeyUsageFlags.digitalSignature);
  extensions.push(new x509.KeyUsagesExtension(usages, true));
  if (!isCa) {
    const extended = (options.usages ?? ['serverAuth']).map((usage) => usageOids[usage]);
    extensions.push(new x509.ExtendedKeyUsageExtension(extended));
  }
  if (options.names !== undefined && options.names.length > 0) {
    const names = options.names.map((value) => ({ type: isIP(value) ? ('ip' as const) : ('dns' as const), value }));
    extensions.push(new x509.SubjectAlternativeNameExtension(names));
  }
  if (issuerCertificate !== undefined && hasKeyIds) {
    extensions.push(await x509.AuthorityKeyIdentifierExtension.create(issuerCertificate.publicKey));
  }
  const signingKey = await importKey(issuerKey.privateKey);
  const subject = new x509.Name([{ CN: [options.commonName] }]);
  const made = await x509.X509CertificateGenerator.create({
    // A first byte of 40 keeps the number positive and of one length.
    serialNumber: `40${randomBytes(15).toString('hex')}`,
    subject: subject.toString(),
    issuer: issuerCertificate === undefined ? subject.toString() : issuerName,
    notBefore: options.notBefore ?? new Date(Date.now() - day),
    notAfter: options.notAfter ?? new Date(Date.now() + 365 * day),
    publicKey,
    signingKey,
    signingAlgorithm: { ...signingKey.algorithm, hash: 'SHA-256' },
    extensions,
  });
  return `${made.toString('pem')}\n`;
}

async function importKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const algorithm =
    key.asymmetricKeyType === 'rsa'
      ? { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
      : { name: 'ECDSA', namedCurve: key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'P-384' : 'P-256' };
  const der = key.export({ type: key.type === 'private' ? 'pkcs8' : 'spki', format: 'der' } as {
    type: 'spki';
    format: 'der';
  });
  const format = key.type === 'private' ? 'pkcs8' : 'spki';
  return await webcrypto.subtle.importKey(format, der, algorithm, true, [key.type === 'private' ? 'sign' : 'verify']);
}
