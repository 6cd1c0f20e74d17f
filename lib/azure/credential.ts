import type { TokenCredential } from '@azure/identity';
import type { Config } from '../config.ts';

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
      made ??= credential();
      return (await made).getToken(scopes, options);
    },
  };
}
