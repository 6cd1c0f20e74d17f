import { execFile } from 'node:child_process';
import { chmod, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { type BuildOptions, build, type Plugin } from 'esbuild';

const root = dirname(fileURLToPath(import.meta.url));

const common = {
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  outExtension: { '.js': '.mjs' },
  logLevel: 'warning',
} satisfies BuildOptions;

/** `import('./sdk.ts')` stays an import at run time, of the bundle of its own that sdk.ts becomes. */
const sdkApart: Plugin = {
  name: 'sdk-apart',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/sdk\.ts$/ }, () => ({ path: './sdk.mjs', external: true }));
  },
};

/**
 * Turns imports of Node's own modules into requires, which run when the importing module first does. As imports they
 * would all be loaded at the start, crypto and TLS for a mere `--version`.
 */
const builtinsLater: Plugin = {
  name: 'builtins-later',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:/ }, ({ path, namespace }) =>
      namespace === 'builtin' ? { path, external: true } : { path, namespace: 'builtin' },
    );
    onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)});`,
    }));
  },
};

const requireBanner = {
  js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
};

/**
 * Builds the published package into `output`, by default `device/dist`: one file for the command line, one for the library, one for the SDK
 * that both load when they connect, and the declarations. The SDK is bundled because it brings 57 MB and 200 packages
 * along, of which a device needs one megabyte.
 */
export async function buildDevice(output: string = join(root, 'dist')): Promise<void> {
  await rm(output, { recursive: true, force: true });
  await Promise.all([buildEntries(output), buildSdk(output), buildTypes(output)]);
  await chmod(join(output, 'gatepost-device.mjs'), 0o755);
}

async function buildEntries(output: string): Promise<void> {
  await build({
    ...common,
    outdir: output,
    entryPoints: { 'gatepost-device': join(root, 'src/gatepost-device.ts'), index: join(root, 'src/index.ts') },
    plugins: [sdkApart, builtinsLater],
    banner: requireBanner,
  });
}

async function buildSdk(output: string): Promise<void> {
  await build({
    ...common,
    outdir: output,
    entryPoints: { sdk: join(root, 'src/sdk.ts') },
    minify: true,
    // Stack traces and class names of the SDK are what its users search for.
    keepNames: true,
    // The SDK requires it when a file is uploaded, which a client behind a gateway cannot do.
    external: ['@azure/storage-blob'],
    // The SDK is CommonJS, and requires Node's own modules.
    banner: requireBanner,
    legalComments: 'external',
  });
}

async function buildTypes(output: string): Promise<void> {
  const compiler = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
  await promisify(execFile)(process.execPath, [
    compiler,
    '-p',
    join(root, 'tsconfig.build.json'),
    '--outDir',
    join(output, 'types'),
  ]);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildDevice();
