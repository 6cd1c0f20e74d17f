import { HubError } from './errors.ts';

/** A dotted name such as `tags.site`. */
export type Path = string[];

export type Value = string | number | boolean | null;

export type Operator = '=' | '!=' | '<' | '<=' | '>' | '>=';

export type Operand = { path: Path } | { value: Value };

export type Condition =
  | { kind: 'and' | 'or'; left: Condition; right: Condition }
  | { kind: 'not'; of: Condition }
  | { kind: 'compare'; operator: Operator; left: Operand; right: Operand }
  | { kind: 'in'; left: Operand; values: Value[]; negated: boolean }
  | { kind: 'call'; name: FunctionName; arguments: Operand[] };

export type FunctionName = keyof typeof functionArguments;

export interface Query {
  /** undefined: `*`. */
  items: ({ path: Path; name: string } | { count: true; name: string })[] | undefined;
  top: number | undefined;
  from: 'devices' | 'devices.modules';
  where: Condition | undefined;
}

/** The functions of a condition, with how many arguments each takes. */
const functionArguments = {
  is_defined: 1,
  is_null: 1,
  is_bool: 1,
  is_number: 1,
  is_string: 1,
  is_object: 1,
  array_contains: 2,
  startswith: 2,
  endswith: 2,
} as const;

type Token =
  | { kind: 'name'; text: string; quoted: boolean }
  | { kind: 'value'; value: Value }
  | { kind: 'mark'; text: string };

const tokenPattern =
  /\s*(?:(?<quoted>\[\[[^\]]+\]\])|(?<name>[A-Za-z_$][\w$]*)|(?<number>-?\d+(?:\.\d+)?)|(?<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?<mark><=|>=|!=|<>|[=<>(),.*[\]]))/y;

/** Reads the subset of the IoT Hub query language that this double speaks; throws 400 for the rest of it. */
export function parseQuery(text: string): Query {
  return new Parser(tokenize(text)).query();
}

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  const source = text.trimEnd();
  tokenPattern.lastIndex = 0;
  while (tokenPattern.lastIndex < source.length) {
    const at = tokenPattern.lastIndex;
    const groups = tokenPattern.exec(source)?.groups;
    if (groups === undefined) throw invalid(`cannot read it from '${source.slice(at, at + 20)}' on`);
    if (groups.quoted !== undefined) tokens.push({ kind: 'name', text: groups.quoted.slice(2, -2), quoted: true });
    else if (groups.name !== undefined) tokens.push(nameToken(groups.name));
    else if (groups.number !== undefined) tokens.push({ kind: 'value', value: Number(groups.number) });
    else if (groups.text !== undefined) {
      tokens.push({ kind: 'value', value: groups.text.slice(1, -1).replace(/\\(.)/g, '$1') });
    } else tokens.push({ kind: 'mark', text: groups.mark === '<>' ? '!=' : (groups.mark ?? '') });
  }
  return tokens;
}

function nameToken(text: string): Token {
  const word = text.toLowerCase();
  if (word === 'true' || word === 'false') return { kind: 'value', value: word === 'true' };
  return word === 'null' ? { kind: 'value', value: null } : { kind: 'name', text, quoted: false };
}

class Parser {
  readonly #tokens: Token[];
  #next = 0;

  constructor(tokens: Token[]) {
    this.#tokens = tokens;
  }

  query(): Query {
    this.#expectWord('select');
    const top = this.#takeWord('top') ? this.#number() : undefined;
    const items = this.#takeMark('*') ? undefined : this.#list(() => this.#item());
    this.#expectWord('from');
    const from = this.#path().join('.').toLowerCase();
    if (from !== 'devices' && from !== 'devices.modules') throw invalid(`cannot select from ${from}`);
    const where = this.#takeWord('where') ? this.#or() : undefined;
    const rest = this.#tokens[this.#next];
    if (rest !== undefined) throw invalid(`'${describe(rest)}' is not expected; GROUP BY is not spoken here`);
    const counts = items?.filter((item) => 'count' in item).length ?? 0;
    if (counts > 0 && items?.length !== 1) throw invalid('COUNT() stands alone');
    return { items, top, from, where };
  }

