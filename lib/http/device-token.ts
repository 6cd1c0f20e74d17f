import { createHmac, timingSafeEqual } from 'node:crypto';
import { GatepostError } from '../errors.ts';
import type { Redacted } from '../redacted.ts';
import { DeviceKeyCache, type DeviceKeys, type Identity } from './device-key-cache.ts';
import type { AuthenticationRequest, Caller } from './route.ts';

export interface DeviceTokenOptions {
  hubHostname: string;
  deviceKeys: DeviceKeys;
  clock: () => Date;
}

/** Proves the device of the path; with `modules`, one of its modules too where the path names none. */
export type DeviceTokens = (request: AuthenticationRequest, modules?: boolean) => Promise<Caller>;

interface SasToken {
  /** As sent: it is what was signed. */
  resource: string;
  expiry: string;
  signature: Buffer;
}

/** Azure IoT devices run without a clock battery more often than not. */
const skewSeconds = 300;
const keysHeldMs = 60_000;
/** A key may have been rolled since it was read: a token that does not fit is tried again on keys at most this old. */
const doubtedAfterMs = 10_000;
const longestToken = 2_048;

/**
 * Verifies SAS tokens as IoT Hub does: HMAC-SHA256 over the resource as sent and the expiry, by the identity's own
 * primary or secondary key. Throws `device_token_invalid`, or what `deviceKeys` throws.
 */
export function deviceTokens(options: DeviceTokenOptions): DeviceTokens {
  const held = new DeviceKeyCache(options.deviceKeys, options.clock);
  return async (request, modules = false) => {
    const token = parse(request.headers.get('authorization'));
    const identity = identityOf(token.resource, options.hubHostname);
    checkPath(identity, request.params, modules);
    const now = options.clock().getTime();
    // Before the hub is asked for keys: a device that sends an old token costs nothing.
    if (Number(token.expiry) + skewSeconds < now / 1000) throw refused('It has expired: sign a new one.');
    for (const oldestMs of [keysHeldMs, doubtedAfterMs]) {
      if (!fitsAny(token, await held.keys(identity, oldestMs))) continue;
      held.prove(identity);
      return { plane: 'device', ...identity };
    }
    held.doubt(identity, now);
    throw refused('It is signed with no key of this device, or the device is unknown or disabled.');
  };
}

function parse(header: string | null): SasToken {
  const text = /^SharedAccessSignature +(\S+)$/i.exec(header?.trim() ?? '')?.[1];
  if (text === undefined || text.length > longestToken) {
    throw refused("Send the device's own SAS token as Authorization: SharedAccessSignature sr=...&sig=...&se=....");
  }
  const fields = new Map(
    text.split('&').map((field): [string, string] => {
      const at = field.indexOf('=');
      return [field.slice(0, Math.max(at, 0)), field.slice(at + 1)];
    }),
  );
  const resource = fields.get('sr') ?? '';
  const expiry = fields.get('se') ?? '';
  const signature = Buffer.from(decoded(fields.get('sig') ?? ''), 'base64');
  if (resource === '' || !/^\d{1,12}$/.test(expiry) || signature.byteLength !== 32) {
    throw refused('It needs sr, se (seconds since 1970) and sig (HMAC-SHA256).');
  }
  // A policy of the hub proves whoever holds the policy's key, not a device.
  if ((fields.get('skn') ?? '') !== '') throw refused('It names a policy (skn): only the own key of a device counts.');
  return { resource, expiry, signature };
}

/** The resource is `HUB/devices/ID[/modules/ID]`; SDKs send it both raw and percent-encoded as a whole. */
function identityOf(resource: string, hubHostname: string): Identity {
  const [host = '', ...path] = decoded(resource).split('/');
  const [devices, deviceId = '', modules, moduleId = ''] = path.map(decoded);
  const isDevice = path.length === 2 && devices === 'devices' && deviceId !== '';
  const isModule = path.length === 4 && devices === 'devices' && modules === 'modules' && moduleId !== '';
  if (host.toLowerCase() !== hubHostname || !(isDevice || isModule) || deviceId === '') {
    throw refused(`Its resource must be ${hubHostname}/devices/ID of the device, or .../modules/ID of the module.`);
  }
  return { deviceId, moduleId: isModule ? moduleId : null };
}

function checkPath(identity: Identity, params: Readonly<Record<string, string>>, modules: boolean): void {
  if (identity.deviceId !== params.deviceId) throw refused('It is of another device than the one in the path.');
  const asked = params.moduleId ?? null;
  if (identity.moduleId === asked) return;
  if (modules && asked === null) return;
  throw refused(
    asked === null
      ? 'It is of a module: this call takes the token of the device.'
      : `It is not of the module ${asked}.`,
  );
}

function fitsAny(token: SasToken, keys: readonly Redacted[] | undefined): boolean {
  let fits = false;
  for (const key of keys ?? []) {
    const mac = createHmac('sha256', Buffer.from(key.reveal(), 'base64'));
    const expected = mac.update(`${token.resource}\n${token.expiry}`).digest();
    // Every key is tried, so that the time taken tells nothing of which one fits.
    if (timingSafeEqual(expected, token.signature)) fits = true;
  }
  return fits;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function refused(detail: string): GatepostError {
  return new GatepostError('device_token_invalid', detail);
}
