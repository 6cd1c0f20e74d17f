import type { AuthenticationProvider } from 'azure-iot-common';
import type { BackoffOptions } from '../backoff.ts';
import type { Sdk } from '../client.ts';
import { reasonOf } from '../errors.ts';
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

/** A token that was made before a connection is still taken for its first one. */
const freshSeconds = 60;

/**
 * The SDK's own provider of short-lived tokens with another way to sign: the Keys Service does it, and the key stays
 * there. The pattern is the SDK's (azure-iot-sdk-node, device/core/src/iotedge_authentication_provider.ts).
 *
 * What the SDK does not do: a signature that fails is tried again, from the identity on, as long as the token in use
 * lives; and the provider's `error`, which no transport listens to and which would end the process, is heard.
 */
export function keysServiceProvider(
  sdk: Pick<Sdk, 'device'>,
  options: KeysServiceProviderOptions,
): AuthenticationProvider {
  const { services, identity, gatewayHostName, lifetimeSeconds, marginSeconds, backoff, log } = options;
  const { hub: host, deviceId, moduleId } = identity;
  let first: SignedToken | undefined = options.first;
  const stopped = new Set<AbortController>();

  class KeysServiceProvider extends sdk.device.SharedAccessKeyAuthenticationProvider {
    override _sign(_resource: string, expiry: number, done: (error: Error, token?: string) => void): void {
      const ready = first;
      first = undefined;
      if (ready !== undefined && expiry - ready.expiry < freshSeconds) {
        done(null as unknown as Error, ready.token);
        return;
      }
      const renewal = new AbortController();
      stopped.add(renewal);
      const waitMs = marginSeconds * 1000;
      acquire({ services, waitMs, same: identity, backoff, signal: renewal.signal, log }, (found) =>
        signToken(services, found, expiry),
      )
        .finally(() => stopped.delete(renewal))
        .then(
          ({ token }) => {
            if (!renewal.signal.aborted) done(null as unknown as Error, token);
          },
          (error: Error) => {
            if (!renewal.signal.aborted) done(error);
          },
        );
    }

    override stop(): void {
      super.stop();
      for (const renewal of stopped) renewal.abort();
    }
  }

  const credentials = { host, deviceId, gatewayHostName, ...(moduleId === undefined ? {} : { moduleId }) };
  const provider = new KeysServiceProvider(credentials as never, lifetimeSeconds, marginSeconds);
  // The token in use goes on to its end; then the connection is lost, and all steps are taken again.
  provider.on('error', (error: unknown) => log?.(`the token was not renewed: ${reasonOf(error)}`));
  return provider;
}
