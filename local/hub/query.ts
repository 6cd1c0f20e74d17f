import { type TwinObject, twinJson } from './model.ts';
import type { Condition, FunctionName, Operand, Operator, Path, Query } from './query-parser.ts';
import type { HubRegistry } from './registry.ts';

/** A row with the key that it is ordered by. */
export interface Row {
  key: string;
  twin: TwinObject;
}

/** The rows that a query selects, ordered so that pages stay pages while identities come and go. */
export function selectRows(registry: HubRegistry, query: Query): Row[] {
  const rows: Row[] = [];
  for (const device of registry.devices.values()) {
    if (query.from === 'devices') rows.push({ key: device.deviceId, twin: twinJson(device) });
    else {
      for (const module of Object.values(device.modules)) {
        rows.push({ key: `${device.deviceId}/${module.moduleId}`, twin: twinJson(device, module) });
      }
    }
  }
  const { where } = query;
  const found = where === undefined ? rows : rows.filter((row) => evaluate(where, row.twin) === true);
  return found.sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** What the select list makes of a row; a property that the row lacks is left out. */
export function project(query: Query, twin: TwinObject): TwinObject {
  if (query.items === undefined) return twin;
  const projected: TwinObject = {};
  for (const item of query.items) {
    const value = 'path' in item ? lookup(twin, item.path) : undefined;
    if (value !== undefined) projected[item.name] = value;
  }
  return projected;
}

/** Three-valued: what touches a property that is not there is undefined, and an undefined row is not selected. */
function evaluate(condition: Condition, twin: TwinObject): boolean | undefined {
  switch (condition.kind) {
    case 'and':
    case 'or': {
      const decisive = condition.kind === 'or';
      const sides = [evaluate(condition.left, twin), evaluate(condition.right, twin)];
      if (sides.includes(decisive)) return decisive;
      return sides.includes(undefined) ? undefined : !decisive;
    }
    case 'not': {
      const inner = evaluate(condition.of, twin);
      return inner === undefined ? undefined : !inner;
    }
    case 'compare':
      return compare(condition.operator, resolve(condition.left, twin), resolve(condition.right, twin));
    case 'in': {
      const left = resolve(condition.left, twin);
      if (left === undefined) return undefined;
      return condition.values.some((value) => value === left) !== condition.negated;
    }
    case 'call':
      return call(
        condition.name,
        condition.arguments.map((argument) => resolve(argument, twin)),
      );
  }
}

function compare(operator: Operator, left: unknown, right: unknown): boolean | undefined {
  if (left === undefined || right === undefined) return undefined;
  if (operator === '=') return left === right;
  if (operator === '!=') return left !== right;
  const isOrdered =
    (typeof left === 'number' && typeof right === 'number') || (typeof left === 'string' && typeof right === 'string');
  if (!isOrdered) return undefined;
  switch (operator) {
    case '<':
      return left < right;
    case '<=':
      return left <= right;
    case '>':
      return left > right;
    case '>=':
      return left >= right;
  }
}

function call(name: FunctionName, [first, second]: unknown[]): boolean | undefined {
  if (name === 'is_defined') return first !== undefined;
  if (first === undefined) return undefined;
  switch (name) {
    case 'is_null':
      return first === null;
    case 'is_bool':
      return typeof first === 'boolean';
    case 'is_number':
      return typeof first === 'number';
    case 'is_string':
      return typeof first === 'string';
    case 'is_object':
      return typeof first === 'object' && first !== null && !Array.isArray(first);
    case 'array_contains':
      return Array.isArray(first) ? first.includes(second) : undefined;
    case 'startswith':
      return typeof first === 'string' && typeof second === 'string' ? first.startsWith(second) : undefined;
    case 'endswith':
      return typeof first === 'string' && typeof second === 'string' ? first.endsWith(second) : undefined;
  }
}

function resolve(operand: Operand, twin: TwinObject): unknown {
  return 'path' in operand ? lookup(twin, operand.path) : operand.value;
}

function lookup(twin: TwinObject, path: Path): unknown {
  let value: unknown = twin;
  for (const name of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as TwinObject)[name];
  }
  return value;
}
