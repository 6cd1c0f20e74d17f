import { X509Certificate } from 'node:crypto';
import { fingerprint, isAnchor, subjectOf } from './certificates.ts';
import { parseConnectionString, parseGatewayAddress } from './connection-string.ts';
import { type DeviceErrorCode, GatepostDeviceError } from './errors.ts';

/** A root CA certificate that the device must trust. */
export interface TrustedRoot {
  /** Lower-case hexadecimal SHA-256 of the DER. */
  sha256: string;
  subject: string;
  notAfter: string;
  pem: string;
}

/** The set of roots that a device must trust now. */
export interface TrustBundle {
  /** Strictly increasing: a bundle with a lower sequence is an old one, or a replay. */
  sequence: number;
  refreshHintSeconds: number;
  roots: TrustedRoot[];
}

/** What a device needs to connect through its gateway: the answer of `POST /api/v1/join` and of `onboard`. */
export interface OnboardingDocument {
  device: { id: string; moduleId: string | null };
  hub: { hostname: string };
  gateway: {
    id: string;
    hostname: string;
    ports?: { mqtt?: number | null; amqp?: number | null; websocket?: number | null };
  };
  connectionString: string;
  /** When the credential ends, ISO 8601; null for one that does not. */
  expiresAt: string | null;
  trust: TrustBundle;
}

type Shape = Record<string, unknown>;

/**
 * Checks an onboarding document: its shape, that every root is what its fingerprint says and can anchor a chain, and
 * that the connection string agrees with the rest. Unknown fields are kept, so that a newer backend can say more.
 * Throws `document_invalid` or `root_not_anchor`; a message never quotes a secret.
 */
export function parseDocument(value: unknown): OnboardingDocument {
  const fail = (what: string) => new GatepostDeviceError('document_invalid', `The onboarding document ${what}.`);
  const document = object(value, 'is not a JSON object', fail);
  const device = object(document.device, 'has no device', fail);
  const hub = object(document.hub, 'has no hub', fail);
  const gateway = object(document.gateway, 'has no gateway', fail);
  for (const [name, text] of [
    ['device.id', device.id],
    ['hub.hostname', hub.hostname],
    ['gateway.id', gateway.id],
    ['gateway.hostname', gateway.hostname],
    ['connectionString', document.connectionString],
  ]) {
    if (typeof text !== 'string' || text === '') throw fail(`has no ${name}`);
  }
  if (device.moduleId !== null && device.moduleId !== undefined && typeof device.moduleId !== 'string') {
    throw fail('has a device.moduleId that is neither a string nor null');
  }
  checkPorts(gateway.ports, fail);
  const { expiresAt } = document;
  if (expiresAt !== null && expiresAt !== undefined && !isDate(expiresAt))
    throw fail('has an expiresAt that is no date');
  checkTrust(document.trust, 'document_invalid', 'The trust of the onboarding document');
  const checked = value as OnboardingDocument;
  checkAgreement(checked, fail);
  return checked;
}

/** Checks a trust bundle as `GET /api/v1/trust-bundle?format=json` serves it. Throws `bundle_invalid` or `root_not_anchor`. */
export function parseTrustBundle(value: unknown): TrustBundle {
  return checkTrust(value, 'bundle_invalid', 'The trust bundle');
}

/** Whether the pinned root is among the roots; its SHA-256 is computed from the certificate, not believed. */
export function containsRoot(bundle: TrustBundle, sha256: string): boolean {
  return bundle.roots.some((root) => fingerprint(new X509Certificate(root.pem)) === sha256);
}

/** All roots in one PEM text, each ending in a newline. */
export function rootsPem(bundle: TrustBundle): string {
  return bundle.roots.map((root) => `${root.pem.trim()}\n`).join('');
}

function checkTrust(value: unknown, code: DeviceErrorCode, name: string): TrustBundle {
  const fail = (what: string) => new GatepostDeviceError(code, `${name} ${what}.`);
  const bundle = object(value, 'is not a JSON object', fail);
  const { sequence, refreshHintSeconds, roots } = bundle;
  if (!Number.isSafeInteger(sequence) || (sequence as number) < 0) throw fail('has no sequence');
  if (refreshHintSeconds !== undefined && !(typeof refreshHintSeconds === 'number' && refreshHintSeconds >= 0)) {
    throw fail('has a refreshHintSeconds that is no number of seconds');
  }
  if (!Array.isArray(roots) || roots.length === 0) throw fail('has no roots');
  for (const root of roots) checkRoot(root, name, fail);
  return value as TrustBundle;
}

function checkRoot(value: unknown, name: string, fail: (what: string) => GatepostDeviceError): void {
  const root = object(value, 'has a root that is not an object', fail);
  if (typeof root.sha256 !== 'string' || typeof root.pem !== 'string') throw fail('has a root without sha256 and pem');
  if (root.pem.split('-----BEGIN').length !== 2) throw fail('has a root whose pem is not exactly one certificate');
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(root.pem);
  } catch {
    throw fail('has a root whose pem is not a certificate');
  }
  if (fingerprint(certificate) !== root.sha256.toLowerCase()) {
    throw fail(`has a root whose certificate does not have the fingerprint ${root.sha256} that stands beside it`);
  }
  if (!isAnchor(certificate)) {
    throw new GatepostDeviceError(
      'root_not_anchor',
      `${name} holds "${subjectOf(certificate)}", which is an intermediate and not a self-signed root CA: no client can trust a gateway by it. Hand out the root.`,
    );
  }
}

function checkAgreement(document: OnboardingDocument, fail: (what: string) => GatepostDeviceError): void {
  const parsed = parseConnectionString(document.connectionString);
  const differs = (name: string) => fail(`contradicts itself: its connection string has another ${name}`);
  if (parsed.deviceId !== document.device.id) throw differs('device id');
  if ((parsed.moduleId ?? null) !== (document.device.moduleId ?? null)) throw differs('module id');
  if (parsed.hub !== document.hub.hostname.toLowerCase()) throw differs('IoT Hub');
  const gateway = parseGatewayAddress(document.gateway.hostname);
  if (parsed.gateway.host !== gateway.host) throw differs('gateway host name');
  if (gateway.host === parsed.hub) throw fail('names the IoT Hub as its own gateway');
}

function checkPorts(value: unknown, fail: (what: string) => GatepostDeviceError): void {
  if (value === undefined || value === null) return;
  const ports = object(value, 'has gateway.ports that are not an object', fail);
  for (const name of ['mqtt', 'amqp', 'websocket']) {
    const port = ports[name];
    if (port === undefined || port === null) continue;
    if (!Number.isInteger(port) || (port as number) < 1 || (port as number) > 65_535) {
      throw fail(`has a gateway.ports.${name} that is no port`);
    }
  }
}

function object(value: unknown, what: string, fail: (what: string) => GatepostDeviceError): Shape {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw fail(what);
  return value as Shape;
}

function isDate(value: unknown): boolean {
  return typeof value === 'string' && !Number.isNaN(Date.parse(value));
}
