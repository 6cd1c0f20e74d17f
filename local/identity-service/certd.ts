import 'reflect-metadata';
import { createPrivateKey, type KeyObject, webcrypto, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { KeyStore } from './key-store.ts';
import { type Grant, isGranted } from './principals.ts';
import { type Call, fields, invalidParameter, ServiceError, type ServiceRoute, text } from './routing.ts';

/** How certificates of one id are issued: by a CA on this device. */
export interface LocalIssuer {
  /** PEM, the issuer first. */
  certificate: string;
  privateKey: string;
  expiryDays?: number;
}

export interface CertdContext {
  keys: KeyStore;
  /** PEM by id. */
  certificates: Map<string, string>;
  /** By certificate id. */
  issuance: Record<string, LocalIssuer>;
  grants(): readonly Grant[];
  now(): Date;
}

export const certdVersions = ['2020-09-01'] as const;

const dayMs = 86_400_000;

/** The Certificates Service: everybody who reaches the socket may read, writing is guarded by uid (cert/aziot-certd/src). */
export function certdRoutes(context: CertdContext): ServiceRoute[] {
  const authorized = (call: Call, id: string): string => {
    const isAllowed =
      call.uid === 0 || context.grants().some((grant) => grant.uid === call.uid && isGranted(grant.certs ?? [], id));
    if (isAllowed) return id;
    throw new ServiceError(401, `user ${call.uid} is not authorized to modify the cert ${id}`);
  };
  const { certificates } = context;
  return [
    {
      path: '/certificates',
      post: async (call) => {
        const { certId, csr, issuer } = fields(call, 'certId', 'csr', ...([] as 'issuer'[]));
        const id = authorized(call, text(call, certId));
        const pem = await issue(context, call, { id, csr: text(call, csr), issuer });
        certificates.set(id, pem);
        return { status: 201, body: { pem } };
      },
    },
    {
      path: '/certificates/{id}',
      get: (call) => {
        const pem = certificates.get(call.params.id ?? '');
        if (pem === undefined) throw invalidParameter('id', 'not found');
        return { status: 200, body: { pem } };
      },
      put: (call) => {
        const pem = text(call, fields(call, 'pem').pem);
        certificates.set(authorized(call, call.params.id ?? ''), pem);
        return { status: 201, body: { pem } };
      },
      delete: (call) => {
        certificates.delete(authorized(call, call.params.id ?? ''));
        return { status: 204 };
      },
    },
  ];
}

async function issue(
  context: CertdContext,
  call: Call,
  asked: { id: string; csr: string; issuer: unknown },
): Promise<string> {
  const csr = await readCsr(asked.csr);
  const issuer = asked.issuer === undefined ? context.issuance[asked.id] : issuerOf(context, call, asked.issuer);
  // Why it could not be issued is said in the log alone.
  if (issuer === undefined) throw new ServiceError(500, 'internal error');
  const parent = new X509Certificate(issuer.certificate);
  const signingKey = await importSigningKey(issuer.privateKey);
  const now = context.now();
  const lifeEnd = new Date(now.getTime() + (issuer.expiryDays ?? 30) * dayMs);
  const parentEnd = new Date(parent.validTo);
  const made = await x509.X509CertificateGenerator.create({
    subject: csr.subject,
    issuer: new x509.X509Certificate(issuer.certificate).subject,
    notBefore: now,
    notAfter: lifeEnd < parentEnd ? lifeEnd : parentEnd,
    publicKey: csr.publicKey,
    signingKey,
    signingAlgorithm: { ...signingKey.algorithm, hash: 'SHA-256' },
    // What the request asks for is given, as it is.
    extensions: [...csr.extensions, await x509.SubjectKeyIdentifierExtension.create(csr.publicKey)],
  });
  return `${made.toString('pem')}\n${issuer.certificate}`;
}

async function readCsr(pem: string): Promise<x509.Pkcs10CertificateRequest> {
  let csr: x509.Pkcs10CertificateRequest;
  try {
    if (!pem.includes('-----BEGIN')) throw new Error('PEM lib:get_name:no start line');
    csr = new x509.Pkcs10CertificateRequest(pem);
  } catch (error) {
    throw invalidParameter('csr', error instanceof Error ? error.message : String(error));
  }
  if (await csr.verify()) return csr;
  throw invalidParameter('csr', 'CSR failed to be verified with its public key');
}

function issuerOf(
  context: CertdContext,
  call: Call,
  given: unknown,
): { certificate: string; privateKey: KeyObject; expiryDays?: number } {
  const { certId, privateKeyHandle } = fields({ ...call, body: given }, 'certId', 'privateKeyHandle');
  const certificate = context.certificates.get(text(call, certId));
  if (certificate === undefined) throw invalidParameter('issuer.certId', 'not found');
  return { certificate, privateKey: context.keys.pair(text(call, privateKeyHandle)) };
}

async function importSigningKey(given: string | KeyObject): Promise<webcrypto.CryptoKey> {
  const key = typeof given === 'string' ? createPrivateKey(given) : given;
  const algorithm =
    key.asymmetricKeyType === 'rsa'
      ? { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' }
      : { name: 'ECDSA', namedCurve: key.export({ format: 'jwk' }).crv ?? 'P-256' };
  const der = key.export({ type: 'pkcs8', format: 'der' });
  return await webcrypto.subtle.importKey('pkcs8', der, algorithm, false, ['sign']);
}
