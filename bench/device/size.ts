import { execFileSync } from 'node:child_process';
import { lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export interface Installed {
  bytes: number;
  packages: number;
}

interface LockEntry {
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

const root = resolve(import.meta.dirname, '../..');

/** Packs the package as built, installs it into an empty folder without any registry, and weighs what is there then. */
export function installedSize(): Installed {
  const folder = mkdtempSync(join(tmpdir(), 'gatepost-bench-'));
  try {
    const npm = (parameters: string[], cwd: string) =>
      execFileSync('npm', parameters, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    const packed = npm(
      ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder],
      join(root, 'device'),
    ).trim();
    npm(['install', '--offline', '--no-audit', '--no-fund', '--prefix', folder, join(folder, packed)], folder);
    const modules = join(folder, 'node_modules');
    const packages = readdirSync(modules, { recursive: true }).filter((path) => /(^|\/)package\.json$/.test(`${path}`));
    return { bytes: bytesOf(modules), packages: packages.length };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What `npm install` of these packages brings along: they, and all that the lock file has them depend on, as installed here. */
export function sizeOfPackages(names: string[]): Installed {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, LockEntry>;
  };
  const reached = new Set<string>();
  const reach = (from: string, name: string) => {
    const path = locate(packages, from, name);
    if (path === undefined || reached.has(path)) return;
    reached.add(path);
    const { dependencies, optionalDependencies } = packages[path] ?? {};
    for (const each of Object.keys({ ...dependencies, ...optionalDependencies })) reach(path, each);
  };
  for (const name of names) reach('', name);
  // What is nested in a package's own folder is a package of its own, and counted where it was reached.
  const bytes = [...reached].reduce((sum, path) => sum + bytesOf(join(root, path), 'node_modules'), 0);
  return { bytes, packages: reached.size };
}

/** As Node looks for it: in the package's own folder, then in those around it. */
function locate(packages: Record<string, LockEntry>, from: string, name: string): string | undefined {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
    const path = folder === '' ? `node_modules/${name}` : `${folder}/node_modules/${name}`;
    if (path in packages) return path;
    if (folder === '') return undefined;
  }
}

/** The bytes of all files, whatever the blocks of this machine's disk are. */
function bytesOf(folder: string, except?: string): number {
  return readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return entry.name === except ? sum : sum + bytesOf(path, except);
    return sum + lstatSync(path).size;
  }, 0);
}
