/**
 * ASP.NET route templates as the HTTP extension of Functions understands them: literals, `{name}`, `{name?}`,
 * `{name=default}`, `{*rest}`, several per segment, and the inline constraints of DefaultInlineConstraintResolver.
 */

export interface RouteTemplate {
  /** The route values of a path (decoded, without leading slash), or undefined where it does not match. */
  match(path: string): Record<string, string> | undefined;
}

type Constraint = (value: string) => boolean;

interface Parameter {
  name: string;
  optional: boolean;
  catchAll: boolean;
  fallback: string | undefined;
  constraints: Constraint[];
}

type Part = string | Parameter;

/** @throws where the template is malformed or names an unknown constraint. */
export function compileTemplate(template: string): RouteTemplate {
  const segments = template
    .split(/\/(?![^{]*\})/)
    .filter((segment) => segment !== '')
    .map(parseSegment);
  const parameters: Parameter[] = [];
  let source = '';
  for (const [index, parts] of segments.entries()) {
    const single = parts.length === 1 ? parts[0] : undefined;
    const isLast = index === segments.length - 1;
    for (const part of parts) if (typeof part !== 'string') parameters.push(part);
    checkSegment(parts, isLast, template);
    const slash = index === 0 ? '' : '/';
    if (typeof single === 'object' && single.catchAll) {
      source += index === 0 ? '(.*)' : '(?:/(.*))?';
    } else if (typeof single === 'object' && segments.slice(index).every(canBeAbsent)) {
      source += `(?:${slash}([^/]+))?`;
    } else {
      source += slash + parts.map((part) => (typeof part === 'string' ? escapePattern(part) : '([^/]+)')).join('');
    }
  }
  const names = parameters.map((parameter) => parameter.name.toLowerCase());
  if (new Set(names).size !== names.length) throw new Error(`The route "${template}" names a parameter twice.`);
  const pattern = new RegExp(`^${source}/?$`, 'i');
  return { match: (path) => match(pattern, parameters, path) };
}

function match(pattern: RegExp, parameters: Parameter[], path: string): Record<string, string> | undefined {
  const found = pattern.exec(path);
  if (found === null) return undefined;
  const values: Record<string, string> = {};
  for (const [index, parameter] of parameters.entries()) {
    const captured = found[index + 1];
    const value = captured === undefined || captured === '' ? parameter.fallback : captured;
    if (value === undefined) {
      // An absent catch-all or optional parameter has no key at all.
      if (parameter.optional || parameter.catchAll) continue;
      return undefined;
    }
    if (!parameter.constraints.every((holds) => holds(value))) return undefined;
    values[parameter.name] = value;
  }
  return values;
}

function canBeAbsent(parts: Part[]): boolean {
  const [part] = parts;
  return (
    parts.length === 1 && typeof part === 'object' && (part.optional || part.catchAll || part.fallback !== undefined)
  );
}

function checkSegment(parts: Part[], isLast: boolean, template: string): void {
  for (const part of parts) {
    if (typeof part === 'string') continue;
    if (part.catchAll && !(isLast && parts.length === 1)) {
      throw new Error(`A catch-all parameter can only appear as the last segment of the route template "${template}".`);
    }
    if (parts.length > 1 && (part.optional || part.fallback !== undefined)) {
      // ASP.NET allows `{name}.{ext?}` alone of these; nobody here needs it, so it is refused rather than half done.
      throw new Error(`An optional parameter must be a segment of its own in the route template "${template}".`);
    }
  }
}

function parseSegment(segment: string): Part[] {
  const parts: Part[] = [];
  // A doubled brace inside a parameter belongs to its regular expression.
  const token = /\{((?:[^{}]|\{\{|\}\})*)\}|([^{}]+)/gy;
  let end = 0;
  for (const found of segment.matchAll(token)) {
    end = found.index + found[0].length;
    const [, parameter, literal] = found;
    const part = parameter === undefined ? (literal ?? '') : parseParameter(parameter);
    if (typeof part !== 'string' && typeof parts.at(-1) === 'object') {
      throw new Error(`Two parameters of "${segment}" touch: a literal must stand between them.`);
    }
    parts.push(part);
  }
  if (end !== segment.length) throw new Error(`"${segment}" is not a segment of a route template.`);
  return parts;
}

