import { createHash } from 'node:crypto';
import type { BundledPackage } from './packages.ts';

export interface AppFile {
  path: string;
  content: Uint8Array;
}

/**
 * What the app is made of, as CycloneDX 1.6 (ECMA-424). It bears no time and names itself after its content: the same app
 * has the same bill.
 */
export function billOfMaterials(
  app: { name: string; version: string; license: string },
  packages: readonly BundledPackage[],
  files: readonly AppFile[],
): string {
  const reference = `pkg:npm/${app.name}@${app.version}`;
  const byKey = new Map(packages.map((each) => [`${each.name}@${each.version}`, each]));
  const needed = new Set(packages.flatMap(({ dependsOn }) => dependsOn));
  const bill = {
    metadata: {
      component: {
        type: 'application',
        'bom-ref': reference,
        name: app.name,
        version: app.version,
        licenses: [{ license: { id: app.license } }],
        purl: reference,
        components: files.map(({ path, content }) => ({
          type: 'file',
          name: path,
          hashes: [{ alg: 'SHA-256', content: createHash('sha256').update(content).digest('hex') }],
        })),
      },
    },
    components: packages.map(component),
    dependencies: [
      {
        ref: reference,
        dependsOn: packages.filter(({ name, version }) => !needed.has(`${name}@${version}`)).map(purl),
      },
      ...packages.map((each) => ({
        ref: purl(each),
        dependsOn: each.dependsOn
          .map((key) => byKey.get(key))
          .filter((found) => found !== undefined)
          .map(purl),
      })),
    ],
  };
  const head = { bomFormat: 'CycloneDX', specVersion: '1.6', serialNumber: uuidOf(JSON.stringify(bill)), version: 1 };
  return `${JSON.stringify({ ...head, ...bill }, null, 2)}\n`;
}

function component(each: BundledPackage) {
  const scope = /^(@[^/]+)\/(.+)$/.exec(each.name);
  return {
    type: 'library',
    'bom-ref': purl(each),
    ...(scope === null ? { name: each.name } : { group: scope[1], name: scope[2] }),
    version: each.version,
    licenses: / (?:OR|AND) /.test(each.license) ? [{ expression: each.license }] : [{ license: { id: each.license } }],
    purl: purl(each),
    hashes: [hash(each.integrity)],
  };
}

/** https://github.com/package-url/purl-spec: the @ of a scope is escaped. */
function purl({ name, version }: BundledPackage): string {
  return `pkg:npm/${name.replace('@', '%40')}@${version}`;
}

/** From `sha512-BASE64` to CycloneDX's hexadecimal digits. */
function hash(integrity: string): { alg: string; content: string } {
  const [algorithm = '', digest = ''] = integrity.split('-', 2);
  const names: Record<string, string> = { sha512: 'SHA-512', sha1: 'SHA-1', sha256: 'SHA-256' };
  const alg = names[algorithm];
  if (alg === undefined) throw new Error(`The lock file has an integrity that is not known: ${algorithm}.`);
  return { alg, content: Buffer.from(digest, 'base64').toString('hex') };
}

/** A UUID of version 8 (RFC 9562 section 5.8) made of a digest. */
function uuidOf(text: string): string {
  const digits = createHash('sha256').update(text).digest('hex');
  const parts = [digits.slice(0, 8), digits.slice(8, 12), `8${digits.slice(13, 16)}`, `a${digits.slice(17, 20)}`];
  return `urn:uuid:${parts.join('-')}-${digits.slice(20, 32)}`;
}
