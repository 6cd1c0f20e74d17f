import { createHmac, timingSafeEqual } from 'node:crypto';
import { GatepostError } from '../errors.ts';
import type { Redacted } from '../redacted.ts';
import type { AuthenticationRequest, Caller } from './route.ts';

/**
 * The symmetric keys (base64) that the hub holds for a device or one of its modules. Undefined where it may not prove
 * itself with one: there is no such identity, it is disabled, or it authenticates by certificate. Reads the hub every
 * time: {@link deviceTokens} does the caching.
 */
export type DeviceKeys = (deviceId: string, moduleId: string | null) => Promise<readonly Redacted[] | undefined>;

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

interface HeldKeys {
  keys: readonly Redacted[] | undefined;
  readAt: number;
}

/** Azure IoT devices run without a clock battery more often than not. */
const skewSeconds = 300;
const keysHeldMs = 60_000;
const absenceHeldMs = 10_000;
/** A key may have been rolled since it was read: a token that does not fit is tried again on keys at most this old. */
const doubtedAfterMs = 10_000;
const mostHeld = 10_000;
const longestToken = 2_048;

/**
 * Verifies SAS tokens as IoT Hub does: HMAC-SHA256 over the resource as sent and the expiry, by the identity's own
 * primary or secondary key. Throws `device_token_invalid`, or what `deviceKeys` throws.
 */
export function deviceTokens(options: DeviceTokenOptions): DeviceTokens {
  const keysOf = heldKeys(options);
  return async (request, modules = false) => {
    const token = parse(request.headers.get('authorization'));
    const identity = identityOf(token.resource, options.hubHostname);
    checkPath(identity, request.params, modules);
    // Before the hub is asked for keys: a device that sends an old token costs nothing.
    const nowSeconds = options.clock().getTime() / 1000;
    if (Number(token.expiry) + skewSeconds < nowSeconds) throw refused('It has expired: sign a new one.');
    let fits = await fitsAny(token, await keysOf(identity, keysHeldMs));
    if (!fits) fits = await fitsAny(token, await keysOf(identity, doubtedAfterMs));
    if (!fits) throw refused('It is signed with no key of this device, or the device is unknown or disabled.');
    return { plane: 'device', ...identity };
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
function identityOf(resource: string, hubHostname: string): { deviceId: string; moduleId: string | null } {
  const [host = '', ...path] = decoded(resource).split('/');
  const [devices, deviceId = '', modules, moduleId = ''] = path.map(decoded);
  const isDevice = path.length === 2 && devices === 'devices' && deviceId !== '';
  const isModule = path.length === 4 && devices === 'devices' && modules === 'modules' && moduleId !== '';
  if (host.toLowerCase() !== hubHostname || !(isDevice || isModule) || deviceId === '') {
    throw refused(`Its resource must be ${hubHostname}/devices/ID of the device, or .../modules/ID of the module.`);
  }
  return { deviceId, moduleId: isModule ? moduleId : null };
}

function checkPath(
  identity: { deviceId: string; moduleId: string | null },
  params: Readonly<Record<string, string>>,
  modules: boolean,
): void {
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

async function fitsAny(token: SasToken, keys: readonly Redacted[] | undefined): Promise<boolean> {
  let fits = false;
  for (const key of keys ?? []) {
    const mac = createHmac('sha256', Buffer.from(key.reveal(), 'base64'));
    const expected = mac.update(`${token.resource}\n${token.expiry}`).digest();
    // Every key is tried, so that the time taken tells nothing of which one fits.
    if (timingSafeEqual(expected, token.signature)) fits = true;
  }
  return fits;
}

/** Keys as last read, read again where they are older than asked. The oldest are forgotten when there are too many. */
function heldKeys(options: DeviceTokenOptions) {
  const held = new Map<string, HeldKeys>();
  return async (
    identity: { deviceId: string; moduleId: string | null },
    oldestMs: number,
  ): Promise<readonly Redacted[] | undefined> => {
    const { deviceId, moduleId } = identity;
    const id = JSON.stringify([deviceId, moduleId]);
    const now = options.clock().getTime();
    const known = held.get(id);
    const limit = known?.keys === undefined ? Math.min(absenceHeldMs, oldestMs) : oldestMs;
    if (known !== undefined && now - known.readAt < limit) return known.keys;
    const keys = await options.deviceKeys(deviceId, moduleId);
    held.delete(id);
    held.set(id, { keys, readAt: now });
    const [oldest] = held.keys();
    if (held.size > mostHeld && oldest !== undefined) held.delete(oldest);
    return keys;
  };
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
