import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BundledPackage } from './packages.ts';

const rule = '-'.repeat(100);

/** The packages in the app with the texts that their licenses ask to be handed on. */
export function thirdPartyLicenses(packages: readonly BundledPackage[], root: string): string {
  const listed = packages.map(({ name, version, license }) => `${name} ${version}: ${license}`);
  const texts = packages.map((each) => {
    const { name, version, license } = each;
    return [rule, `${name} ${version} (${license})`, rule, '', textOf(each, root), ''].join('\n');
  });
  const head = 'The Gatepost function app contains code of these packages, each under its own license:';
  return `${[head, '', ...listed, '', ...texts].join('\n')}\n`;
}

function textOf({ path, license }: BundledPackage, root: string): string {
  const folder = join(root, path);
  const files = readdirSync(folder).filter((name) => /^(?:licen[cs]e|copying|notice|copyright)/i.test(name));
  if (files.length === 0) return `The package has no file with the text; its package.json says ${license}.`;
  return files
    .sort()
    .map((name) => readFileSync(join(folder, name), 'utf8').replaceAll('\r\n', '\n').trim())
    .join('\n\n');
}
