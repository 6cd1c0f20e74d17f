import type { KeyObject, X509Certificate } from 'node:crypto';
import { pem, pkcs12 } from './certificate-content.ts';
import { keyUsages } from './certificate-making.ts';
import { readFlag, readNumber, readObject, readText, readTexts } from './checks.ts';
import { badParameter } from './errors.ts';
import { publicJwk } from './key-material.ts';

/** A certificate's policy, as the wire has it (Key Vault REST API, CertificatePolicy). */
export interface CertificatePolicy {
  key_props: { exportable: boolean; kty: string; key_size?: number; crv?: string; reuse_key: boolean };
  secret_props: { contentType: string };
  x509_props: {
    subject: string;
    sans?: Record<string, string[]>;
    ekus?: string[];
    key_usage?: string[];
    validity_months: number;
    /** Answered, never taken: the public policy has no such field. */
    basic_constraints: { ca: boolean };
  };
  issuer: { name: string };
  lifetime_actions: unknown[];
  attributes: { enabled: boolean; created: number; updated: number };
}

const defaults = { validityMonths: 12, rsaBits: 2048, curve: 'P-256' };

/** Reads the policy of a creation: what is left out takes the service's default, or `base`'s value. */
export function readPolicy(raw: Record<string, unknown>, now: number, base?: CertificatePolicy): CertificatePolicy {
  const names = readObject(raw, 'x509_props');
  // Without an issuer the certificate is made by hand (Monitor and manage certificate creation, Key Vault documentation).
  const issuer = readText(readObject(raw, 'issuer') ?? {}, 'name') ?? base?.issuer.name ?? 'Unknown';
  return {
    key_props: readKeyProperties(readObject(raw, 'key_props') ?? {}, base),
    secret_props: { contentType: readContentType(raw) ?? base?.secret_props.contentType ?? pkcs12 },
    x509_props: names === undefined && base !== undefined ? base.x509_props : readNames(names ?? {}, base),
    issuer: { name: issuer },
    lifetime_actions: readLifetimeActions(raw) ?? base?.lifetime_actions ?? defaultActions(issuer),
    attributes: { enabled: true, created: base?.attributes.created ?? now, updated: now },
  };
}

/** The policy of an import: names, key and validity are the certificate's own. */
export function importPolicy(
  raw: Record<string, unknown>,
  key: KeyObject,
  certificate: X509Certificate,
  now: number,
): CertificatePolicy {
  const { kty, crv } = publicJwk(key);
  const wanted = readObject(raw, 'key_props') ?? {};
  const months = (certificate.validToDate.getTime() - certificate.validFromDate.getTime()) / (30.44 * 86_400_000);
  const dns = [...(certificate.subjectAltName ?? '').matchAll(/DNS:([^,\s]+)/g)].map((found) => found[1] ?? '');
  return {
    key_props: {
      exportable: readFlag(wanted, 'exportable') ?? true,
      kty: String(kty),
      ...(crv === undefined ? { key_size: key.asymmetricKeyDetails?.modulusLength ?? 0 } : { crv: String(crv) }),
      reuse_key: readFlag(wanted, 'reuse_key') ?? false,
    },
    secret_props: { contentType: readContentType(raw) ?? pkcs12 },
    x509_props: {
      subject: certificate.subject.split('\n').join(', '),
      ...(dns.length > 0 ? { sans: { dns_names: dns } } : {}),
      ...(certificate.keyUsage === undefined ? {} : { ekus: certificate.keyUsage }),
      key_usage: keyUsages(certificate.raw),
      validity_months: Math.max(1, Math.ceil(months)),
      basic_constraints: { ca: certificate.ca },
    },
    issuer: { name: readText(readObject(raw, 'issuer') ?? {}, 'name') ?? 'Unknown' },
    lifetime_actions: readLifetimeActions(raw) ?? defaultActions('Unknown'),
    attributes: { enabled: true, created: now, updated: now },
  };
}

export function readContentType(raw: Record<string, unknown>): string | undefined {
  const contentType = readText(readObject(raw, 'secret_props') ?? {}, 'contentType');
  if (contentType !== undefined && contentType !== pem && contentType !== pkcs12) {
    throw badParameter(`Property policy.secret_props.contentType has invalid value: '${contentType}'.`);
  }
  return contentType;
}

function readKeyProperties(raw: Record<string, unknown>, base?: CertificatePolicy): CertificatePolicy['key_props'] {
  const kty = readText(raw, 'kty') ?? base?.key_props.kty ?? 'RSA';
  const size = readNumber(raw, 'key_size') ?? base?.key_props.key_size ?? defaults.rsaBits;
  const curve = readText(raw, 'crv') ?? base?.key_props.crv ?? defaults.curve;
  // The key of a certificate signs its own request, for which there is no registered algorithm on this curve here.
  if (curve === 'P-256K' && kty === 'EC') throw badParameter("Property crv has invalid value: 'P-256K'.");
  return {
    exportable: readFlag(raw, 'exportable') ?? base?.key_props.exportable ?? true,
    kty,
    ...(kty.startsWith('EC') ? { crv: curve } : { key_size: size }),
    reuse_key: readFlag(raw, 'reuse_key') ?? base?.key_props.reuse_key ?? false,
  };
}

function readNames(raw: Record<string, unknown>, base?: CertificatePolicy): CertificatePolicy['x509_props'] {
  const given = readObject(raw, 'sans') ?? {};
  const sans: Record<string, string[]> = {};
  for (const kind of ['dns_names', 'emails', 'upns', 'uris', 'ipAddresses']) {
    const values = readTexts(given, kind);
    if (values !== undefined && values.length > 0) sans[kind] = values;
  }
  const subject = readText(raw, 'subject') ?? base?.x509_props.subject ?? '';
  if (subject === '' && Object.keys(sans).length === 0) {
    throw badParameter(
      'Property policy.x509_props has invalid value: a subject or a subject alternative name is needed.',
    );
  }
  const months = readNumber(raw, 'validity_months') ?? base?.x509_props.validity_months ?? defaults.validityMonths;
  if (months < 1) throw badParameter(`Property validity_months has invalid value: ${months}.`);
  return {
    subject,
    sans,
    ekus: readTexts(raw, 'ekus') ?? base?.x509_props.ekus ?? ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'],
    key_usage: readTexts(raw, 'key_usage') ?? base?.x509_props.key_usage ?? ['digitalSignature', 'keyEncipherment'],
    validity_months: months,
    basic_constraints: { ca: false },
  };
}

function readLifetimeActions(raw: Record<string, unknown>): unknown[] | undefined {
  const actions = raw.lifetime_actions;
  if (actions === undefined || actions === null) return undefined;
  if (!Array.isArray(actions)) throw badParameter('Property policy.lifetime_actions has invalid value');
  return actions;
}

/** A certificate that the vault can make again is renewed, for any other people are told. */
function defaultActions(issuer: string): unknown[] {
  const type = issuer === 'Self' ? 'AutoRenew' : 'EmailContacts';
  return [{ trigger: { lifetime_percentage: 80 }, action: { action_type: type } }];
}
