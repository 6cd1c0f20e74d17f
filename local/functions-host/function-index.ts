import type { Binding, FunctionMetadata, RetryOptions } from './protocol.ts';
import { compileTemplate, type RouteTemplate } from './route-template.ts';
import { isDisabled, resolveExpressions, type Settings } from './settings.ts';

/** A function that the host accepted, its expressions resolved. */
export interface IndexedFunction {
  name: string;
  trigger: Binding & { name: string };
  outputs: Record<string, Binding>;
  disabled: boolean;
  retry: RetryOptions | undefined;
  http: HttpRoute | undefined;
  /** As registered, for the admin API. */
  metadata: FunctionMetadata;
}

export interface HttpRoute {
  /** Without the prefix. */
  route: string;
  template: RouteTemplate;
  /** Upper case; undefined: all of them. */
  methods: Set<string> | undefined;
  authLevel: 'anonymous' | 'function' | 'admin';
}

/** Why the host refused a function; the others work on. */
export interface FunctionFault {
  name: string;
  message: string;
}

const knownTriggers = ['httptrigger', 'timertrigger', 'queuetrigger'];
const knownOutputs = ['http', 'queue'];

/**
 * What the host makes of the functions that a worker reports: sorted by name without regard to case, which is the order
 * in which routes are tried, and checked one by one (azure-functions-host FunctionMetadataManager and ScriptHost).
 */
export function indexFunctions(
  reported: FunctionMetadata[],
  settings: Settings,
  routePrefix: string,
): { functions: IndexedFunction[]; faults: FunctionFault[] } {
  const functions: IndexedFunction[] = [];
  const faults: FunctionFault[] = [];
  for (const metadata of [...reported].sort(byName)) {
    try {
      const indexed = indexFunction(metadata, settings, routePrefix);
      const rival = functions.find((other) => routesConflict(other.http, indexed.http));
      if (rival !== undefined) {
        throw new Error(`The route specified conflicts with the route defined by function '${rival.name}'.`);
      }
      functions.push(indexed);
    } catch (error) {
      faults.push({ name: metadata.name, message: error instanceof Error ? error.message : String(error) });
    }
  }
  return { functions, faults };
}

/** OrdinalIgnoreCase: by upper-cased UTF-16 code units, so `_` comes after the letters. */
function byName(left: FunctionMetadata, right: FunctionMetadata): number {
  const [a, b] = [left.name.toUpperCase(), right.name.toUpperCase()];
  return a < b ? -1 : a > b ? 1 : 0;
}

function indexFunction(metadata: FunctionMetadata, settings: Settings, routePrefix: string): IndexedFunction {
  const { name } = metadata;
  if (!/^[a-z][a-z0-9_-]{0,127}$/i.test(name) || name.toLowerCase() === 'host') {
    throw new Error(`'${name}' is not a valid function name.`);
  }
  const triggers = Object.entries(metadata.bindings).filter(([, binding]) => /trigger$/i.test(binding.type));
  const [first] = triggers;
  if (first === undefined || triggers.length > 1) throw new Error('A function has exactly one trigger.');
  const outputs: Record<string, Binding> = {};
  for (const [key, binding] of Object.entries(metadata.bindings)) {
    const isTrigger = binding === first[1];
    if (
      !(isTrigger ? knownTriggers : knownOutputs).includes(binding.type.toLowerCase()) ||
      isInput(binding, isTrigger)
    ) {
      throw new Error(
        `The binding type(s) '${binding.type}' are not registered. Please ensure the type is correct and the binding extension is installed.`,
      );
    }
    if (!isTrigger) outputs[key] = resolveBinding(binding, settings);
  }
  const [bindingName, trigger] = first;
  const isHttp = trigger.type.toLowerCase() === 'httptrigger';
  return {
    name,
    trigger: { ...(isHttp ? trigger : resolveBinding(trigger, settings)), name: bindingName },
    outputs,
    disabled: isDisabled(name, settings),
    retry: metadata.retryOptions,
    http: isHttp ? httpRoute(name, trigger, routePrefix) : undefined,
    metadata,
  };
}

function isInput(binding: Binding, isTrigger: boolean): boolean {
  return !isTrigger && binding.direction !== 'out';
}

function resolveBinding(binding: Binding, settings: Settings): Binding {
  const resolved: Binding = { ...binding };
  for (const [option, value] of Object.entries(binding)) {
    if (typeof value === 'string') resolved[option] = resolveExpressions(value, settings);
  }
  return resolved;
}

function httpRoute(name: string, trigger: Binding, routePrefix: string): HttpRoute {
  const given = typeof trigger.route === 'string' ? trigger.route.replace(/^\/+|\/+$/g, '') : '';
  const route = given.trim() === '' ? name : given;
  // Checked before the prefix is put in front, so `administrators` is refused under any prefix.
  if (/^(admin|runtime)/i.test(route)) {
    throw new Error('The specified route conflicts with one or more built in routes.');
  }
  const methods = Array.isArray(trigger.methods) ? trigger.methods.map((method) => String(method).toUpperCase()) : [];
  const authLevel = String(trigger.authLevel ?? 'anonymous').toLowerCase();
  if (authLevel !== 'anonymous' && authLevel !== 'function' && authLevel !== 'admin') {
    throw new Error(`'${String(trigger.authLevel)}' is not an authorization level.`);
  }
  return {
    route,
    template: compileTemplate(routePrefix === '' ? route : `${routePrefix}/${route}`),
    methods: methods.length === 0 ? undefined : new Set(methods),
    authLevel,
  };
}

function routesConflict(left: HttpRoute | undefined, right: HttpRoute | undefined): boolean {
  if (left === undefined || right === undefined) return false;
  if (left.route.toLowerCase() !== right.route.toLowerCase()) return false;
  if (left.methods === undefined || right.methods === undefined) return true;
  const taken = right.methods;
  return [...left.methods].some((method) => taken.has(method));
}
