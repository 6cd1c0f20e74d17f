import { type ChildProcess, fork } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { HostLog } from './log.ts';
import type {
  Failure,
  FunctionMetadata,
  HostMessage,
  InvocationRequest,
  InvocationResponse,
  LogLevel,
  WorkerMessage,
} from './protocol.ts';
import type { Settings } from './settings.ts';

/** The worker died, or was stopped, while a call was in flight. */
export class WorkerGoneError extends Error {}

/** A function, or the library around it, failed in the worker. */
export class InvocationFailedError extends Error {
  constructor(failure: Failure) {
    super(failure.message);
    if (failure.stack !== undefined) this.stack = failure.stack;
  }
}

export interface StartedWorker {
  functions: FunctionMetadata[];
  capabilities: Record<string, string>;
  /** Why the app did not load; it then has no function. */
  failure?: Failure;
}

export interface WorkerOptions {
  directory: string;
  main: string | undefined;
  settings: Settings;
  log: HostLog;
}

interface Waiting {
  resolve(response: InvocationResponse): void;
  reject(error: Error): void;
}

const terminationGraceMs = 10_000;
const consoleGraceMs = 500;

/** One worker process, from its start to its end. */
export class WorkerProcess {
  /** Resolves when the app is loaded, rejects when the process dies before that. */
  readonly started: Promise<StartedWorker>;
  /** Resolves with a description when the process has ended, for whatever reason. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #log: HostLog;
  readonly #waiting = new Map<string, Waiting>();
  readonly #start = Promise.withResolvers<StartedWorker>();
  /** Resolves when the last line of the console has been read as well. */
  readonly #closed: Promise<void>;
  #gone: WorkerGoneError | undefined;

  constructor(options: WorkerOptions) {
    this.#log = options.log;
    this.#child = fork(fileURLToPath(new URL('./worker/main.ts', import.meta.url)), {
      cwd: options.directory,
      env: options.settings,
      // Node 22 announces type stripping on standard error; nothing of the app should look like that.
      execArgv: ['--disable-warning=ExperimentalWarning'],
      serialization: 'advanced',
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.started = this.#start.promise;
    this.started.catch(() => {});
    this.#child.on('message', (message) => this.#receive(message as WorkerMessage));
    this.#readConsole();
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error) => resolve(error.message));
      this.#child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
    this.#closed = new Promise((resolve) => {
      this.#child.once('close', () => resolve());
    });
    void this.ended.then((how) => this.#fail(new WorkerGoneError(`The worker process has ended: ${how}.`)));
    this.#send({ type: 'start', directory: options.directory, main: options.main });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** @throws {InvocationFailedError} what the function threw, {@link WorkerGoneError} where the process dies first. */
  invoke(request: InvocationRequest): Promise<InvocationResponse> {
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    return new Promise((resolve, reject) => {
      this.#waiting.set(request.invocationId, { resolve, reject });
      this.#send({ type: 'invoke', request });
    });
  }

  /** Lets the app run its appTerminate hooks and ends the process; by force after ten seconds. */
  async terminate(): Promise<void> {
    this.#send({ type: 'terminate' });
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), terminationGraceMs);
    await this.ended;
    clearTimeout(timer);
    // A process that the app has left behind may hold the console open.
    await Promise.race([this.#closed, sleep(consoleGraceMs, undefined, { ref: false })]);
  }

  #send(message: HostMessage): void {
    if (!this.#child.connected) return;
    // A channel that closes under a message is reported by `exit`, which fails whatever waits.
    this.#child.send(message, () => {});
  }

  #receive(message: WorkerMessage): void {
    switch (message.type) {
      case 'started':
        this.#start.resolve(message);
        break;
      case 'response':
        this.#settle(message.invocationId)?.resolve(message.response);
        break;
      case 'failure':
        this.#settle(message.invocationId)?.reject(new InvocationFailedError(message.failure));
        break;
      case 'log':
        this.#log.write(message.level, categoryOf(message), message.message);
        break;
    }
  }

  #settle(invocationId: string): Waiting | undefined {
    const waiting = this.#waiting.get(invocationId);
    this.#waiting.delete(invocationId);
    return waiting;
  }

  #fail(error: WorkerGoneError): void {
    this.#gone = error;
    this.#start.reject(error);
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }

  #readConsole(): void {
    const read = (stream: Readable | null, level: (line: string) => LogLevel) => {
      if (stream === null) return;
      const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY });
      lines.on('line', (line) => this.#log.write(level(line), 'Host.Function.Console', line));
    };
    read(this.#child.stdout, () => 'information');
    read(this.#child.stderr, standardErrorLevel);
  }
}

/** azure-functions-host WorkerProcess.OnErrorDataReceived guesses the level from the words of the line. */
function standardErrorLevel(line: string): LogLevel {
  if (/warn/i.test(line)) return 'warning';
  return /error|fail/i.test(line) ? 'error' : 'information';
}

function categoryOf(message: { category: 'user' | 'system'; functionName?: string }): string {
  if (message.functionName === undefined) return 'Worker.LanguageWorkerChannel.node';
  return message.category === 'user' ? `Function.${message.functionName}.User` : `Function.${message.functionName}`;
}
