import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { readEdges, violations } from '../../scripts/check-imports.ts';

const script = resolve(import.meta.dirname, '../../scripts/check-imports.ts');
const roots: string[] = [];

function tree(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'gatepost-arrows-'));
  roots.push(root);
  for (const [path, source] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), source);
  }
  return root;
}

function rulesBrokenBy(file: string, source: string): string[] {
  return violations(readEdges(tree({ [file]: source }))).map(({ rule }) => rule);
}

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true });
});

describe('the arrows of the house', () => {
  const wrong: [string, string, string, RegExp][] = [
    ['lib imports the Functions package', 'lib/trust/a.ts', `import { app } from '@azure/functions';`, /platform/],
    ['even lib/azure imports it', 'lib/azure/a.ts', `import { app } from '@azure/functions';`, /platform/],
    ['lib imports an Azure SDK', 'lib/trust/a.ts', `import { SecretClient } from '@azure/keyvault-secrets';`, /SDK/],
    ['lib imports azure-iothub', 'lib/identity/a.ts', `import iothub from 'azure-iothub';`, /SDK/],
    ['functions imports a deep path of an SDK', 'functions/a.ts', `import '@azure/identity/dist/x.js';`, /SDK/],
    [
      'a folder of lib imports an adapter',
      'lib/trust/a.ts',
      `import { vault } from '../azure/vault.ts';`,
      /interfaces/,
    ],
    [
      'a resource imports an adapter',
      'functions/a.ts',
      `import { vault } from '../lib/azure/vault.ts';`,
      /composition/,
    ],
    ['lib imports functions', 'lib/a.ts', `import { services } from '../functions/services.ts';`, /lib\/ depends/],
    [
      'lib imports the device package by name',
      'lib/a.ts',
      `import { connect } from 'gatepost-device';`,
      /lib\/ depends/,
    ],
    ['functions imports local', 'functions/a.ts', `import '../local/cloud.ts';`, /functions\/ depends/],
    ['local imports lib', 'local/hub/a.ts', `import { problems } from '../../lib/errors.ts';`, /double/],
    ['local imports functions', 'local/a.ts', `import '../functions/index.ts';`, /double/],
    ['local imports the device package', 'local/a.ts', `import 'gatepost-device';`, /double/],
    ['device imports lib', 'device/src/a.ts', `import '../../lib/errors.ts';`, /device\/ is installed/],
    ['device imports local', 'device/src/a.ts', `import '../../local/kit/faults.ts';`, /device\/ is installed/],
    ['device imports functions', 'device/src/a.ts', `import '../../functions/index.ts';`, /device\/ is installed/],
    ['bench imports test', 'bench/a.ts', `import '../test/helper.ts';`, /nothing imports test/],
    ['lib imports test', 'lib/a.ts', `import '../test/helper.ts';`, /nothing imports test/],
    ['lib hides the target', 'lib/a.ts', `export const load = (name: string) => import(name);`, /computed/],
  ];
  it.each(wrong)('%s: refused', (_what, file, source, rule) => {
    expect(rulesBrokenBy(file, source)).toEqual([expect.stringMatching(rule)]);
  });

  const spellings: [string, string][] = [
    ['import type', `import type { A } from '../functions/a.ts';`],
    ['a re-export', `export * from '../functions/a.ts';`],
    ['a named re-export', `export { a } from '../functions/a.ts';`],
    ['an import for its effects', `import '../functions/a.ts';`],
    ['a lazy import', `export async function a() { return (await import('../functions/a.ts')).a; }`],
    ['a type query', `export type A = import('../functions/a.ts').A;`],
    ['require', `const a = require('../functions/a.ts'); console.log(a);`],
    ['an import over several lines', `import {\n  a,\n  b,\n} from '../functions/a.ts';`],
  ];
  it.each(spellings)('sees %s', (_what, source) => {
    expect(rulesBrokenBy('lib/a.ts', source)).toHaveLength(1);
  });

  const right: [string, string, string][] = [
    ['functions imports lib', 'functions/devices.ts', `import '../lib/identity/devices.ts';`],
    ['functions imports the Functions package', 'functions/index.ts', `import { app } from '@azure/functions';`],
    ['the composition root imports adapters', 'functions/index.ts', `import '../lib/azure/vault.ts';`],
    ['so does its list of services', 'functions/services.ts', `import '../lib/azure/vault.ts';`],
    ['an adapter imports its SDK', 'lib/azure/hub.ts', `import 'azure-iothub';`],
    ['an adapter imports the interface', 'lib/azure/hub.ts', `import type { A } from '../identity/registry.ts';`],
    ['the device uses the device SDK', 'device/src/run.ts', `import 'azure-iot-device';`],
    [
      'the host loads whatever app it is given',
      'local/functions-host/a.ts',
      `export const a = (f: string) => import(f);`,
    ],
    ['a test imports everything', 'test/a.test.ts', `import '../lib/a.ts'; import '../local/b.ts'; import './c.ts';`],
    [
      'a comment or a string is not an import',
      'lib/a.ts',
      `// import '../test/a.ts'\nexport const a = "import '../test/a.ts'";`,
    ],
  ];
  it.each(right)('%s: fine', (_what, file, source) => {
    expect(rulesBrokenBy(file, source)).toEqual([]);
  });

  it('does not look into installed or built files', () => {
    const root = tree({
      'device/node_modules/x/index.js': `require('../../../lib/a.ts')`,
      'device/dist/a.mjs': `import '../../lib/a.ts'`,
    });
    expect(readEdges(root)).toEqual([]);
  });

  it('names file, line, import, rule and cure, and exits with 1', () => {
    const root = tree({
      'lib/trust/a.ts': `export const a = 1;\nimport { b } from '../azure/vault.ts';\nexport { b };\n`,
    });
    const { status, stderr } = spawnSync(process.execPath, [script, root], { encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toContain(`lib/trust/a.ts:2 imports '../azure/vault.ts'`);
    expect(stderr).toMatch(/rule: lib\/ knows interfaces/);
    expect(stderr).toMatch(/cure: depend on the interface/);
  });

  it('finds nothing wrong in this repository', () => {
    expect(execFileSync(process.execPath, [script], { encoding: 'utf8' })).toMatch(
      /^arrows: [1-9]\d* imports in [1-9]\d* files/,
    );
  });
});
