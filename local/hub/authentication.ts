import { randomBytes } from 'node:crypto';
import { HubError } from './errors.ts';
import type { Authentication } from './model.ts';

type Given = Record<string, unknown>;

/**
 * The authentication that an identity is stored with, from what a request gives. Keys that are missing or empty are
 * generated, both or none (azure-iot-sdk-csharp `RegistryManager.ValidateDeviceAuthentication`: "either both keys should
 * be specified or neither").
 */
export function readAuthentication(given: unknown, allowNone: boolean): Authentication {
  const authentication = objectOrEmpty(given, 'authentication');
  const keys = objectOrEmpty(authentication.symmetricKey, 'symmetricKey');
  const thumbprints = objectOrEmpty(authentication.x509Thumbprint, 'x509Thumbprint');
  const type = authentication.type ?? (hasText(thumbprints.primaryThumbprint) ? 'selfSigned' : 'sas');
  switch (type) {
    case 'sas':
      return { ...empty('sas'), symmetricKey: readKeys(keys) };
    case 'selfSigned':
      return { ...empty('selfSigned'), x509Thumbprint: readThumbprints(thumbprints) };
    case 'certificateAuthority':
      return empty('certificateAuthority');
    case 'none':
      if (allowNone) return empty('none');
      break;
  }
  throw new HubError('ArgumentInvalid', `The authentication type '${String(type)}' is not valid.`);
}

export function generatedKeys(): Authentication {
  return { ...empty('sas'), symmetricKey: { primaryKey: newKey(), secondaryKey: newKey() } };
}

function empty(type: Authentication['type']): Authentication {
  return {
    type,
    symmetricKey: { primaryKey: null, secondaryKey: null },
    x509Thumbprint: { primaryThumbprint: null, secondaryThumbprint: null },
  };
}

function readKeys(keys: Given): Authentication['symmetricKey'] {
  const { primaryKey, secondaryKey } = keys;
  if (!hasText(primaryKey) && !hasText(secondaryKey)) return generatedKeys().symmetricKey;
  if (!isKey(primaryKey) || !isKey(secondaryKey)) {
    throw new HubError(
      'ArgumentInvalid',
      'Device keys are invalid: both must be base64 of 16 to 64 bytes, or both empty.',
    );
  }
  return { primaryKey, secondaryKey };
}

function readThumbprints(thumbprints: Given): Authentication['x509Thumbprint'] {
  const primary = thumbprints.primaryThumbprint ?? '';
  const secondary = thumbprints.secondaryThumbprint ?? '';
  if (!hasText(primary) && !hasText(secondary)) {
    throw new HubError('ArgumentInvalid', 'Both thumbprints of a self-signed device are empty.');
  }
  for (const thumbprint of [primary, secondary]) {
    // SHA-1 or SHA-256 in hexadecimal.
    if (thumbprint !== '' && !/^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$/.test(String(thumbprint))) {
      throw new HubError('ArgumentInvalid', `The thumbprint '${String(thumbprint)}' is not valid.`);
    }
  }
  return { primaryThumbprint: String(primary) || null, secondaryThumbprint: String(secondary) || null };
}

function newKey(): string {
  return randomBytes(32).toString('base64');
}

function isKey(key: unknown): key is string {
  if (typeof key !== 'string' || !/^[A-Za-z0-9+/]+={0,2}$/.test(key) || key.length % 4 !== 0) return false;
  const bytes = Buffer.from(key, 'base64').length;
  return bytes >= 16 && bytes <= 64;
}

function hasText(value: unknown): boolean {
  return value !== undefined && value !== null && value !== '';
}

function objectOrEmpty(value: unknown, name: string): Given {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw new HubError('ArgumentInvalid', `${name} is no object.`);
  return value as Given;
}
