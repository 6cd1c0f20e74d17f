import { randomUUID } from 'node:crypto';
import type { IndexedFunction } from './function-index.ts';
import type { HostLog } from './log.ts';
import type { Binding, InvocationResponse, RetryContext, TypedData } from './protocol.ts';
import type { Supervisor } from './supervisor.ts';

export interface Invocation {
  invocationId: string;
  /** Completes, output bindings written, with what the function returned. */
  completed: Promise<InvocationResponse>;
}

export interface InvocationInput {
  data: TypedData;
  triggerMetadata?: Record<string, TypedData>;
  retryContext?: RetryContext;
  /** Why it runs, as the log shows it. */
  reason: string;
}

/** Writes one value of an output binding. */
export type WriteOutput = (binding: Binding, value: TypedData) => Promise<void>;

// The real host passes them empty to a worker that does no tracing of its own.
const traceContext = { traceParent: '', traceState: '', attributes: {} };

/** Sends invocations to the worker, logs them, and writes what they put out. */
export class Invoker {
  readonly #supervisor: Supervisor;
  readonly #log: HostLog;
  readonly #writeOutput: WriteOutput;

  constructor(supervisor: Supervisor, log: HostLog, writeOutput: WriteOutput) {
    this.#supervisor = supervisor;
    this.#log = log;
    this.#writeOutput = writeOutput;
  }

  start(target: IndexedFunction, input: InvocationInput): Invocation {
    const invocationId = randomUUID();
    return { invocationId, completed: this.#run(target, input, invocationId) };
  }

  /** @throws what the function threw, or that the worker died under it. */
  run(target: IndexedFunction, input: InvocationInput): Promise<InvocationResponse> {
    return this.start(target, input).completed;
  }

  async #run(target: IndexedFunction, input: InvocationInput, invocationId: string): Promise<InvocationResponse> {
    const begin = performance.now();
    const category = `Function.${target.name}`;
    const what = `'Functions.${target.name}'`;
    this.#log.write('information', category, `Executing ${what} (Reason='${input.reason}', Id=${invocationId})`);
    const ending = () => `Id=${invocationId}, Duration=${Math.round(performance.now() - begin)}ms)`;
    try {
      const worker = this.#supervisor.worker();
      const response = await (worker instanceof Promise ? await worker : worker).invoke({
        invocationId,
        functionId: target.name,
        inputData: [{ name: target.trigger.name, data: input.data }],
        triggerMetadata: input.triggerMetadata ?? {},
        traceContext,
        ...(input.retryContext && { retryContext: input.retryContext }),
      });
      await this.#writeOutputs(target, response);
      this.#log.write('information', category, `Executed ${what} (Succeeded, ${ending()}`);
      return response;
    } catch (error) {
      const shown = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#log.write('error', category, `Executed ${what} (Failed, ${ending()}\n${shown}`);
      throw error;
    }
  }

  async #writeOutputs(target: IndexedFunction, response: InvocationResponse): Promise<void> {
    for (const { name, data } of response.outputData ?? []) {
      const binding = target.outputs[name];
      if (binding !== undefined) await this.#writeOutput(binding, data);
    }
    const returned = target.outputs.$return;
    if (returned === undefined || returned.type.toLowerCase() === 'http' || response.returnValue == null) return;
    await this.#writeOutput(returned, response.returnValue);
  }
}