  #item(): { path: Path; name: string } | { count: true; name: string } {
    if (this.#takeWord('count')) {
      this.#expectMark('(');
      this.#expectMark(')');
      this.#expectWord('as');
      return { count: true, name: this.#name() };
    }
    const path = this.#path();
    return { path, name: this.#takeWord('as') ? this.#name() : (path.at(-1) ?? '') };
  }

  #or(): Condition {
    let left = this.#and();
    while (this.#takeWord('or')) left = { kind: 'or', left, right: this.#and() };
    return left;
  }

  #and(): Condition {
    let left = this.#not();
    while (this.#takeWord('and')) left = { kind: 'and', left, right: this.#not() };
    return left;
  }

  #not(): Condition {
    if (this.#takeWord('not')) return { kind: 'not', of: this.#not() };
    if (!this.#takeMark('(')) return this.#predicate();
    const inner = this.#or();
    this.#expectMark(')');
    return inner;
  }

  #predicate(): Condition {
    const call = this.#call();
    if (call !== undefined) return call;
    const left = this.#operand();
    if (this.#takeWord('in')) return { kind: 'in', left, values: this.#values(), negated: false };
    if (this.#takeWord('nin')) return { kind: 'in', left, values: this.#values(), negated: true };
    for (const operator of ['=', '!=', '<=', '>=', '<', '>'] as const) {
      if (this.#takeMark(operator)) return { kind: 'compare', operator, left, right: this.#operand() };
    }
    // A property by itself is true where it is true.
    return { kind: 'compare', operator: '=', left, right: { value: true } };
  }

  #call(): Condition | undefined {
    const token = this.#tokens[this.#next];
    const after = this.#tokens[this.#next + 1];
    if (token?.kind !== 'name' || after?.kind !== 'mark' || after.text !== '(') return undefined;
    const name = token.text.toLowerCase();
    if (!isFunction(name)) throw invalid(`the function ${token.text} is not known`);
    this.#next += 2;
    const given = this.#list(() => this.#operand());
    this.#expectMark(')');
    if (given.length !== functionArguments[name]) throw invalid(`${name} takes ${functionArguments[name]} arguments`);
    return { kind: 'call', name, arguments: given };
  }

  #operand(): Operand {
    const token = this.#tokens[this.#next];
    if (token?.kind !== 'value') return { path: this.#path() };
    this.#next += 1;
    return { value: token.value };
  }

  #values(): Value[] {
    const close = this.#takeMark('[') ? ']' : ')';
    if (close === ')') this.#expectMark('(');
    const values = this.#list(() => {
      const operand = this.#operand();
      if ('path' in operand) throw invalid('IN takes literals');
      return operand.value;
    });
    this.#expectMark(close);
    return values;
  }

  #path(): Path {
    const path = [this.#name()];
    while (this.#takeMark('.')) path.push(this.#name());
    return path;
  }

  #name(): string {
    const token = this.#tokens[this.#next];
    if (token?.kind !== 'name') throw invalid(`a name is expected at '${describe(token)}'`);
    this.#next += 1;
    return token.text;
  }

  #number(): number {
    const token = this.#tokens[this.#next];
    if (token?.kind !== 'value' || typeof token.value !== 'number') throw invalid('TOP takes a number');
    this.#next += 1;
    return token.value;
  }

  #list<T>(read: () => T): T[] {
    const list = [read()];
    while (this.#takeMark(',')) list.push(read());
    return list;
  }

  #takeWord(word: string): boolean {
    const token = this.#tokens[this.#next];
    const isThere = token?.kind === 'name' && !token.quoted && token.text.toLowerCase() === word;
    if (isThere) this.#next += 1;
    return isThere;
  }

  #takeMark(mark: string): boolean {
    const token = this.#tokens[this.#next];
    const isThere = token?.kind === 'mark' && token.text === mark;
    if (isThere) this.#next += 1;
    return isThere;
  }

  #expectWord(word: string): void {
    if (!this.#takeWord(word)) throw invalid(`${word} is expected at '${describe(this.#tokens[this.#next])}'`);
  }

  #expectMark(mark: string): void {
    if (!this.#takeMark(mark)) throw invalid(`'${mark}' is expected at '${describe(this.#tokens[this.#next])}'`);
  }
}

function isFunction(name: string): name is FunctionName {
  return Object.hasOwn(functionArguments, name);
}

function describe(token: Token | undefined): string {
  if (token === undefined) return 'the end';
  return token.kind === 'value' ? String(token.value) : token.text;
}

function invalid(why: string): HubError {
  return new HubError('ArgumentInvalid', `BadRequest: the query is not valid: ${why}.`);
}
