import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Zippable, zipSync } from 'fflate';
import { type AppFile, billOfMaterials } from './package/bill-of-materials.ts';
import { thirdPartyLicenses } from './package/licenses.ts';
import { bundledPackages } from './package/packages.ts';

const root = resolve(fileURLToPath(new URL('..', import.meta.url)));
const mostBytes = 6 * 1024 * 1024;

export interface Package {
  /** Everything that is deployed, and nothing else. */
  zip: Uint8Array;
  files: AppFile[];
  /** CycloneDX, for whoever asks what is in it. It is in the zip too. */
  bill: string;
}

/**
 * Makes the deployable app of what `npm run build` left in dist/: the bundle, host.json, a package.json that names the entry
 * point, the bill of materials and the licenses. There is no node_modules: nothing is installed in Azure. The same sources
 * make the same bytes.
 *
 * @throws where the zip is above 6 MB, or holds what may not be handed on.
 */
export function packageApp(): Package {
  const inputs = JSON.parse(text('dist/inputs.json')) as Record<string, string[]>;
  const { name, version, license, main } = JSON.parse(text('package.json')) as Record<string, string>;
  const app = { name: name ?? '', version: version ?? '', license: license ?? '' };
  const bundled = bundledPackages(Object.values(inputs).flat(), join(root, 'package-lock.json'));
  const code = [
    ...Object.keys(inputs).map((path) => file(`dist/${path}`, text(`dist/${path}`))),
    file('host.json', text('host.json')),
    file('package.json', `${JSON.stringify({ ...app, private: true, main }, null, 2)}\n`),
    file('LICENSE', text('LICENSE')),
    file('THIRD-PARTY-LICENSES.txt', thirdPartyLicenses(bundled, root)),
  ].sort((one, other) => (one.path < other.path ? -1 : 1));
  const bill = billOfMaterials(app, bundled, code);
  const files = [...code, file('sbom.cdx.json', bill)];
  const zip = zipped(files);
  if (zip.length > mostBytes) throw new Error(`The package has ${zip.length} bytes, above the limit of ${mostBytes}.`);
  return { zip, files, bill };
}

function text(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

function file(path: string, content: string): AppFile {
  return { path, content: Buffer.from(content) };
}

function zipped(files: readonly AppFile[]): Uint8Array {
  // The first moment that a zip can tell; regular files that everybody may read.
  const settings = { level: 9, mtime: new Date(1980, 0, 1), os: 3, attrs: (0o100644 << 16) >>> 0 } as const;
  const entries = files.map(({ path, content }) => [path, [new Uint8Array(content), settings]] as const);
  return zipSync(Object.fromEntries(entries) as unknown as Zippable);
}

/** dist/gatepost.zip, its content once more as a folder for azd, and the bill beside it. */
function write({ zip, files, bill }: Package): void {
  const folder = join(root, 'dist', 'app');
  rmSync(folder, { recursive: true, force: true });
  for (const { path, content } of files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
  writeFileSync(join(root, 'dist', 'gatepost.zip'), zip);
  writeFileSync(join(root, 'dist', 'sbom.cdx.json'), bill);
  const components = (JSON.parse(bill) as { components: unknown[] }).components.length;
  const size = (zip.length / 1024 / 1024).toFixed(2);
  console.log(`dist/gatepost.zip: ${size} MB, ${readdirSync(folder).length} entries, code of ${components} packages`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) write(packageApp());
