import type { TokenCredential } from '@azure/identity';
import type { Config } from '../config.ts';
import { observeCall } from '../telemetry/upstream-span.ts';

export type { TokenCredential };

/**
 * The app's managed identity. It is the only credential there is: `DefaultAzureCredential` would also try what happens to
 * lie around on a machine. The SDK is loaded when the first token is asked for.
 */
export function managedIdentity(config: Pick<Config, 'identityClientId'>): TokenCredential {
  let made: Promise<TokenCredential> | undefined;
  const credential = async (): Promise<TokenCredential> => {
    const { ManagedIdentityCredential } = await import('@azure/identity');
    const { identityClientId: clientId } = config;
    return new ManagedIdentityCredential(clientId === undefined ? {} : { clientId });
  };
  return {
    getToken: async (scopes, options) => {
      const asked = made ?? credential();
      made = asked;
      // Clients keep their tokens: it is asked only when there is none that is good.
      return observeCall('Entra ID', 'get a token', async () => (await asked).getToken(scopes, options));
    },
  };
}
