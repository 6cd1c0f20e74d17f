import type { Failure, FunctionMetadata, HostMessage, LogLevel, WorkerMessage } from '../protocol.ts';
import { installCore, newApp } from './core-api.ts';
import { invoke, type Of, runHooks } from './invoke.ts';
import { loadApp } from './load-app.ts';

/** The worker process: loads one app through the real `@azure/functions` and runs what the host asks for. */

const app = newApp();

function send(message: WorkerMessage, sent?: () => void): void {
  // A host that is gone cannot be told anything; `disconnect` ends this process.
  if (process.connected) process.send?.(message, undefined, {}, () => sent?.());
}

function log(level: LogLevel, category: 'user' | 'system', message: string, of?: Of): void {
  send({ type: 'log', level, category, message, ...of });
}

function toFailure(error: unknown): Failure {
  if (error instanceof Error) return { message: error.message, ...(error.stack && { stack: error.stack }) };
  return { message: typeof error === 'string' ? error : `Unknown error: ${JSON.stringify(error)}` };
}

async function start(directory: string, main: string | undefined): Promise<void> {
  let failure: Failure | undefined;
  try {
    await loadApp(directory, main, log);
    const context = {
      hookData: app.appLevelHookData,
      appHookData: app.appHookData,
      functionAppDirectory: directory,
    };
    await runHooks(app, 'appStart', context, log);
  } catch (error) {
    failure = toFailure(error);
    process.stderr.write(`${failure.stack ?? failure.message}\n`);
  }
  const capabilities = (await app.model?.getCapabilities?.({})) ?? {};
  app.locked = true;
  const functions = failure === undefined ? [...app.functions.values()].map(({ metadata }) => plain(metadata)) : [];
  send({ type: 'started', functions, capabilities, ...(failure && { failure }) });
}

/** Options of a binding may hold anything; what crosses to the host is JSON, as in the real protocol's raw bindings. */
function plain(metadata: FunctionMetadata): FunctionMetadata {
  return JSON.parse(JSON.stringify(metadata));
}

async function terminate(): Promise<void> {
  try {
    await runHooks(app, 'appTerminate', { hookData: app.appLevelHookData, appHookData: app.appHookData }, log);
  } catch (error) {
    process.stderr.write(`${toFailure(error).stack}\n`);
  }
  // Messages leave in order: once this one is out, so is every log line before it.
  send({ type: 'terminated' }, () => process.exit(0));
}

process.on('message', (message: HostMessage) => {
  switch (message.type) {
    case 'invoke': {
      const { invocationId } = message.request;
      invoke(app, message.request, log).then(
        (response) => send({ type: 'response', invocationId, response }),
        (error: unknown) => send({ type: 'failure', invocationId, failure: toFailure(error) }),
      );
      break;
    }
    case 'start':
      void start(message.directory, message.main);
      break;
    case 'terminate':
      void terminate();
      break;
  }
});
// A worker never outlives its host, and Ctrl-C in a terminal, which reaches both, is the host's to handle.
process.on('disconnect', () => process.exit(1));
process.on('SIGINT', () => {});

installCore(app, log);
