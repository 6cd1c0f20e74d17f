import { createHmac } from 'node:crypto';
import type { Redacted } from '../redacted.ts';

export interface SasTokenOptions {
  /** The hub's host name: what the token is for, through a gateway too. */
  hubHostname: string;
  deviceId: string;
  moduleId?: string | null;
  /** Of the identity itself, base64: edgeHub refuses tokens of a hub policy (DeviceScopeTokenAuthenticator). */
  key: Redacted;
  /** Seconds since 1970. */
  expiry: number;
}

/** Signs a SAS token as azure-iot-device does: the resource url-encoded, in the text that is signed as in `sr`. */
export function signSasToken(options: SasTokenOptions): string {
  const { hubHostname, deviceId, moduleId, key, expiry } = options;
  const path = moduleId ? `${deviceId}/modules/${moduleId}` : deviceId;
  const resource = encodeStrictly(`${hubHostname}/devices/${path}`);
  const mac = createHmac('sha256', Buffer.from(key.reveal(), 'base64')).update(`${resource}\n${expiry}`);
  return `SharedAccessSignature sr=${resource}&sig=${encodeStrictly(mac.digest('base64'))}&se=${expiry}`;
}

// azure-iot-common, authorization.js encodeUriComponentStrict
function encodeStrictly(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
