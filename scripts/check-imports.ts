import { globSync, readFileSync } from 'node:fs';
import { dirname, join, posix, resolve } from 'node:path';
import { parseAst } from 'vitest/node';

/** One import as it stands in the source. `to` is a path below the root for our own files, else a package name. */
export interface Edge {
  from: string;
  line: number;
  specifier: string;
  to: string;
}

export interface Violation extends Edge {
  rule: string;
  cure: string;
}

interface Rule {
  rule: string;
  cure: string;
  broken(edge: Edge): boolean;
}

const sources = '{functions,lib,device,local,scripts,infra,bench,test}/**/*.{ts,mts,cts,js,mjs,cjs}';
const compositionRoot = ['functions/index.ts', 'functions/services.ts'];
/** The workspace package, so that `import 'gatepost-device'` is seen as what it is. */
const ownPackages: Record<string, string> = { 'gatepost-device': 'device/src' };
const computed = '(computed)';

const isIn = (path: string, ...folders: string[]) => folders.some((folder) => path.startsWith(`${folder}/`));
const isFunctionsPackage = (name: string) => name === '@azure/functions' || name === '@azure/functions-core';
const isAzureSdk = (name: string) =>
  !isFunctionsPackage(name) && (name.startsWith('@azure/') || name.startsWith('azure-iot'));

const rules: Rule[] = [
  {
    rule: 'lib/ is the product and does not know the platform that serves it',
    cure: 'take what you need as a parameter, or move the wiring to functions/',
    broken: ({ from, to }) => isIn(from, 'lib') && isFunctionsPackage(to),
  },
  {
    rule: 'only lib/azure/ speaks to Azure SDKs',
    cure: 'declare an interface in the folder that needs it and implement it in lib/azure/',
    broken: ({ from, to }) => isIn(from, 'lib', 'functions') && !isIn(from, 'lib/azure') && isAzureSdk(to),
  },
  {
    rule: 'lib/ knows interfaces, never the adapters in lib/azure/',
    cure: 'depend on the interface; the composition root in functions/ hands the adapter in',
    broken: ({ from, to }) => isIn(from, 'lib') && !isIn(from, 'lib/azure') && isIn(to, 'lib/azure'),
  },
  {
    rule: 'only the composition root chooses adapters',
    cure: `take it from Services; build it in ${compositionRoot.join(' or ')}`,
    broken: ({ from, to }) => isIn(from, 'functions') && !compositionRoot.includes(from) && isIn(to, 'lib/azure'),
  },
  {
    rule: 'lib/ depends on nothing of ours but lib/',
    cure: 'move the shared part into lib/, or turn the arrow round with an interface in lib/',
    broken: ({ from, to }) => isIn(from, 'lib') && isIn(to, 'functions', 'device', 'local', 'scripts', 'bench'),
  },
  {
    rule: 'functions/ depends on nothing of ours but lib/',
    cure: 'move the shared part into lib/',
    broken: ({ from, to }) => isIn(from, 'functions') && isIn(to, 'device', 'local', 'scripts', 'bench'),
  },
  {
    rule: 'a double that imports the product it tests proves nothing: local/ depends on nothing of ours but local/',
    cure: 'write it again in local/ from the documentation of the real service',
    broken: ({ from, to }) => isIn(from, 'local') && isIn(to, 'lib', 'functions', 'device', 'scripts', 'bench'),
  },
  {
    rule: 'device/ is installed on its own: it depends on nothing of ours but device/',
    cure: 'speak to the backend over HTTP, or move the code into device/src',
    broken: ({ from, to }) => isIn(from, 'device') && isIn(to, 'lib', 'functions', 'local', 'scripts', 'bench'),
  },
  {
    rule: 'nothing imports test/',
    cure: 'move the helper to the code that owns it',
    broken: ({ from, to }) => !isIn(from, 'test') && isIn(to, 'test'),
  },
  {
    rule: 'an import whose target is computed cannot be checked',
    cure: "write the target out: import('./file.ts')",
    broken: ({ from, to }) => to === computed && isIn(from, 'functions', 'lib', 'device/src'),
  },
];

