import { badParameter } from './errors.ts';

/** What a caller may say about a version of an object. Times are seconds since 1970. */
export interface GivenAttributes {
  enabled?: boolean;
  nbf?: number;
  exp?: number;
}

const maxTags = 15;
const maxTagLength = 256;
const maxContentType = 255;
const maxSecret = 25_600;

/** Object names: letters, digits and hyphens (About keys, secrets, and certificates, Object identifiers). */
export function checkName(name: string): void {
  if (!/^[0-9a-zA-Z-]{1,127}$/.test(name)) throw badParameter(`The request URI contains an invalid name: ${name}`);
}

export function readObject(holder: Record<string, unknown>, field: string): Record<string, unknown> | undefined {
  const value = holder[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'object' || Array.isArray(value)) throw badParameter(`Property ${field} has invalid value`);
  return value as Record<string, unknown>;
}

export function readText(holder: Record<string, unknown>, field: string): string | undefined {
  const value = holder[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw badParameter(`Property ${field} has invalid value`);
  return value;
}

export function readNumber(holder: Record<string, unknown>, field: string): number | undefined {
  const value = holder[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number' || !Number.isInteger(value)) throw badParameter(`Property ${field} has invalid value`);
  return value;
}

export function readFlag(holder: Record<string, unknown>, field: string): boolean | undefined {
  const value = holder[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'boolean') throw badParameter(`Property ${field} has invalid value`);
  return value;
}

export function readTexts(holder: Record<string, unknown>, field: string): string[] | undefined {
  const value = holder[field];
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value) || value.some((item) => typeof item !== 'string')) {
    throw badParameter(`Property ${field} has invalid value`);
  }
  return value as string[];
}

export function readAttributes(body: Record<string, unknown>): GivenAttributes {
  const given = readObject(body, 'attributes') ?? {};
  const enabled = readFlag(given, 'enabled');
  const nbf = readNumber(given, 'nbf');
  const exp = readNumber(given, 'exp');
  return {
    ...(enabled === undefined ? {} : { enabled }),
    ...(nbf === undefined ? {} : { nbf }),
    ...(exp === undefined ? {} : { exp }),
  };
}

/** At most 15 tags, names and values of at most 256 characters each. */
export function readTags(body: Record<string, unknown>): Record<string, string> | undefined {
  const tags = readObject(body, 'tags');
  if (tags === undefined) return undefined;
  const entries = Object.entries(tags);
  if (entries.length > maxTags) {
    throw badParameter(`The number of tags (${entries.length}) exceeds the maximum of ${maxTags}.`);
  }
  for (const [name, value] of entries) {
    if (typeof value !== 'string') throw badParameter('Property tags has invalid value');
    if (name.length > maxTagLength || value.length > maxTagLength) {
      throw badParameter(`A tag's name and value must each be at most ${maxTagLength} characters.`);
    }
  }
  return tags as Record<string, string>;
}

export function readContentType(body: Record<string, unknown>): string | undefined {
  const contentType = readText(body, 'contentType');
  if (contentType !== undefined && contentType.length > maxContentType) {
    throw badParameter(`Property contentType must be at most ${maxContentType} characters.`);
  }
  return contentType;
}

/** Azure/azure-cli issue 5639 shows the message. */
export function readSecretValue(body: Record<string, unknown>): string {
  const value = readText(body, 'value');
  if (value === undefined) throw badParameter('Property value has invalid value');
  if (value.length > maxSecret) {
    throw badParameter(`Secret is beyond the maximum permitted length of ${maxSecret} characters.`);
  }
  return value;
}
