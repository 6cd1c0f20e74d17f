import Module from 'node:module';
import { fileURLToPath } from 'node:url';
import type { FunctionMetadata, LogLevel } from '../protocol.ts';

export type Handler = (...args: unknown[]) => unknown;
export type Hook = (context: object) => unknown;

const hookNames = ['preInvocation', 'postInvocation', 'appStart', 'appTerminate'] as const;
export type HookName = (typeof hookNames)[number];

export interface InvocationModel {
  getArguments(): Promise<{ context: unknown; inputs: unknown[] }>;
  invokeFunction(context: unknown, inputs: unknown[], handler: Handler): Promise<unknown>;
  getResponse(context: unknown, result: unknown): Promise<object>;
}

export interface ProgrammingModel {
  name: string;
  version: string;
  getInvocationModel(context: object): InvocationModel;
  getCapabilities?(capabilities: Record<string, string>): Promise<Record<string, string>>;
}

/** What an app registered, and the data its hooks share. */
export interface App {
  model: ProgrammingModel | undefined;
  functions: Map<string, { metadata: FunctionMetadata; handler: Handler }>;
  hooks: Record<HookName, Hook[]>;
  /** Set once the host has asked for the functions: nothing is registered after that. */
  locked: boolean;
  appHookData: object;
  appLevelHookData: object;
}

export type LogCore = (level: LogLevel, category: 'user' | 'system', message: string) => void;

class Disposable {
  #dispose: (() => unknown) | undefined;

  constructor(dispose: () => unknown) {
    this.#dispose = dispose;
  }

  static from(...disposables: { dispose(): unknown }[]): Disposable {
    return new Disposable(() => {
      for (const disposable of disposables) disposable.dispose();
    });
  }

  dispose(): void {
    this.#dispose?.();
    this.#dispose = undefined;
  }
}

function systemError<E extends Error>(error: E): E {
  return Object.assign(error, { isAzureFunctionsSystemError: true });
}

export function newApp(): App {
  return {
    model: undefined,
    functions: new Map(),
    hooks: { preInvocation: [], postInvocation: [], appStart: [], appTerminate: [] },
    locked: false,
    appHookData: {},
    appLevelHookData: {},
  };
}

/**
 * Makes `@azure/functions-core` resolvable in this process and lets its api write into `app`. It must run before the
 * first `app.*` call: the library looks once and remembers that there was no core
 * (`@azure/functions` src/utils/tryGetCoreApiLazy.ts).
 */
export function installCore(app: App, log: LogCore): void {
  const key = Symbol.for('gatepost.functions-core');
  const shared = globalThis as Record<symbol, unknown>;
  if (shared[key] !== undefined) throw new Error('A core of the Functions worker is already installed.');
  shared[key] = {
    // Packages that instrument apps read both; they are those of the worker and the host whose behaviour this repeats.
    version: '3.9.1',
    hostVersion: '4.1037.0',
    Disposable,
    registerFunction: (metadata: FunctionMetadata, handler: Handler) => registerFunction(app, metadata, handler),
    registerHook: (name: string, hook: Hook) => registerHook(app, name, hook),
    setProgrammingModel: (model: ProgrammingModel) => {
      app.model = model;
    },
    getProgrammingModel: () => app.model,
    log,
  };
  const stub = fileURLToPath(new URL('./functions-core.cjs', import.meta.url));
  // Resolution is the one seam that plain Node, loader hooks and bundles all go through; a patched `require` is not.
  const loader = Module as unknown as { _resolveFilename(request: string, ...rest: unknown[]): string };
  const resolve = loader._resolveFilename;
  loader._resolveFilename = function (request, ...rest) {
    return request === '@azure/functions-core' ? stub : resolve.call(this, request, ...rest);
  };
}

function registerFunction(app: App, metadata: FunctionMetadata, handler: Handler): Disposable {
  if (app.locked) throw systemError(new Error('A function can only be registered during app startup.'));
  const { name } = metadata;
  if (app.functions.has(name)) {
    throw systemError(new Error(`A function with name "${name}" has already been registered.`));
  }
  app.functions.set(name, { metadata, handler });
  return new Disposable(() => {
    if (app.locked) throw systemError(new Error('A function can only be disposed during app startup.'));
    app.functions.delete(name);
  });
}

function registerHook(app: App, name: string, hook: Hook): Disposable {
  const known = hookNames.find((candidate) => candidate === name);
  // `app.hook.log` ends here: worker 3.9.1 knows no log hooks, and the library asks for exactly this kind of error.
  if (known === undefined) throw systemError(new RangeError(`Unrecognized hook "${name}"`));
  app.hooks[known].push(hook);
  return new Disposable(() => {
    app.hooks[known] = app.hooks[known].filter((registered) => registered !== hook);
  });
}
