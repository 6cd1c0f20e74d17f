import { readFileSync } from 'node:fs';

/** A package of which code is in the app. */
export interface BundledPackage {
  name: string;
  version: string;
  /** An SPDX expression. */
  license: string;
  /** Subresource integrity of the registry's archive, as the lock file has it. */
  integrity: string;
  /** Its folder, such as `node_modules/zod`. */
  path: string;
  /** Those among the bundled packages that it depends on, as `name@version`. */
  dependsOn: string[];
}

interface LockEntry {
  version: string;
  license?: string;
  integrity?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
}

/** What may be handed on with an app under the MIT license, given that its text goes along. */
const allowedLicenses = ['MIT', 'ISC', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'MIT-0', 'BlueOak-1.0.0'];

/**
 * The packages that `inputs`, the files of the bundle, belong to, by the lock file's word.
 *
 * @throws where the lock file does not know one, or its license may not be handed on.
 */
export function bundledPackages(inputs: readonly string[], lockFile: string): BundledPackage[] {
  const lock = (JSON.parse(readFileSync(lockFile, 'utf8')) as { packages: Record<string, LockEntry> }).packages;
  const paths = [...new Set(inputs.map(packagePath).filter((path) => path !== undefined))].sort();
  const found = paths.map((path) => {
    const name = nameOf(path);
    const { version, license, integrity, ...entry } = lock[path] ?? failed(`The lock file has no ${path}.`);
    if (license === undefined || !isAllowed(license)) failed(`${name} ${version} has the license ${license}.`);
    if (integrity === undefined) failed(`The lock file has no integrity of ${name} ${version}.`);
    const wanted = { ...entry.dependencies, ...entry.optionalDependencies, ...entry.peerDependencies };
    const dependencies = Object.keys(wanted).map((dependency) => resolve(path, dependency, lock));
    const dependsOn = dependencies
      .filter((each) => paths.includes(each))
      .map((each) => `${nameOf(each)}@${lock[each]?.version}`);
    return { name, version, license, integrity, path, dependsOn };
  });
  return merged(found);
}

/** The same version may be installed in several folders: it is one package all the same. */
function merged(packages: readonly BundledPackage[]): BundledPackage[] {
  const copies = Map.groupBy(packages, ({ name, version }) => `${name}@${version}`);
  return [...copies.values()].map((same) => {
    const dependsOn = [...new Set(same.flatMap((each) => each.dependsOn))].sort();
    return { ...(same[0] as BundledPackage), dependsOn };
  });
}

/** The folder of the package that a file belongs to; undefined for a file of our own. */
function packagePath(file: string): string | undefined {
  return /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file)?.[0];
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
}

/** As Node looks for it: in the package's own folder, then in those around it. */
function resolve(from: string, name: string, lock: Record<string, unknown>): string {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    const path = folder === '' ? `node_modules/${name}` : `${folder}/node_modules/${name}`;
    if (path in lock || folder === '') return path;
  }
}

/** One license, or a choice of which one is allowed. */
function isAllowed(expression: string): boolean {
  const choices = expression.replace(/^\(|\)$/g, '').split(' OR ');
  return choices.some((choice) => choice.split(' AND ').every((license) => allowedLicenses.includes(license)));
}

function failed(message: string): never {
  throw new Error(message);
}
