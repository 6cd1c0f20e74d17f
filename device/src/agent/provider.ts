import type { AuthenticationProvider, Callback, TransportConfig } from 'azure-iot-common';
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

/** A token that is no older than this is taken as it is. AMQP asks twice for one connection. */
const freshMs = 30_000;

/**
 * The SDK's own provider of short-lived tokens with another way to sign: the Keys Service does it, and the key stays
 * there. The pattern is the SDK's (azure-iot-sdk-node, device/core/src/iotedge_authentication_provider.ts).
 *
 * What the SDK does not do: each reconnection begins with the identity, for a module that was made anew has another key; a
 * signature that fails is tried again, from the identity on, as long as the token in use lives; and the provider's `error`,
 * which no transport listens to and which would end the process, is heard.
 */
export function keysServiceProvider(
  sdk: { device: typeof import('azure-iot-device') },
  options: KeysServiceProviderOptions,
): AuthenticationProvider {
  const { services, identity, gatewayHostName, lifetimeSeconds, marginSeconds, backoff, log } = options;
  const { hub: host, deviceId, moduleId } = identity;
  const under = new Set<AbortController>();
  let first: SignedToken | undefined = options.first;
  let signedAt = performance.now();

  /** All steps up to the token. Never settles once the client was closed. */
  const sign = (expiry: number, waitMs: number): Promise<string> => {
    const attempt = new AbortController();
    const { signal } = attempt;
    under.add(attempt);
    return new Promise((resolve, reject) => {
      acquire({ services, waitMs, same: identity, backoff, signal, log }, (found) => signToken(services, found, expiry))
        .finally(() => under.delete(attempt))
        .then(
          ({ token }) => {
            signedAt = performance.now();
            if (!signal.aborted) resolve(token);
          },
          (error: unknown) => {
            if (!signal.aborted) reject(asSdkError(error));
          },
        );
    });
  };

  class KeysServiceProvider extends sdk.device.SharedAccessKeyAuthenticationProvider {
    override getDeviceCredentials(done: Callback<TransportConfig>): void;
    override getDeviceCredentials(): Promise<TransportConfig>;
    override getDeviceCredentials(done?: Callback<TransportConfig>): Promise<TransportConfig> | undefined {
      const answer = () => super.getDeviceCredentials() as Promise<TransportConfig>;
      const found =
        first !== undefined || performance.now() - signedAt < freshMs ? answer() : this.#again().then(answer);
      if (done === undefined) return found;
      found.then(
        (credentials) => done(undefined, credentials),
        (error: Error) => done(error),
      );
      return undefined;
    }

    override _sign(_resource: string, expiry: number, done: (error: Error, token?: string) => void): void {
      const ready = first;
      first = undefined;
      if (ready !== undefined) {
        done(null as unknown as Error, ready.token);
        return;
      }
      sign(expiry, marginSeconds * 1000).then((token) => done(null as unknown as Error, token), done);
    }

    override stop(): void {
      super.stop();
      for (const attempt of under) attempt.abort();
    }

    /** Where it does not work out, the token in use is as good as it was. */
    async #again(): Promise<void> {
      const expiry = Math.floor(Date.now() / 1000) + lifetimeSeconds;
      try {
        this._credentials.sharedAccessSignature = await sign(expiry, 0);
      } catch (error) {
        log?.(`the token in use stays: ${reasonOf(error)}`);
      }
    }
  }

  const credentials = { host, deviceId, gatewayHostName, ...(moduleId === undefined ? {} : { moduleId }) };
  const provider = new KeysServiceProvider(credentials as never, lifetimeSeconds, marginSeconds);
  // The token in use goes on to its end; then the connection is lost, and all steps are taken again.
  provider.on('error', (error: unknown) => log?.(`the token was not renewed: ${reasonOf(error)}`));
  return provider;
}

/** By a name that the SDK's retry policy knows (azure-iot-common, retry_error_filter.ts): only another identity is past help. */
function asSdkError(error: unknown): Error {
  const isOther = error instanceof GatepostDeviceError && error.code === 'identity_invalid';
  const named = new Error(reasonOf(error), { cause: error });
  named.name = isOther ? 'UnauthorizedError' : 'NotConnectedError';
  return named;
}
