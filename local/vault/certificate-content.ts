import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { badParameter } from './errors.ts';
import { checkSupported, toPkcs8 } from './key-material.ts';
import { readPfx, writePfx } from './pfx.ts';

export const pkcs12 = 'application/x-pkcs12';
export const pem = 'application/x-pem-file';

/** A certificate with its key, and the certificates that came along, all as DER. */
export interface KeyedContent {
  privateKey: KeyObject;
  certificate: X509Certificate;
  chain: Buffer[];
}

interface Parts {
  keys: KeyObject[];
  certificates: Buffer[];
}

/** The service's words: Azure/azure-sdk-for-java issue 31997, Azure/azure-sdk-for-net issue 26492. */
const noKey =
  'No certificate with private key found in the specified X.509 certificate content. Please specify X.509 certificate content with only one certificate containing private key.';
/** Azure/azure-cli issue 19017, where the cause is a PKCS#1 key. */
const unexpectedPem =
  'The specified PEM X.509 certificate content is in an unexpected format. Please check if certificate is in valid PEM format.';
/** Azure-Samples/ms-identity-python-daemon issue 21. */
const unreadablePem =
  'The specified PEM X.509 certificate content can not be read. Please check if certificate is in valid PEM format. Accepted formats: PEM content or Base64 encoded PEM content.';
/** damienbod/AspNetCoreCertificates issue 38. */
const unreadablePfx =
  'The specified PKCS#12 X.509 certificate content can not be read. Please check if certificate is in valid PKCS#12 format.';

export const keyMismatch =
  'The public key of the end-entity certificate in the specified X.509 certificate content does not match the public part of the specified private key. Please check if certificate is valid.';

/** Reads what a caller imports. Only a certificate that comes with its private key is taken. */
export function readContent(value: string, password: string | undefined, contentType: string): KeyedContent {
  const { keys, certificates } = contentType === pem ? readPem(value) : readPfxText(value, password);
  const [privateKey] = keys;
  if (privateKey === undefined || certificates.length === 0 || keys.length > 1) throw badParameter(noKey);
  const parsed = certificates.map((der) => parseCertificate(der, contentType === pem ? unreadablePem : unreadablePfx));
  const certificate = parsed.find((candidate) => candidate.checkPrivateKey(privateKey));
  if (certificate === undefined) throw badParameter(keyMismatch);
  const chain = parsed.filter((other) => other !== certificate).map((other) => other.raw);
  return { privateKey: checkSupported(privateKey), certificate, chain };
}

/** What the secret behind a certificate holds; without the key where that may not leave the vault. */
export function writeContent(contentType: string, key: KeyObject | undefined, certificates: Buffer[]): string {
  if (contentType === pkcs12) return writePfx(key, certificates).toString('base64');
  const blocks = certificates.map((der) => `${new X509Certificate(der).toString().trim()}\n`);
  return [...(key === undefined ? [] : [toPkcs8(key)]), ...blocks].join('');
}

export function parseCertificate(der: Buffer, otherwise: string): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch {
    throw badParameter(otherwise);
  }
}

function readPem(value: string): Parts {
  const text = value.includes('-----BEGIN') ? value : Buffer.from(value, 'base64').toString('latin1');
  const blocks = [...text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----([\sA-Za-z0-9+/=]+)-----END \1-----/g)];
  if (blocks.length === 0) throw badParameter(unreadablePem);
  // What begins and is no block has lines that PEM does not have, such as the headers of an old encrypted key.
  if (text.split('-----BEGIN ').length - 1 !== blocks.length) throw badParameter(unexpectedPem);
  const parts: Parts = { keys: [], certificates: [] };
  for (const [, label, content] of blocks) {
    const der = Buffer.from(content ?? '', 'base64');
    if (label === 'CERTIFICATE') parts.certificates.push(der);
    else if (label === 'PRIVATE KEY') parts.keys.push(readPkcs8(der));
    else throw badParameter(unexpectedPem);
  }
  return parts;
}

function readPkcs8(der: Buffer): KeyObject {
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } catch {
    throw badParameter(unexpectedPem);
  }
}

function readPfxText(value: string, password: string | undefined): Parts {
  if (!/^[\sA-Za-z0-9+/=]+$/.test(value)) throw badParameter(unreadablePfx);
  try {
    return readPfx(Buffer.from(value, 'base64'), password);
  } catch {
    throw badParameter(unreadablePfx);
  }
}
