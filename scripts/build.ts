import { build } from 'esbuild';

/**
 * One CommonJS file, since the Node worker of Azure Functions loads it fastest so. `@azure/functions-core` is given by the
 * worker at run time. Not minified: it starts no faster, and stack traces stay readable. A dynamic import() of a package
 * stays lazy inside the bundle: its modules run when the import does.
 */
await build({
  entryPoints: ['functions/index.ts'],
  outfile: 'dist/main.cjs',
  bundle: true,
  platform: 'node',
  target: 'node22',
  format: 'cjs',
  external: ['@azure/functions-core'],
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'none',
  logLevel: 'warning',
});
