import { setTimeout as delay } from 'node:timers/promises';
import { Backoff, type BackoffOptions } from '../backoff.ts';
import { type DeviceErrorCode, GatepostDeviceError } from '../errors.ts';
import type { HostServices } from './host-services.ts';
import { type HostIdentity, isSameIdentity } from './identity.ts';

export interface AcquireOptions {
  services: HostServices;
  /** Milliseconds to keep trying. At signing one new beginning is made in any case. */
  waitMs: number;
  /** Where given, another identity than this one is no way out: `identity_invalid`. */
  same?: HostIdentity | undefined;
  backoff?: BackoffOptions | undefined;
  signal?: AbortSignal | undefined;
  log?: ((line: string) => void) | undefined;
}

/** What time can cure: the services restart, the cloud comes back, a principal file is read. */
const passing: DeviceErrorCode[] = [
  'identity_service_missing',
  'identity_service_unreachable',
  'identity_refused',
  'identity_cloud_failed',
  'identity_service_failed',
  'identity_not_found',
];

/**
 * The walkthrough's rules (Azure/iot-identity-service, docs/develop-an-agent.md): what is refused at the first step is
 * tried again after a while; what is refused at signing begins again with the identity, since the device may be another
 * one meanwhile. `use` does what comes after the identity.
 */
export async function acquire<T>(options: AcquireOptions, use: (identity: HostIdentity) => Promise<T>): Promise<T> {
  const { services, waitMs, signal, log } = options;
  const backoff = new Backoff(options.backoff);
  const deadline = performance.now() + waitMs;
  let beganAgain = 0;
  const pauseOr = async (error: unknown, isFree: boolean): Promise<void> => {
    if (!(error instanceof GatepostDeviceError)) throw error;
    if (isFree) return;
    const pauseMs = backoff.next();
    if (signal?.aborted || performance.now() + pauseMs > deadline) throw error;
    log?.(`${error.message} Trying again in ${(pauseMs / 1000).toFixed(1)} s.`);
    await delay(pauseMs, undefined, { signal }).catch(() => {
      throw error;
    });
  };
  for (;;) {
    let identity: HostIdentity;
    try {
      identity = await services.identity();
    } catch (error) {
      if (!isPassing(error)) throw error;
      await pauseOr(error, false);
      continue;
    }
    if (options.same !== undefined && !isSameIdentity(options.same, identity)) {
      throw new GatepostDeviceError(
        'identity_invalid',
        'The Identity Service answers another identity than before: this device was provisioned anew. Connect again.',
      );
    }
    try {
      return await use(identity);
    } catch (error) {
      if (!isPassing(error) && !(error instanceof GatepostDeviceError && error.code === 'signing_refused')) throw error;
      beganAgain += 1;
      await pauseOr(error, beganAgain === 1);
    }
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof GatepostDeviceError && passing.includes(error.code);
}
