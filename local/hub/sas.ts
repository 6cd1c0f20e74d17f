import { createHmac, timingSafeEqual } from 'node:crypto';

/** A shared access signature as it came. */
export interface SasToken {
  /** `sr` as it was signed, not decoded. */
  signedResource: string;
  /** `sr` decoded: `{hub}`, `{hub}/devices/{id}`, ... */
  resource: string;
  signature: string;
  /** Seconds since 1970. */
  expiry: number;
  policy: string | undefined;
}

/** Reads `SharedAccessSignature sr=...&sig=...&se=...[&skn=...]`; undefined where it does not read as one. */
export function parseSas(text: string | undefined): SasToken | undefined {
  const scheme = 'SharedAccessSignature ';
  if (text === undefined || !text.startsWith(scheme)) return undefined;
  const raw = new Map<string, string>();
  for (const field of text.slice(scheme.length).trim().split('&')) {
    const equals = field.indexOf('=');
    if (equals > 0) raw.set(field.slice(0, equals), field.slice(equals + 1));
  }
  const signedResource = raw.get('sr');
  const resource = decode(signedResource);
  const signature = decode(raw.get('sig'));
  const expiry = raw.get('se');
  if (!signedResource || !resource || !signature || expiry === undefined || !/^\d+$/.test(expiry)) return undefined;
  return { signedResource, resource, signature, expiry: Number(expiry), policy: decode(raw.get('skn')) || undefined };
}

/** True where the token is signed with one of `keys` and has not expired. */
export function isGenuine(token: SasToken, keys: readonly (string | null)[], now: Date): boolean {
  if (token.expiry * 1000 <= now.getTime()) return false;
  const given = Buffer.from(token.signature, 'base64');
  return keys.some((key) => {
    if (key === null) return false;
    const hmac = createHmac('sha256', Buffer.from(key, 'base64'));
    const made = hmac.update(`${token.signedResource}\n${token.expiry}`).digest();
    return made.length === given.length && timingSafeEqual(made, given);
  });
}

/**
 * True where a token for `resource` reaches `{hostname}{path}`: it is a prefix by segment, the host compared without
 * case (learn.microsoft.com, *Control access to IoT Hub by using shared access signatures*: "URI prefix (by segment)").
 */
export function covers(resource: string, hostname: string, path: string): boolean {
  const [host = '', ...prefix] = resource.replace(/\/$/, '').split('/');
  if (host.toLowerCase() !== hostname.toLowerCase()) return false;
  const segments = path.split('/').slice(1);
  return prefix.every((segment, index) => segment === segments[index]);
}

function decode(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  try {
    // Form encoding, as the service decodes it: a plus sign that was not escaped is a space.
    return decodeURIComponent(value.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}