function parseParameter(text: string): Parameter {
  const catchAll = text.startsWith('*');
  let rest = text.replace(/^\*{1,2}/, '');
  const name = /^[^:=?*/]+/.exec(rest)?.[0];
  if (name === undefined) throw new Error(`"{${text}}" is not a route parameter.`);
  rest = rest.slice(name.length);
  const constraints: Constraint[] = [];
  while (rest.startsWith(':')) {
    const written = /^:(\w+)(\((?:.*?)\)(?=[:=?]|$))?/.exec(rest);
    if (written === null) throw new Error(`"{${text}}" has a malformed constraint.`);
    constraints.push(constraint(written[1] ?? '', written[2]?.slice(1, -1)));
    rest = rest.slice(written[0].length);
  }
  const fallback = rest.startsWith('=') ? rest.slice(1) : undefined;
  if (rest !== '' && rest !== '?' && fallback === undefined) throw new Error(`"{${text}}" is not a route parameter.`);
  return { name, catchAll, optional: rest === '?', fallback, constraints };
}

function escapePattern(literal: string): string {
  return literal.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

const int32 = 2n ** 31n;
const int64 = 2n ** 63n;

function isInteger(value: string, limit: bigint): boolean {
  if (!/^[+-]?\d{1,20}$/.test(value)) return false;
  const parsed = BigInt(value.replace(/^\+/, ''));
  return parsed >= -limit && parsed < limit;
}

const decimal = /^[+-]?(\d+(\.\d*)?|\.\d+)$/;
const float = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;
const hex = '[0-9a-f]';
const guid = new RegExp(
  `^(${hex}{32}|${hex}{8}(-${hex}{4}){3}-${hex}{12}|\\{${hex}{8}(-${hex}{4}){3}-${hex}{12}\\}|\\(${hex}{8}(-${hex}{4}){3}-${hex}{12}\\))$`,
  'i',
);

const plainConstraints: Record<string, Constraint> = {
  alpha: (value) => /^[a-z]*$/i.test(value),
  bool: (value) => /^\s*(true|false)\s*$/i.test(value),
  datetime: (value) => !Number.isNaN(Date.parse(value)),
  decimal: (value) => decimal.test(value),
  double: (value) => float.test(value),
  float: (value) => float.test(value),
  guid: (value) => guid.test(value),
  int: (value) => isInteger(value, int32),
  long: (value) => isInteger(value, int64),
  required: (value) => value !== '',
};

function constraint(name: string, argument: string | undefined): Constraint {
  const key = name.toLowerCase();
  const plain = plainConstraints[key];
  if (plain !== undefined && argument === undefined) return plain;
  if (key === 'regex' && argument !== undefined) {
    const pattern = new RegExp(argument.replaceAll('{{', '{').replaceAll('}}', '}'), 'i');
    return (value) => pattern.test(value);
  }
  const numbers = (argument ?? '').split(',').map((number) => Number.parseInt(number, 10));
  const [first, second] = numbers;
  if (first === undefined || numbers.some(Number.isNaN)) throw new Error(`Unknown route constraint "${name}".`);
  switch (`${key}/${numbers.length}`) {
    case 'minlength/1':
      return (value) => value.length >= first;
    case 'maxlength/1':
      return (value) => value.length <= first;
    case 'length/1':
      return (value) => value.length === first;
    case 'length/2':
      return (value) => value.length >= first && value.length <= (second ?? first);
    case 'min/1':
      return (value) => isInteger(value, int64) && Number(value) >= first;
    case 'max/1':
      return (value) => isInteger(value, int64) && Number(value) <= first;
    case 'range/2':
      return (value) => isInteger(value, int64) && Number(value) >= first && Number(value) <= (second ?? first);
    default:
      throw new Error(`Unknown route constraint "${name}".`);
  }
}
