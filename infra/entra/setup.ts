import { execFileSync } from 'node:child_process';
import { graphClient } from './graph.ts';
import { ensureRegistration } from './registration.ts';

/**
 * Makes or completes the app registration of an installation, as the person who is signed in to Azure CLI, and tells azd its
 * client id. A hook of azd runs it; docs/deploy.md says what to do by hand where you may not.
 */
async function main(): Promise<void> {
  const { AZURE_ENV_NAME: environment, AZURE_PRINCIPAL_ID: operatorId, GATEPOST_API_CLIENT_ID: given } = process.env;
  if (environment === undefined || !/^[A-Za-z0-9-]{1,64}$/.test(environment)) {
    throw new Error('AZURE_ENV_NAME is the name of the installation: letters, digits and dashes. azd sets it.');
  }
  if (process.env.GATEPOST_ENTRA_MANUAL === 'true') {
    if (!given)
      throw new Error('Entra ID is set up by hand: azd env set GATEPOST_API_CLIENT_ID <client id of the API>.');
    console.log(`Entra ID is set up by hand; the API's client id is ${given}.`);
    return;
  }
  const cloud = JSON.parse(az('cloud', 'show')) as { endpoints: { microsoftGraphResourceId: string } };
  const url = cloud.endpoints.microsoftGraphResourceId.replace(/\/$/, '');
  const { accessToken: token } = JSON.parse(az('account', 'get-access-token', '--resource', url)) as {
    accessToken: string;
  };
  let changes = 0;
  const made = await ensureRegistration(graphClient({ url: `${url}/v1.0`, token }), {
    environment,
    operatorId: operatorId || undefined,
    onChange: (what) => {
      changes += 1;
      console.log(`Entra ID: ${what}`);
    },
  });
  console.log(
    `Entra ID: ${changes === 0 ? 'all is there' : 'done'}. API ${made.apiClientId}, factory ${made.factoryClientId}`,
  );
  const ids = { GATEPOST_API_CLIENT_ID: made.apiClientId, GATEPOST_FACTORY_CLIENT_ID: made.factoryClientId };
  for (const [name, value] of Object.entries(ids)) run('azd', ['env', 'set', name, value], `Set ${name} yourself.`);
}

function az(...args: string[]): string {
  return run('az', [...args, '--output', 'json'], 'Install Azure CLI and sign in: az login --tenant TENANT.');
}

/** Windows starts az and azd by command files, which need a shell; no argument comes from outside but checked names. */
function run(command: string, args: readonly string[], cure: string): string {
  try {
    return execFileSync(command, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
      shell: process.platform === 'win32',
    });
  } catch (error) {
    // The output of `az account get-access-token` is a token: the error, which may hold it, is not passed on.
    throw new Error(
      `${command} ${args[0]} failed (${(error as { code?: string; status?: number }).code ?? 'exit code'}). ${cure}`,
    );
  }
}

try {
  await main();
} catch (error) {
  console.error(`Entra ID: ${(error as Error).message}`);
  process.exitCode = 1;
}
