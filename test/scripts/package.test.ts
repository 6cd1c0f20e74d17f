import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { unzipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundledPackages } from '../../scripts/package/packages.ts';
import { packageApp } from '../../scripts/package.ts';
import { goodRoot } from '../support/certificates.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';

interface Bill {
  bomFormat: string;
  specVersion: string;
  serialNumber: string;
  metadata: { component: { components: { name: string; hashes: { content: string }[] }[] } };
  components: {
    'bom-ref': string;
    group?: string;
    name: string;
    version: string;
    licenses: object[];
    hashes: object[];
  }[];
  dependencies: { ref: string; dependsOn: string[] }[];
}

const { zip } = packageApp();
const unpacked = unzipSync(zip);
const contentOf = (path: string) => Buffer.from(unpacked[path] ?? new Uint8Array()).toString('utf8');
const bill = JSON.parse(contentOf('sbom.cdx.json')) as Bill;
// Outside of this repository, so that nothing is found in its node_modules.
const folder = mkdtempSync(join(tmpdir(), 'gatepost-package-'));

beforeAll(() => {
  for (const [path, content] of Object.entries(unpacked)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the package', () => {
  it('holds the bundle, host.json and the entry point, no node_modules, no maps, and stays below 6 MB', () => {
    const paths = Object.keys(unpacked);
    expect(paths.filter((path) => !path.startsWith('dist/')).sort()).toEqual([
      'LICENSE',
      'THIRD-PARTY-LICENSES.txt',
      'host.json',
      'package.json',
      'sbom.cdx.json',
    ]);
    expect(paths.filter((path) => path.startsWith('dist/')).every((path) => path.endsWith('.cjs'))).toBe(true);
    expect(paths).toContain(JSON.parse(contentOf('package.json')).main);
    expect(zip.length).toBeLessThan(6 * 1024 * 1024);
  });

  it('is the same to the byte whenever it is made of the same sources', () => {
    const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
    expect(digest(packageApp().zip)).toBe(digest(zip));
  });

  it('asks Node for nothing that it does not bring, but for what the Functions worker gives', () => {
    const builtIn = new Set(createRequire(import.meta.url)('node:module').builtinModules);
    const asked = Object.keys(unpacked)
      .filter((path) => path.endsWith('.cjs'))
      .flatMap((path) => [...contentOf(path).matchAll(/\brequire\("([^"]+)"\)/g)].map((found) => String(found[1])));
    const foreign = asked.filter((name) => !builtIn.has(name.replace(/^node:/, '')) && !name.startsWith('./'));
    expect([...new Set(foreign)]).toEqual(['@azure/functions-core']);
  });
});

describe('npm run package', () => {
  it('leaves the zip, the same as a folder for azd, and the bill of materials in dist/', () => {
    const printed = execFileSync(process.execPath, ['scripts/package.ts'], { encoding: 'utf8' });
    expect(printed).toMatch(/^dist\/gatepost\.zip: \d\.\d\d MB, .* code of \d+ packages\n$/);
    expect(Buffer.compare(readFileSync('dist/gatepost.zip'), zip)).toBe(0);
    const files = readdirSync('dist/app', { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    expect(files.map(({ parentPath, name }) => relative('dist/app', join(parentPath, name))).sort()).toEqual(
      Object.keys(unpacked).sort(),
    );
    expect(readFileSync('dist/sbom.cdx.json', 'utf8')).toBe(contentOf('sbom.cdx.json'));
  });
});

describe('the bill of materials', () => {
  it('is CycloneDX 1.6, and its references lead to components of it', () => {
    expect(bill).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.6' });
    expect(bill.serialNumber).toMatch(/^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    const known = bill.components.map((each) => each['bom-ref']);
    expect(new Set(known).size).toBe(known.length);
    for (const { dependsOn } of bill.dependencies) for (const ref of dependsOn) expect(known).toContain(ref);
    for (const { licenses, hashes } of bill.components) expect([licenses.length, hashes.length]).toEqual([1, 1]);
  });

  it('names the packages whose code is in the bundle, in the version that is installed, and none that only tests use', () => {
    const version = (name: string) => JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8')).version;
    const byName = new Map(
      bill.components.map(({ group, name, version: is }) => [group ? `${group}/${name}` : name, is]),
    );
    for (const name of ['zod', 'jose', 'azure-iothub', '@azure/functions', '@azure/identity', '@peculiar/x509']) {
      expect([name, byName.get(name)]).toEqual([name, version(name)]);
    }
    for (const name of ['vitest', 'azurite', 'esbuild', 'aedes', 'azure-iot-device'])
      expect(byName.has(name)).toBe(false);
  });

  it('has the digest of each file beside it', () => {
    const { components } = bill.metadata.component;
    expect(components.map(({ name }) => name).sort()).toEqual(
      Object.keys(unpacked)
        .filter((path) => path !== 'sbom.cdx.json')
        .sort(),
    );
    for (const { name, hashes } of components) {
      expect(hashes[0]?.content).toBe(createHash('sha256').update(contentOf(name)).digest('hex'));
    }
  });

  it('has for each package its license, whose text is in the package', () => {
    const texts = contentOf('THIRD-PARTY-LICENSES.txt');
    for (const { group, name, version } of bill.components) {
      expect(texts).toContain(`${group ? `${group}/` : ''}${name} ${version}`);
    }
    expect(texts).toContain('Permission is hereby granted, free of charge');
    expect(texts).toContain('Apache License');
  });
});

describe('a package of the bundle', () => {
  const lockOf = (packages: object) => {
    const path = join(folder, `lock-${Math.random()}.json`);
    writeFileSync(path, JSON.stringify({ packages }));
    return path;
  };
  const integrity = 'sha512-AAAA';

  it('is found in the folder of the one that brings it, where there are two of a name', () => {
    const lock = lockOf({
      'node_modules/a': { version: '1.0.0', license: 'MIT', integrity, dependencies: { '@s/b': '2' } },
      'node_modules/@s/b': { version: '1.0.0', license: 'MIT', integrity },
      'node_modules/a/node_modules/@s/b': { version: '2.0.0', license: 'MIT', integrity },
    });
    const inputs = ['lib/x.ts', 'node_modules/a/index.js', 'node_modules/a/node_modules/@s/b/x/y.js', '<stdin>'];
    const found = bundledPackages(inputs, lock);
    expect(found.map(({ name, version }) => `${name} ${version}`)).toEqual(['a 1.0.0', '@s/b 2.0.0']);
    expect(found[0]?.dependsOn).toEqual(['@s/b@2.0.0']);
  });

  it('is looked for in the folders around it too, the nearest first', () => {
    const of = { version: '1.0.0', license: 'MIT', integrity };
    const lock = lockOf({
      'node_modules/a': of,
      'node_modules/a/node_modules/c': { ...of, dependencies: { d: '2', e: '1' } },
      'node_modules/a/node_modules/d': { ...of, version: '2.0.0' },
      'node_modules/d': of,
      'node_modules/e': of,
    });
    const paths = ['a', 'a/node_modules/c', 'a/node_modules/d', 'd', 'e'];
    const found = bundledPackages(
      paths.map((path) => `node_modules/${path}/index.js`),
      lock,
    );
    expect(found.find(({ name }) => name === 'c')?.dependsOn).toEqual(['d@2.0.0', 'e@1.0.0']);
  });

  it('is one, where the same version is installed in two folders', () => {
    const b = { version: '1.0.0', license: 'MIT', integrity };
    const lock = lockOf({
      'node_modules/a': { ...b, dependencies: { b: '1', c: '1' } },
      'node_modules/a/node_modules/b': b,
      'node_modules/c': { ...b, dependencies: { b: '1' } },
      'node_modules/c/node_modules/b': { ...b, dependencies: { a: '1' } },
    });
    const inputs = ['a', 'a/node_modules/b', 'c', 'c/node_modules/b'].map((path) => `node_modules/${path}/index.js`);
    const found = bundledPackages(inputs, lock).map(({ name, dependsOn }) => [name, dependsOn]);
    expect(found).toEqual([
      ['a', ['b@1.0.0', 'c@1.0.0']],
      ['b', ['a@1.0.0']],
      ['c', ['b@1.0.0']],
    ]);
  });

  it.each(['GPL-3.0-only', 'UNLICENSED', 'MIT AND GPL-2.0-only', undefined])('is refused under %s', (license) => {
    const lock = lockOf({ 'node_modules/a': { version: '1.0.0', license, integrity } });
    expect(() => bundledPackages(['node_modules/a/index.js'], lock)).toThrow(/a 1\.0\.0 has the license/);
  });

  it('is taken where one of the licenses to choose from is good, and refused where the lock file does not know it', () => {
    const lock = lockOf({ 'node_modules/a': { version: '1.0.0', license: '(MIT OR GPL-3.0-only)', integrity } });
    expect(bundledPackages(['node_modules/a/index.js'], lock)).toHaveLength(1);
    expect(() => bundledPackages(['node_modules/b/index.js'], lock)).toThrow(/no node_modules\/b/);
  });
});

describe('the unpacked package in a Functions host', () => {
  let test: TestCloud;
  beforeAll(async () => {
    test = await startTestCloud({ appDirectory: folder });
  });
  afterAll(() => test?.close());

  it('does the main job: a root, a gateway, a device, its bundle and its join', async () => {
    const { certificate: pem, privateKey: key } = await goodRoot();
    expect(await test.outcome('POST', '/api/v1/roots', { json: { name: 'plant', pem, key } })).toBe('201');
    const gateway = await test.newGateway();
    const onboarded = await test.call('POST', '/api/v1/devices/press-7/onboard', { json: { gateway } });
    expect(onboarded.status).toBe(201);
    expect(onboarded.json.connectionString).toMatch(/^HostName=.*GatewayHostName=gw\.example\.com$/);
    expect(onboarded.json.trust.roots).toMatchObject([{ pem: expect.stringContaining('BEGIN CERTIFICATE') }]);
    const bundle = await test.call('GET', '/api/v1/trust-bundle?format=pkcs7', { authorization: null });
    expect([bundle.status, bundle.headers.get('gatepost-sequence')]).toEqual([200, '1']);
    const { token } = (await test.call('POST', '/api/v1/devices/press-7/join-token', { json: {} })).json;
    const joined = await test.call('POST', '/api/v1/join', { authorization: null, json: { token } });
    expect(joined.json.connectionString).toBe(onboarded.json.connectionString);
  });

  it('describes itself, and knows its timer', async () => {
    const document = await test.call('GET', '/api/v1/openapi.json', { authorization: null });
    expect(document.json.openapi).toMatch(/^3\./);
    await test.cloud.host.invoke('measureRootExpiry');
  });
});