/** Every import, re-export, `import()`, `require()` and `import('…')` type of the sources below `root`. */
export function readEdges(root: string): Edge[] {
  const exclude = (path: string) => /(^|\/)(node_modules|dist)(\/|$)/.test(path);
  const files = globSync(sources, { cwd: root, exclude }).sort();
  return files.flatMap((file) => edgesOf(root, file.replaceAll('\\', '/')));
}

/** The edges that point the wrong way, with the rule each breaks and what to do about it. */
export function violations(edges: Edge[]): Violation[] {
  return edges.flatMap((edge) =>
    rules.filter(({ broken }) => broken(edge)).map(({ rule, cure }) => ({ ...edge, rule, cure })),
  );
}

function edgesOf(root: string, file: string): Edge[] {
  const source = readFileSync(join(root, file), 'utf8');
  const lang = /\.[mc]?ts$/.test(file) ? 'ts' : 'js';
  return importsOf(parseAst(source, { lang })).map(({ specifier, start }) => ({
    from: file,
    line: source.slice(0, start).split('\n').length,
    specifier,
    to: specifier === computed ? computed : target(file, specifier),
  }));
}

interface Import {
  specifier: string;
  start: number;
}

interface Node {
  type: string;
  start: number;
  source?: unknown;
  callee?: Record<string, unknown>;
  arguments?: unknown[];
}

/** Walks the whole tree, because `import()` and `require()` may stand anywhere. */
function importsOf(tree: unknown): Import[] {
  if (Array.isArray(tree)) return tree.flatMap(importsOf);
  if (typeof tree !== 'object' || tree === null) return [];
  const own = isNode(tree) ? importOf(tree) : undefined;
  const below = Object.values(tree).flatMap(importsOf);
  return own === undefined ? below : [own, ...below];
}

function importOf(node: Node): Import | undefined {
  switch (node.type) {
    case 'ImportDeclaration':
    case 'ExportAllDeclaration':
    case 'ExportNamedDeclaration':
    case 'ImportExpression':
    case 'TSImportType':
      return node.source === null || node.source === undefined ? undefined : imported(node, node.source);
    case 'TSExternalModuleReference':
      return imported(node, (node as { expression?: unknown }).expression);
    case 'CallExpression':
      return node.callee?.type === 'Identifier' && node.callee.name === 'require'
        ? imported(node, node.arguments?.[0])
        : undefined;
    default:
      return undefined;
  }
}

function imported(node: Node, source: unknown): Import {
  const value = isNode(source) && source.type === 'Literal' ? (source as { value?: unknown }).value : undefined;
  return { specifier: typeof value === 'string' ? value : computed, start: node.start };
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && typeof (value as { type?: unknown }).type === 'string';
}

function target(file: string, specifier: string): string {
  if (specifier.startsWith('.')) return posix.join(posix.dirname(file), specifier);
  const name = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
  const own = ownPackages[name];
  return own === undefined ? name : `${own}/${specifier.slice(name.length + 1) || 'index.ts'}`;
}

/** Checks the tree below `root` and answers what to print and the exit code. */
export function report(root: string): { text: string; failed: boolean } {
  const edges = readEdges(root);
  const found = violations(edges);
  if (found.length === 0) {
    const files = new Set(edges.map(({ from }) => from)).size;
    return { text: `arrows: ${edges.length} imports in ${files} files point the right way`, failed: false };
  }
  const lines = found.map(({ from, line, specifier, rule, cure }) =>
    [`${from}:${line} imports '${specifier}'`, `  rule: ${rule}`, `  cure: ${cure}`].join('\n'),
  );
  return { text: `${lines.join('\n\n')}\n\narrows: ${found.length} imports point the wrong way`, failed: true };
}

if (import.meta.main) {
  const { text, failed } = report(resolve(process.argv[2] ?? dirname(import.meta.dirname)));
  (failed ? process.stderr : process.stdout).write(`${text}\n`);
  process.exitCode = failed ? 1 : 0;
}
