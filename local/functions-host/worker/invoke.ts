import type { InvocationRequest, InvocationResponse, LogLevel } from '../protocol.ts';
import type { App, Handler, HookName } from './core-api.ts';

type Log = (level: LogLevel, category: 'user' | 'system', message: string, of?: Of) => void;

export interface Of {
  functionName: string;
  invocationId: string;
}

/**
 * Runs one invocation through the programming model of the app: arguments, pre hooks, handler, post hooks, response.
 * The order, and what a hook may change, are those of the Node worker (src/eventHandlers/InvocationHandler.ts).
 *
 * @throws what the handler or a hook threw, unless a post hook took the error away.
 */
export async function invoke(app: App, request: InvocationRequest, log: Log): Promise<InvocationResponse> {
  const registered = app.functions.get(request.functionId);
  if (registered === undefined || app.model === undefined) {
    throw new Error(`Function code for '${request.functionId}' is not loaded and cannot be invoked.`);
  }
  const of: Of = { functionName: registered.metadata.name, invocationId: request.invocationId };
  const core = {
    invocationId: request.invocationId,
    request,
    metadata: registered.metadata,
    state: undefined as string | undefined,
    log: (level: LogLevel, category: 'user' | 'system', message: string) => log(level, category, message, of),
  };
  const model = app.model.getInvocationModel(core);
  const { context, inputs } = await model.getArguments();
  const hookData = {};

  const before = { ...readOnly(app, hookData, context), inputs, functionCallback: registered.handler as Handler };
  core.state = 'preInvocationHooks';
  await runHooks(app, 'preInvocation', protect(before), log, of);

  const after = {
    ...readOnly(app, hookData, context),
    inputs: before.inputs,
    result: null as unknown,
    error: null as unknown,
  };
  core.state = 'invocation';
  try {
    after.result = await model.invokeFunction(context, before.inputs, before.functionCallback);
  } catch (error) {
    after.error = error;
  }
  core.state = 'postInvocationHooks';
  await runHooks(app, 'postInvocation', protect(after), log, of);
  core.state = undefined;

  // So `throw undefined` passes for an answer without a value, in the real worker as here.
  if (after.error !== null && after.error !== undefined) throw after.error;
  return (await model.getResponse(context, after.result)) as InvocationResponse;
}

/** Runs the hooks of one kind, one after the other in the order of their registration. */
export async function runHooks(app: App, name: HookName, context: object, log: Log, of?: Of): Promise<void> {
  const hooks = app.hooks[name];
  if (hooks.length === 0) return;
  log('debug', 'system', `Executing ${hooks.length} "${name}" hooks`, of);
  for (const hook of hooks) await hook(context);
  log('debug', 'system', `Executed "${name}" hooks`, of);
}

function readOnly(app: App, hookData: object, invocationContext: unknown) {
  return { hookData, appHookData: app.appHookData, invocationContext };
}

const fixed = new Set(['hookData', 'appHookData', 'invocationContext']);

/** What a hook may fill but not replace is read-only for it, while this side goes on reading what it did replace. */
function protect<T extends object>(context: T): T {
  for (const name of Object.keys(context)) {
    if (fixed.has(name)) Object.defineProperty(context, name, { writable: false });
  }
  return context;
}
