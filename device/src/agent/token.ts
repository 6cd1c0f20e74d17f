import { GatepostDeviceError } from '../errors.ts';
import type { HostServices } from './host-services.ts';
import { type HostIdentity, resourceOf } from './identity.ts';

export interface SignedToken {
  /** `SharedAccessSignature sr=...&sig=...&se=...`. */
  token: string;
  /** Seconds since 1970. */
  expiry: number;
}

/**
 * A SAS token that the Keys Service has signed. The resource is URL-encoded in the text that is signed and in `sr`, as the
 * SDKs write it: the signature is over `sr` as it is sent. In `sig` every `=`, `+` and `/` is escaped, for edgeHub splits
 * fields at each `=` (Azure/iotedge, edge-util SharedAccessSignature.cs).
 */
export async function signToken(services: HostServices, identity: HostIdentity, expiry: number): Promise<SignedToken> {
  const { credential } = identity;
  if (credential.kind !== 'sas') {
    throw new GatepostDeviceError('internal', 'A token was to be signed for an identity that has a certificate.');
  }
  const resource = strict(resourceOf(identity));
  const signature = await services.sign(credential.keyHandle, `${resource}\n${expiry}`);
  return { token: `SharedAccessSignature sr=${resource}&sig=${strict(signature)}&se=${expiry}`, expiry };
}

/** Also what encodeURIComponent leaves alone, as azure-iot-common's encodeUriComponentStrict does. */
function strict(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`);
}
