import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import forge from 'node-forge';
import { issue, type KeyedCertificate, selfSigned } from '../../local/kit/certificates.ts';

const day = 86_400_000;
let made = 0;

/** A subject that no other certificate of this process has. */
export function uniqueName(what = 'Test root'): string {
  made += 1;
  return `${what} ${process.pid}-${made}`;
}

/** A root that breaks no rule. */
export function goodRoot(commonName = uniqueName()): Promise<KeyedCertificate> {
  return selfSigned({ commonName });
}

/** Roots that each break one rule, named after the problem code that they deserve. */
export const badRoots = {
  root_not_ca: () => selfSigned({ commonName: uniqueName(), ca: false }),
  root_cannot_sign: () =>
    selfSigned({
      commonName: uniqueName(),
      keyUsages: x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.cRLSign,
    }),
  root_not_self_signed: async () => issue(await goodRoot(), { commonName: uniqueName('Intermediate'), ca: true }),
  root_expired: () =>
    selfSigned({
      commonName: uniqueName(),
      notBefore: new Date(Date.now() - 10 * day),
      notAfter: new Date(Date.now() - day),
    }),
  root_not_yet_valid: () =>
    selfSigned({
      commonName: uniqueName(),
      notBefore: new Date(Date.now() + day),
      notAfter: new Date(Date.now() + 10 * day),
    }),
  root_weak_algorithm: () => rsaRoot(1024, 'SHA-256'),
} satisfies Record<string, () => Promise<{ certificate: string }>>;

/** A self-signed CA with an RSA key of any size, over any digest. */
export async function rsaRoot(
  modulusLength: number,
  hash: string,
): Promise<{ certificate: string; privateKey: string; commonName: string }> {
  const algorithm = { name: 'RSASSA-PKCS1-v1_5', hash, modulusLength, publicExponent: new Uint8Array([1, 0, 1]) };
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const commonName = uniqueName();
  x509.cryptoProvider.set(webcrypto as never);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${commonName}`,
    notBefore: new Date(Date.now() - day),
    notAfter: new Date(Date.now() + 365 * day),
    keys,
    signingAlgorithm: algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    ],
  });
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  const privateKey = `-----BEGIN PRIVATE KEY-----\n${pkcs8.replace(/.{64}/g, '$&\n')}\n-----END PRIVATE KEY-----\n`;
  return { certificate: `${certificate.toString('pem')}\n`, privateKey, commonName };
}

/** A PFX as `openssl pkcs12 -export` makes it, in base64. The key must be RSA. */
export function pfxOf(
  { certificate, privateKey }: { certificate?: string; privateKey: string },
  password: string,
  algorithm: 'aes256' | '3des' = 'aes256',
): string {
  const key = forge.pki.privateKeyFromPem(privateKey);
  // Its types do not say so, but null is how forge is told of no certificate.
  const none = null as unknown as forge.pki.Certificate[];
  const certificates = certificate === undefined ? none : [forge.pki.certificateFromPem(certificate)];
  const asn1 = forge.pkcs12.toPkcs12Asn1(key, certificates, password, { algorithm });
  return Buffer.from(forge.asn1.toDer(asn1).getBytes(), 'binary').toString('base64');
}
