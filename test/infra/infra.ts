import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type BicepFile, bicepParser, type Deployed } from './bicep.ts';

export interface Role {
  id: string;
  name: string;
  identity: 'api' | 'trustManager';
  scope: 'vault' | 'hub' | 'storage' | 'component';
  why: string;
  calls: { file: string; text: string }[];
}

/** Everything below infra/ that is deployed, and the code that it is deployed for. */
export interface Infra {
  /** By their path below infra/. */
  files: Map<string, BicepFile>;
  roles: Record<string, Role>;
  parameters: Record<string, { value: unknown }>;
  /** A file of the repository. */
  source(path: string): string;
  /** Files of a folder of the repository, by their path in it. */
  list(folder: string): string[];
}

/** What is wrong with a tree, in words; nothing where all is well. */
export type Rule = (infra: Infra) => string[];

/** A change of one file, to prove that a rule notices it. */
export interface Mutation {
  path: string;
  find: string;
  put: string;
}

const root = fileURLToPath(new URL('../..', import.meta.url));

/** A loader of the tree as it is, or with one file changed. */
export async function infraLoader(): Promise<(mutation?: Mutation) => Infra> {
  const parse = await bicepParser();
  const list = (folder: string) =>
    readdirSync(`${root}${folder}`, { recursive: true, encoding: 'utf8' }).map((name) => `${folder}/${name}`);
  return (mutation) => {
    const source = (path: string) => {
      const text = readFileSync(`${root}${path}`, 'utf8');
      if (mutation?.path !== path) return text;
      if (!text.includes(mutation.find)) throw new Error(`${path} has no ${mutation.find}`);
      return text.replace(mutation.find, () => mutation.put);
    };
    const paths = list('infra').filter((path) => path.endsWith('.bicep'));
    return {
      files: new Map(paths.map((path) => [path.slice('infra/'.length), parse(path, source(path))])),
      roles: JSON.parse(source('infra/roles.json')),
      parameters: JSON.parse(source('infra/main.parameters.json')).parameters,
      source,
      list,
    };
  };
}

/** Every resource that is deployed, with the file that declares it. */
export function deployed(infra: Infra, type?: string): { file: BicepFile; resource: Deployed }[] {
  return [...infra.files.values()]
    .flatMap((file) => file.resources.map((resource) => ({ file, resource })))
    .filter(({ resource }) => !resource.existing && (type === undefined || resource.of.startsWith(`${type}@`)));
}

/** The one file of a name. */
export function fileOf(infra: Infra, path: string): BicepFile {
  const file = infra.files.get(path);
  if (file === undefined) throw new Error(`infra/ has no ${path}.`);
  return file;
}
