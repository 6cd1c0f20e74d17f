import type { AuthenticationProvider } from 'azure-iot-common';
import type { BackoffOptions } from '../backoff.ts';
import { GatepostDeviceError, reasonOf } from '../errors.ts';
import { acquire } from './acquire.ts';
import type { HostServices } from './host-services.ts';
import type { HostIdentity } from './identity.ts';
import { type SignedToken, signToken } from './token.ts';

export interface KeysServiceProviderOptions {
  services: HostServices;
  identity: HostIdentity;
  gatewayHostName: string;
  /** Signed already; what the first connection uses. */
  first: SignedToken;
  /** Seconds that a token is good for, and how many before its end it is replaced. */
  lifetimeSeconds: number;
  marginSeconds: number;
  backoff?: BackoffOptions | undefined;
  log?: ((line: string) => void) | undefined;
}

/** A token that ends sooner is not worth a connection. */
const worthSeconds = 60;

/**
 * The SDK's own provider of short-lived tokens with another way to sign: the Keys Service does it, and the key stays
 * there. The pattern is the SDK's (azure-iot-sdk-node, device/core/src/iotedge_authentication_provider.ts). It stops its
 * provider at each disconnection, so that each reconnection signs anew, here from the identity on: a module that was made
 * anew has another key.
 *
 * What the SDK does not do: a signature that fails is tried again as long as the token in use lives, a reconnection goes on
 * with that token, and the provider's `error`, which no transport listens to and which would end the process, is heard.
 */
export function keysServiceProvider(
  sdk: { device: typeof import('azure-iot-device') },
  options: KeysServiceProviderOptions,
): AuthenticationProvider {
  const { services, identity, gatewayHostName, lifetimeSeconds, marginSeconds, backoff, log } = options;
  const { hub: host, deviceId, moduleId } = identity;
  const under = new Set<AbortController>();
  let inUse = options.first;
  let isFirst = true;
  let isReconnection = false;

  /** All steps up to the token. */
  const sign = async (expiry: number, signal: AbortSignal): Promise<SignedToken> => {
    const isWorth = inUse.expiry - Date.now() / 1000 > worthSeconds;
    const goesOn = isReconnection && isWorth;
    isReconnection = false;
    try {
      const waitMs = goesOn ? 0 : marginSeconds * 1000;
      const steps = { services, waitMs, same: identity, backoff, signal, log };
      return await acquire(steps, (found) => signToken(services, found, expiry));
    } catch (error) {
      if (!goesOn || isPastHelp(error)) throw error;
      log?.(`the token in use goes on: ${reasonOf(error)}`);
      return inUse;
    }
  };

  class KeysServiceProvider extends sdk.device.SharedAccessKeyAuthenticationProvider {
    override _sign(_resource: string, expiry: number, done: (error: Error, token?: string) => void): void {
      const accept = (token: SignedToken) => {
        inUse = token;
        done(null as unknown as Error, token.token);
      };
      if (isFirst) {
        isFirst = false;
        accept(options.first);
        return;
      }
      const attempt = new AbortController();
      under.add(attempt);
      sign(expiry, attempt.signal)
        .finally(() => under.delete(attempt))
        .then(
          (token) => {
            if (!attempt.signal.aborted) accept(token);
          },
          (error: unknown) => {
            if (!attempt.signal.aborted) done(asSdkError(error));
          },
        );
    }

    override stop(): void {
      super.stop();
      isReconnection = true;
      for (const attempt of under) attempt.abort();
    }
  }

  const credentials = { host, deviceId, gatewayHostName, ...(moduleId === undefined ? {} : { moduleId }) };
  const provider = new KeysServiceProvider(credentials as never, lifetimeSeconds, marginSeconds);
  // The token in use goes on to its end; then the connection is lost, and all steps are taken again.
  provider.on('error', (error: unknown) => log?.(`the token was not renewed: ${reasonOf(error)}`));
  return provider;
}

function isPastHelp(error: unknown): boolean {
  return error instanceof GatepostDeviceError && error.code === 'identity_invalid';
}

/** By a name that the SDK's retry policy knows (azure-iot-common, retry_error_filter.ts): only another identity is past help. */
function asSdkError(error: unknown): Error {
  const named = new Error(reasonOf(error), { cause: error });
  named.name = isPastHelp(error) ? 'UnauthorizedError' : 'NotConnectedError';
  return named;
}
