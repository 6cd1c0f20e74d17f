import { createHmac, timingSafeEqual } from 'node:crypto';

/** A SAS token as edgeHub reads it. */
export interface SasToken {
  /** `sr` as it was sent, still percent-encoded: the signature covers these characters. */
  rawAudience: string;
  audience: string;
  /** Base64. */
  signature: string;
  /** Seconds since 1970. */
  expiry: number;
}

/**
 * Reads a token by edgeHub's rules; undefined where it does not read as one. Fields are split at *every* `=` and the
 * second part is taken, so a signature whose padding is not written `%3D` loses it and never verifies
 * (Azure/iotedge, edge-util SharedAccessSignature.cs, ExtractFieldValues).
 */
export function parseSasToken(text: string): SasToken | undefined {
  const [scheme, fields, ...others] = text.trim().split(/\s+/);
  if (scheme !== 'SharedAccessSignature' || fields === undefined || others.length > 0) return undefined;
  const values = new Map<string, string>();
  for (const field of fields.split('&')) {
    const [name, value] = field.split('=');
    if (name !== undefined && value !== undefined) values.set(name.toLowerCase(), value);
  }
  const rawAudience = values.get('sr');
  const audience = urlDecode(rawAudience);
  const signature = urlDecode(values.get('sig'));
  const expiry = urlDecode(values.get('se'));
  if (!rawAudience || !audience || !signature || expiry === undefined || !/^\d+$/.test(expiry)) return undefined;
  return { rawAudience, audience, signature, expiry: Number(expiry) };
}

/** Whether the token was signed with this base64 key. */
export function isSignedBy(token: SasToken, key: string | undefined): boolean {
  if (!key) return false;
  const expected = Buffer.from(sign(token.rawAudience, String(token.expiry), key));
  const given = Buffer.from(token.signature);
  return expected.length === given.length && timingSafeEqual(expected, given);
}

/** Makes a token for `audience`, such as `hub/devices/id`, that expires at `expiry` (seconds since 1970). */
export function makeSasToken(audience: string, key: string, expiry: number, policy?: string): string {
  const rawAudience = encodeURIComponent(audience);
  const signature = encodeURIComponent(sign(rawAudience, String(expiry), key));
  const token = `SharedAccessSignature sr=${rawAudience}&sig=${signature}&se=${expiry}`;
  return policy === undefined ? token : `${token}&skn=${policy}`;
}

function sign(rawAudience: string, expiry: string, key: string): string {
  return createHmac('sha256', Buffer.from(key, 'base64')).update(`${rawAudience}\n${expiry}`).digest('base64');
}

/** As .NET's WebUtility.UrlDecode: a `+` is a space. */
function urlDecode(value: string | undefined): string | undefined {
  try {
    return value === undefined ? undefined : decodeURIComponent(value.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}
