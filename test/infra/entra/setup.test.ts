import { execFile } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GraphDouble, startGraphDouble } from './graph-double.ts';

const folder = mkdtempSync(join(tmpdir(), 'gatepost-entra-setup-'));
const azdLog = join(folder, 'azd.log');
let double: GraphDouble;

/** Azure CLI and azd as far as the script calls them, so that what it passes and prints is seen. */
beforeAll(async () => {
  double = await startGraphDouble();
  const az = `
    const [, , ...args] = process.argv;
    const asked = args.filter((arg) => !arg.startsWith('--output') && arg !== 'json').join(' ');
    if (asked === 'cloud show') console.log(JSON.stringify({ endpoints: { microsoftGraphResourceId: process.env.TEST_GRAPH } }));
    else if (process.env.TEST_SIGNED_OUT) process.exit(1);
    else if (asked === 'account get-access-token --resource ' + process.env.TEST_GRAPH.replace(/\\/$/, ''))
      console.log(JSON.stringify({ accessToken: process.env.TEST_TOKEN }));
    else process.exit(2);`;
  const azd = `require('node:fs').appendFileSync(${JSON.stringify(azdLog)}, process.argv.slice(2).join(' ') + '\\n');`;
  for (const [name, source] of Object.entries({ az, azd })) {
    writeFileSync(join(folder, `${name}.cjs`), source);
    writeFileSync(join(folder, name), `#!/bin/sh\nexec "${process.execPath}" "${join(folder, `${name}.cjs`)}" "$@"\n`);
    chmodSync(join(folder, name), 0o755);
  }
});
afterAll(async () => {
  await double.close();
  rmSync(folder, { recursive: true, force: true });
});

function run(env: Record<string, string>): Promise<{ code: number; output: string }> {
  const settings = {
    PATH: `${folder}${delimiter}${process.env.PATH ?? ''}`,
    TEST_GRAPH: `${double.url.replace('/v1.0', '')}/`,
    TEST_TOKEN: double.token,
    ...env,
  };
  return new Promise((resolve) => {
    execFile(process.execPath, ['infra/entra/setup.ts'], { env: settings }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), output: `${stdout}${stderr}` });
    });
  });
}

// The stand-ins for az and azd are shell scripts.
describe.skipIf(process.platform === 'win32')('the hook that sets up Entra ID', () => {
  it('tells azd the client ids, and shows nobody the token', async () => {
    const { code, output } = await run({ AZURE_ENV_NAME: 'plant' });
    expect([code, output]).toEqual([0, expect.stringContaining('registered the application Gatepost (plant)')]);
    const apiClientId = double.applications.find(({ uniqueName }) => uniqueName === 'gatepost-plant')?.appId;
    expect(readFileSync(azdLog, 'utf8')).toContain(`env set GATEPOST_API_CLIENT_ID ${String(apiClientId)}\n`);
    expect(output).not.toContain(double.token);
    expect((await run({ AZURE_ENV_NAME: 'plant' })).output).toContain('all is there');
  });

  it('fails with advice where nobody is signed in, and without the name of an installation', async () => {
    const signedOut = await run({ AZURE_ENV_NAME: 'plant', TEST_SIGNED_OUT: 'yes' });
    expect([signedOut.code, signedOut.output]).toEqual([1, expect.stringContaining('az login --tenant')]);
    const refused = await run({ AZURE_ENV_NAME: 'plant', TEST_TOKEN: 'expired-token-of-somebody' });
    expect([refused.code, refused.output]).toEqual([1, expect.stringContaining('401')]);
    expect(refused.output).not.toContain('expired-token-of-somebody');
    const unnamed = await run({});
    expect([unnamed.code, unnamed.output]).toEqual([1, expect.stringContaining('AZURE_ENV_NAME')]);
  });

  it('asks Graph for nothing where it is set up by hand, and insists on the client id', async () => {
    rmSync(azdLog, { force: true });
    const manual = { AZURE_ENV_NAME: 'hand', GATEPOST_ENTRA_MANUAL: 'true', PATH: '/nowhere' };
    expect((await run({ ...manual, GATEPOST_API_CLIENT_ID: 'b7f0' })).output).toContain('set up by hand');
    expect((await run(manual)).code).toBe(1);
    expect(existsSync(azdLog)).toBe(false);
  });
});
