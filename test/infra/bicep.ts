import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Language, type Node, Parser } from 'web-tree-sitter';

/** Anything that is not written out: a name, a call, a text with something inserted. */
export class Expression {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

export type BicepObject = Map<string, Value>;
export type Value = string | number | boolean | null | Expression | Value[] | BicepObject;

export interface Declaration {
  name: string;
  decorators: Map<string, Value[]>;
}

export interface Parameter extends Declaration {
  type: string;
  hasDefault: boolean;
}

export interface Output extends Declaration {
  value: string;
}

/** A resource or a module. */
export interface Deployed extends Declaration {
  /** `Microsoft.KeyVault/vaults@2023-07-01`, or the path of the module. */
  of: string;
  existing: boolean;
  condition: string | undefined;
  /** What is gone through, where there are several. */
  over: string | undefined;
  body: BicepObject;
}

export interface BicepFile {
  path: string;
  text: string;
  hasError: boolean;
  parameters: Parameter[];
  variables: Map<string, Value>;
  resources: Deployed[];
  modules: Deployed[];
  outputs: Output[];
  /** Names that are declared, and properties that are set, more than once: the grammar lets them pass. */
  twice: string[];
  /** Every name that is used, with how often: declarations do not count. */
  uses: Map<string, number>;
}

const require = createRequire(import.meta.url);

/** A parser of Bicep. The grammar is WebAssembly: nothing is compiled for this machine. */
export async function bicepParser(): Promise<(path: string, text: string) => BicepFile> {
  await Parser.init();
  const grammar = new Uint8Array(readFileSync(require.resolve('tree-sitter-bicep/tree-sitter-bicep.wasm')));
  const parser = new Parser();
  parser.setLanguage(await Language.load(grammar));
  return (path, text) => {
    const tree = parser.parse(text);
    if (tree === null) throw new Error(`${path} was not parsed.`);
    return toFile(path, text, tree.rootNode);
  };
}

function toFile(path: string, text: string, root: Node): BicepFile {
  const file: BicepFile = {
    path,
    text,
    hasError: root.hasError,
    parameters: [],
    variables: new Map(),
    resources: [],
    modules: [],
    outputs: [],
    twice: twiceIn(root),
    uses: usesIn(root),
  };
  let decorators = new Map<string, Value[]>();
  for (const node of childrenOf(root)) {
    if (node.type === 'decorators') {
      decorators = decoratorsOf(node);
      continue;
    }
    add(file, node, { name: childrenOf(node)[0]?.text ?? '', decorators });
    decorators = new Map();
  }
  return file;
}

function add(file: BicepFile, node: Node, declaration: Declaration): void {
  const [, second, third] = childrenOf(node);
  switch (node.type) {
    case 'parameter_declaration':
      file.parameters.push({ ...declaration, type: second?.text ?? '', hasDefault: third !== undefined });
      break;
    case 'variable_declaration':
      if (second !== undefined) file.variables.set(declaration.name, readValue(second));
      break;
    case 'output_declaration':
      file.outputs.push({ ...declaration, value: third?.text ?? '' });
      break;
    case 'resource_declaration':
      file.resources.push(deployedOf(node, declaration));
      break;
    case 'module_declaration':
      file.modules.push(deployedOf(node, declaration));
      break;
  }
}

function deployedOf(node: Node, declaration: Declaration): Deployed {
  const [, of, third] = childrenOf(node);
  const value = of === undefined ? '' : readValue(of);
  const body = third === undefined ? undefined : objectIn(third);
  return {
    ...declaration,
    of: typeof value === 'string' ? value : '',
    existing: node.children.some((child) => child?.type === 'existing'),
    condition: third?.type === 'if_statement' ? childrenOf(third)[0]?.text : undefined,
    over: third?.type === 'for_statement' ? childrenOf(third).at(-2)?.text : undefined,
    body: body === undefined ? new Map() : toObject(body),
  };
}

/** The object of a declaration, of an `if` or of a loop. */
function objectIn(node: Node): Node | undefined {
  if (node.type === 'object') return node;
  const within = childrenOf(node).filter(({ type }) => ['object', 'if_statement', 'for_statement'].includes(type));
  const last = within.at(-1);
  return last === undefined ? undefined : objectIn(last);
}

function decoratorsOf(node: Node): Map<string, Value[]> {
  const calls = childrenOf(node).map((decorator) => childrenOf(decorator)[0]);
  return new Map(
    calls.map((call) => {
      const [name, args] = call === undefined ? [] : childrenOf(call);
      return [name?.text ?? '', args === undefined ? [] : childrenOf(args).map(readValue)];
    }),
  );
}

function readValue(node: Node): Value {
  switch (node.type) {
    case 'string':
      return literalOf(node) ?? new Expression(node.text);
    case 'number':
      return Number(node.text);
    case 'boolean':
      return node.text === 'true';
    case 'null':
      return null;
    case 'array':
      return childrenOf(node).map(readValue);
    case 'object':
      return toObject(node);
    default:
      return new Expression(node.text);
  }
}

function toObject(node: Node): BicepObject {
  const properties = childrenOf(node).filter(({ type }) => type === 'object_property');
  return new Map(
    properties.map((property) => {
      const [key, value] = childrenOf(property);
      const name = key?.type === 'string' ? (literalOf(key) ?? key.text) : (key?.text ?? '');
      return [name, value === undefined ? null : readValue(value)];
    }),
  );
}

/** The text of a string that has nothing inserted. */
function literalOf(node: Node): string | undefined {
  if (childrenOf(node).some(({ type }) => type === 'interpolation')) return undefined;
  const { text } = node;
  return text.startsWith("'''") ? text.slice(3, -3).replace(/^\r?\n/, '') : text.slice(1, -1).replace(/\\(.)/g, '$1');
}

function twiceIn(root: Node): string[] {
  const found: string[] = [];
  const visit = (node: Node): void => {
    const children = childrenOf(node);
    const isNamed = ({ type }: Node) => type === 'object_property' || /_declaration$/.test(type);
    // Outputs have names of their own, apart from those of everything else.
    const names = children
      .filter(isNamed)
      .map((child) => `${child.type === 'output_declaration' ? 'output ' : ''}${childrenOf(child)[0]?.text}`);
    found.push(...names.filter((name, index) => names.indexOf(name) !== index));
    for (const child of children) visit(child);
  };
  visit(root);
  return found;
}

function usesIn(root: Node): Map<string, number> {
  const uses = new Map<string, number>();
  const declared = new Set(
    childrenOf(root)
      .filter(({ type }) => type.endsWith('_declaration'))
      .map((node) => childrenOf(node)[0]?.id),
  );
  const visit = (node: Node): void => {
    const isKey = node.parent?.type === 'object_property' && node.parent.namedChild(0)?.id === node.id;
    if (node.type === 'identifier' && !declared.has(node.id) && !isKey) {
      uses.set(node.text, (uses.get(node.text) ?? 0) + 1);
    }
    for (const child of childrenOf(node)) visit(child);
  };
  visit(root);
  return uses;
}

function childrenOf(node: Node): Node[] {
  return node.namedChildren.filter((child) => child !== null && child.type !== 'comment');
}

/** What stands at a path of property names, such as `properties.networkAcls`; undefined where nothing does. */
export function at(object: BicepObject, path: string): Value | undefined {
  let found: Value | undefined = object;
  for (const name of path.split('.')) found = found instanceof Map ? found.get(name) : undefined;
  return found;
}

/** A value as it is written, for comparisons with expressions. */
export function written(value: Value | undefined): string {
  return value instanceof Expression ? value.text : String(value);
}
