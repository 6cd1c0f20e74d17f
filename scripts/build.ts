import { writeFileSync } from 'node:fs';
import { type BuildOptions, build, type Metafile, type Plugin } from 'esbuild';

/**
 * SDKs that some routes need, each group in a file of its own beside the app. What takes time at a cold start is to scan the
 * text of the bundle, and four fifths of it would be these: the app alone loads in half the time of one with them inside.
 * Packages of one group share their dependencies.
 */
const groups: Readonly<Record<string, readonly string[]>> = {
  'azure-sdk': ['@azure/identity', '@azure/keyvault-secrets', '@azure/keyvault-certificates', '@azure/data-tables'],
  'azure-iothub': ['azure-iothub/dist/registry.js'],
  opentelemetry: [
    '@opentelemetry/sdk-trace-base',
    '@opentelemetry/sdk-metrics',
    '@opentelemetry/resources',
    '@opentelemetry/exporter-trace-otlp-http',
    '@opentelemetry/exporter-metrics-otlp-http',
  ],
  x509: ['reflect-metadata', '@peculiar/x509'],
};

/** CommonJS, since the Node worker of Azure Functions loads it fastest. Not minified, so that stack traces can be read. */
const common: BuildOptions = {
  bundle: true,
  platform: 'node',
  target: 'node22',
  format: 'cjs',
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'none',
  logLevel: 'warning',
  metafile: true,
};

/** Turns an import of a package into one of its group's file, which is read when the import runs. */
const fromGroups: Plugin = {
  name: 'from-groups',
  setup({ onResolve, onLoad }) {
    const groupOf = new Map(Object.entries(groups).flatMap(([group, names]) => names.map((name) => [name, group])));
    onResolve({ filter: /^[@a-z]/ }, ({ path, kind }) => {
      if (!groupOf.has(path) || kind === 'entry-point') return undefined;
      return { path, namespace: 'group', pluginData: groupOf.get(path) };
    });
    onResolve({ filter: /^\.\/[\w-]+\.cjs$/, namespace: 'group' }, ({ path }) => ({ path, external: true }));
    onLoad({ filter: /.*/, namespace: 'group' }, ({ path, pluginData }) => ({
      contents: `module.exports = require('./${pluginData}.cjs')[${JSON.stringify(path)}]();`,
    }));
  },
};

/** zod brings its messages in forty languages, a tenth of the app's text; English is what callers get. */
const englishOnly: Plugin = {
  name: 'english-only',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]zod[\\/]v4[\\/]locales[\\/]index\.js$/ }, () => ({
      contents: "export { default as en } from './en.js';",
    }));
  },
};

/** The files that an output is made of, those left out whose code nothing uses. */
function inputsOf({ outputs }: Metafile): string[] {
  const used = Object.values(outputs).flatMap(({ inputs }) => Object.entries(inputs));
  return used.filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([path]) => path);
}

const app = await build({
  ...common,
  entryPoints: ['functions/index.ts'],
  outfile: 'dist/main.cjs',
  // The worker gives this one at run time.
  external: ['@azure/functions-core'],
  plugins: [fromGroups, englishOnly],
});
const inputs: Record<string, string[]> = { 'main.cjs': inputsOf(app.metafile as Metafile) };
for (const [group, names] of Object.entries(groups)) {
  const members = names.map((name) => `${JSON.stringify(name)}: () => require(${JSON.stringify(name)})`);
  const contents = `module.exports = { ${members.join(', ')} };`;
  const made = await build({
    ...common,
    stdin: { contents, resolveDir: '.', sourcefile: group },
    outfile: `dist/${group}.cjs`,
  });
  inputs[`${group}.cjs`] = inputsOf(made.metafile as Metafile);
}
// What scripts/package.ts makes the bill of materials from.
writeFileSync('dist/inputs.json', `${JSON.stringify(inputs, null, 2)}\n`);
