import { createHmac } from 'node:crypto';

/** A SAS token as edgeHub reads it. */
export interface SasToken {
  /** Decoded: `hub/devices/id[/modules/id]`. */
  resource: string;
  expiresAt: Date;
  /** The policy of the hub that signed it; undefined where a device did. */
  policy: string | undefined;
  /** Whether edgeHub gets the signature as it was sent: it splits a field at every `=` and takes a `+` for a space. */
  isEncoded: boolean;
}

/** Reads a token leniently, so that more than "it does not read" can be said of it. */
export function readSasToken(text: string): SasToken | undefined {
  const [scheme, query = ''] = text.trim().split(/\s+/);
  const fields = new Map(
    query.split('&').map((field): [string, string] => {
      const at = field.indexOf('=');
      return [field.slice(0, Math.max(at, 0)), field.slice(at + 1)];
    }),
  );
  const [resource, signature, expiry] = [fields.get('sr'), fields.get('sig'), fields.get('se')];
  if (scheme !== 'SharedAccessSignature' || !resource || !signature || !expiry || !/^\d{1,12}$/.test(expiry)) {
    return undefined;
  }
  return {
    resource: decoded(resource),
    expiresAt: new Date(Number(expiry) * 1000),
    policy: fields.get('skn') || undefined,
    isEncoded: !/[=+]/.test(signature),
  };
}

/** Signs a token with the identity's own key, valid until `expiresAt`. */
export function signSasToken(resource: string, key: string, expiresAt: Date): string {
  const sr = encodeURIComponent(resource);
  const se = Math.floor(expiresAt.getTime() / 1000);
  const signature = createHmac('sha256', Buffer.from(key, 'base64')).update(`${sr}\n${se}`).digest('base64');
  return `SharedAccessSignature sr=${sr}&sig=${encodeURIComponent(signature)}&se=${se}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
