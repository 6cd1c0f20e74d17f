import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as x509 from '@peculiar/x509';
import { issue, type KeyedCertificate, selfSigned } from '../kit/certificates.ts';
import { StateFile } from '../kit/state-file.ts';
import { badCertificate, type CertificateFault } from './bad-certificates.ts';

const day = 86_400_000;
const edgeCaDays = 90;
const serverDays = 30;

interface StoredPki {
  root: KeyedCertificate;
  edgeCa: KeyedCertificate;
}

/** A gateway's certificates: root, Edge CA, and the server certificates that edgeHub asks for at each start. */
export interface GatewayPki {
  root: string;
  rootFile: string | undefined;
  /** The CA that the gateway's own modules and, in nested setups, its children trust; part of edgeHub's trust bundle. */
  edgeCa: string;
  /** A new server certificate with a new key; its chain ends below the root. */
  serverCertificate(): Promise<KeyedCertificate>;
  /** A server certificate that has something wrong. */
  badCertificate(fault: CertificateFault): Promise<KeyedCertificate>;
}

/** Makes the PKI of a gateway, or takes up the one that `directory` holds. */
export async function openPki(directory: string | undefined, gatewayId: string, hostname: string): Promise<GatewayPki> {
  const file: StateFile<StoredPki> = new StateFile(directory && join(directory, 'pki.json'), () => pki);
  const stored = file.read();
  const root: KeyedCertificate = stored?.root ?? (await newRoot(gatewayId));
  const isFresh = stored !== undefined && remaining(stored.edgeCa) > edgeCaDays * day * 0.2;
  const pki: StoredPki = { root, edgeCa: isFresh ? stored.edgeCa : await newEdgeCa(root, gatewayId) };
  file.flush();
  return {
    root: root.certificate,
    rootFile: writeRoot(directory, root.certificate),
    edgeCa: pki.edgeCa.certificate,
    serverCertificate: () => newServerCertificate(pki.edgeCa, hostname),
    badCertificate: (fault) =>
      badCertificate({ ...pki, rootName: rootName(gatewayId), edgeCaName: edgeCaName(gatewayId) }, hostname, fault),
  };
}

function writeRoot(directory: string | undefined, pem: string): string | undefined {
  if (directory === undefined) return undefined;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const file = join(directory, 'root.pem');
  writeFileSync(file, pem);
  return file;
}

function rootName(gatewayId: string): string {
  return `Gatepost local root of ${gatewayId}`;
}

function edgeCaName(gatewayId: string): string {
  return `aziot-edge CA ${gatewayId}`;
}

function newRoot(gatewayId: string): Promise<KeyedCertificate> {
  return selfSigned({
    commonName: rootName(gatewayId),
    keyType: 'rsa-2048',
    notAfter: new Date(Date.now() + 3650 * day),
  });
}

/**
 * The name must differ from the host name, and path length 0 is enough: edgeHub's certificate is the only thing below
 * (learn.microsoft.com/azure/iot-edge, "iot-edge-certs"; Azure/iotedge, tools/CACertificates/certGen.sh).
 */
function newEdgeCa(root: KeyedCertificate, gatewayId: string): Promise<KeyedCertificate> {
  return issue(root, {
    commonName: edgeCaName(gatewayId),
    ca: 0,
    keyType: 'rsa-2048',
    keyUsages: x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyCertSign,
    notAfter: new Date(Date.now() + edgeCaDays * day),
  });
}

/**
 * As edged makes it from edgeHub's request: the host name and the module's id as alternative names, a new RSA key each
 * time, 30 days at most (Azure/iotedge, edgelet edgelet-http-workload, module/cert/server.rs).
 */
function newServerCertificate(edgeCa: KeyedCertificate, hostname: string): Promise<KeyedCertificate> {
  return issue(edgeCa, {
    commonName: hostname,
    names: [hostname, 'edgeHub'],
    keyType: 'rsa-2048',
    usages: ['serverAuth'],
    notAfter: new Date(Date.now() + Math.min(serverDays * day, remaining(edgeCa))),
  });
}

function remaining(certificate: KeyedCertificate): number {
  return new X509Certificate(certificate.certificate).validToDate.getTime() - Date.now();
}
