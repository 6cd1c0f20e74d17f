import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { build } from 'esbuild';

export interface App {
  directory: string;
  remove(): void;
}

const bundle = resolve(import.meta.dirname, '../../dist');
const plainSource = `import { app } from '@azure/functions';
app.http('hello', { methods: ['GET'], authLevel: 'anonymous', handler: async () => ({ body: 'Hello, world!' }) });
app.http('noop', { methods: ['GET'], authLevel: 'anonymous', handler: async () => ({ status: 204 }) });
`;

/** Our bundle as it is deployed, in a folder of its own. */
export function deployedApp(): App {
  return app((main) => cpSync(bundle, dirname(main), { recursive: true }));
}

/**
 * The least that a function app can be, bundled in the same way as ours: what is compared is what the apps do, not how
 * they are packed.
 */
export async function plainApp(): Promise<App> {
  const { outputFiles } = await build({
    stdin: { contents: plainSource, resolveDir: import.meta.dirname },
    write: false,
    bundle: true,
    platform: 'node',
    target: 'node22',
    format: 'cjs',
    external: ['@azure/functions-core'],
    logLevel: 'warning',
  });
  return app((main) => writeFileSync(main, outputFiles[0]?.contents ?? ''));
}

function app(writeMain: (path: string) => void): App {
  const directory = mkdtempSync(join(tmpdir(), 'gatepost-bench-'));
  mkdirSync(join(directory, 'dist'));
  const hostJson = {
    version: '2.0',
    extensions: { http: { routePrefix: '' } },
    // The host says at this level when the worker begins and ends to load the app.
    logging: { logLevel: { default: 'Warning', Worker: 'Debug' } },
  };
  writeFileSync(join(directory, 'host.json'), JSON.stringify(hostJson));
  writeFileSync(join(directory, 'package.json'), JSON.stringify({ main: 'dist/main.cjs' }));
  writeMain(join(directory, 'dist', 'main.cjs'));
  return { directory, remove: () => rmSync(directory, { recursive: true, force: true }) };
}
