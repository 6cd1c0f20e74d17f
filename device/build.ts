import { execFile } from 'node:child_process';
import { chmod, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
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

/** `import('./sdk.ts')` and its neighbours stay imports at run time, of the bundles of their own that they become. */
const sdkApart: Plugin = {
  name: 'sdk-apart',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/sdk(-[a-z]+)?\.ts$/ }, ({ path }) => ({
      path: path.replace(/\.ts$/, '.mjs'),
      external: true,
    }));
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
 * Builds the published package into `output`, by default `device/dist`: one file for the command line, one for the library, those of the SDK
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
  const { metafile } = await build({
    ...common,
    outdir: output,
    entryPoints: Object.fromEntries(
      ['sdk', 'sdk-mqtt', 'sdk-amqp'].map((name) => [name, join(root, `src/${name}.ts`)]),
    ),
    // What the transports share is one chunk: two copies of a class of the SDK would not know each other's instances.
    splitting: true,
    chunkNames: 'sdk-[hash]',
    minify: true,
    // Class names are what users of the SDK search for, and what its own errors are told apart by.
    keepNames: true,
    // The SDK requires it when a file is uploaded, which a client behind a gateway cannot do.
    external: ['@azure/storage-blob'],
    // The SDK is CommonJS, and requires Node's own modules.
    banner: requireBanner,
    legalComments: 'none',
    metafile: true,
  });
  await writeFile(join(output, 'third-party-notices.txt'), await notices(Object.keys(metafile.inputs)));
}

/** The licence of every package that the files belong to: MIT and its relatives ask that it travels with the code. */
async function notices(files: string[]): Promise<string> {
  const folders = new Set(files.flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? []));
  const texts = await Promise.all([...folders].map((folder) => notice(resolve(folder))));
  return texts.sort().join(`\n${'-'.repeat(80)}\n\n`);
}

async function notice(folder: string): Promise<string> {
  const { name, version, license, author } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
  const file = (await readdir(folder)).find((each) => /^licen[cs]e/i.test(each));
  const text =
    file === undefined
      ? `Licence: ${license}, by ${author?.name ?? author ?? name}\n`
      : await readFile(join(folder, file), 'utf8');
  return `${name} ${version}\n\n${text.trim()}\n`;
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
