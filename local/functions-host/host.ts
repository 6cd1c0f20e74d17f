import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { listen } from '../kit/https-server.ts';
import { type FunctionFault, type IndexedFunction, indexFunctions } from './function-index.ts';
import { type HostJson, readHostJson } from './host-json.ts';
import { type AppState, HttpFront } from './http-server.ts';
import { Invoker } from './invoker.ts';
import { type HostKeys, KeyRing } from './keys.ts';
import { HostLog } from './log.ts';
import { appSettings, type Settings } from './settings.ts';
import { Supervisor } from './supervisor.ts';
import { Triggers } from './triggers.ts';
import type { StartedWorker } from './worker-process.ts';

export interface FunctionsHostOptions {
  /** The app's folder: host.json, and package.json with `main`. */
  directory: string;
  /** Entry point, a path or a glob relative to `directory`. Default: `main` of package.json. */
  main?: string;
  /** App settings. The worker's environment is this process's with these above it. */
  env?: Record<string, string>;
  /** 0, the default, takes a free port; a port that is taken is replaced by a free one. */
  port?: number;
  /** Every log line is appended to this file. Default: none is written. */
  logFile?: string;
  /** Called with every log line. */
  log?: (line: string) => void;
  /** The setting `AzureWebJobsStorage`, unless `env` has it. */
  storageConnectionString?: string;
  keys?: HostKeys;
  streaming?: {
    /** How long a streamed request may wait for the function. Default: 240,000 ms, the real host's. */
    answerTimeoutMs?: number;
  };
}

export interface FunctionsHost {
  /** `http://127.0.0.1:PORT`. */
  readonly url: string;
  readonly port: number;
  readonly masterKey: string;
  /** The functions that work, in the order in which routes are tried. */
  readonly functions: string[];
  /** Functions that were refused, and why. */
  readonly faults: FunctionFault[];
  /** Why the app did not load; empty where it did. */
  readonly errors: string[];
  /** Resolves when the host has stopped: by {@link close}, or because the worker crashed three times. */
  readonly stopped: Promise<void>;
  /** Ends the worker as {@link close} does and starts the app anew on the same port; also after the host has stopped. */
  restart(): Promise<void>;
  /** `POST /admin/functions/NAME`: starts a function, without waiting for it. Throws unless the host accepts. */
  invoke(name: string, input?: unknown): Promise<void>;
  /** The last log lines, oldest first: `TIME [Level] Category: message`. */
  logs(): string[];
  /** Waits up to ten seconds for what is in flight, runs the app's appTerminate hooks and stops. */
  close(): Promise<void>;
}

const defaultBodyLimit = 104_857_600;
const defaultStreamTimeoutMs = 240_000;
const drainMs = 10_000;

/**
 * Starts a Functions app in a worker process and serves it on loopback as Azure's host would.
 *
 * An app that does not load is no error here, as in Azure: the host runs, without a function; see `errors`.
 *
 * @throws where host.json is missing or wrong, or the worker dies three times before the app is loaded.
 */
export async function startFunctionsHost(options: FunctionsHostOptions): Promise<FunctionsHost> {
  const host = new Host(options);
  await host.start();
  return host;
}

class Host implements FunctionsHost {
  port: number;
  readonly masterKey: string;
  stopped: Promise<void> = Promise.resolve();
  readonly #options: FunctionsHostOptions;
  readonly #settings: Settings;
  readonly #log: HostLog;
  readonly #keys: KeyRing;
  #running: Running | undefined;

  constructor(options: FunctionsHostOptions) {
    this.#options = { ...options, directory: resolve(options.directory) };
    this.#settings = appSettings(options.env ?? {}, options.storageConnectionString);
    this.#log = new HostLog({ log: options.log, logFile: options.logFile });
    this.#keys = new KeyRing(options.keys ?? {});
    this.masterKey = this.#keys.master;
    this.port = options.port ?? 0;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get functions(): string[] {
    return this.#running?.app?.functions.map(({ name }) => name) ?? [];
  }

  get faults(): FunctionFault[] {
    return this.#running?.app?.faults ?? [];
  }

  get errors(): string[] {
    return this.#running?.app?.errors ?? [];
  }

  async start(): Promise<void> {
    const hostJson = await readHostJson(this.#options.directory);
    this.#log.setLevels(hostJson.logLevels);
    const running = new Running(this.#options, hostJson, this.#settings, this.#keys, this.#log);
    this.port = await running.listen(this.port);
    this.#running = running;
    this.stopped = running.stopped;
    try {
      await running.ready();
    } catch (error) {
      await running.stop();
      throw error;
    }
  }

  async restart(): Promise<void> {
    await this.#running?.stop();
    await this.start();
  }

  async invoke(name: string, input: unknown = ''): Promise<void> {
    const response = await fetch(`${this.url}/admin/functions/${encodeURIComponent(name)}`, {
      method: 'POST',
      headers: { 'x-functions-key': this.masterKey, 'content-type': 'application/json' },
      body: JSON.stringify({ input: typeof input === 'string' ? input : JSON.stringify(input) }),
    });
    if (response.status !== 202) throw new Error(`The host answered ${response.status} to a call of "${name}".`);
  }

  logs(): string[] {
    return this.#log.lines();
  }

  async close(): Promise<void> {
    await this.#running?.stop();
    await this.#log.close();
  }
}

/** One run of the host, from its start to its stop. */
class Running {
  readonly stopped: Promise<void>;
  readonly #hostJson: HostJson;
  readonly #settings: Settings;
  readonly #log: HostLog;
  readonly #supervisor: Supervisor;
  readonly #front: HttpFront;
  readonly #triggers: Triggers;
  readonly #stop = Promise.withResolvers<void>();
  #stopping: Promise<void> | undefined;
  #port = 0;
  app: AppState | undefined;

  constructor(options: FunctionsHostOptions, hostJson: HostJson, settings: Settings, keys: KeyRing, log: HostLog) {
    this.stopped = this.#stop.promise;
    this.#hostJson = hostJson;
    this.#settings = settings;
    this.#log = log;
    this.#supervisor = new Supervisor(
      { directory: options.directory, main: options.main, settings, log },
      { started: (started) => this.#load(started), gaveUp: () => void this.stop() },
    );
    const invoker = new Invoker(this.#supervisor, log, (binding, value) => this.#triggers.write(binding, value));
    this.#triggers = new Triggers(invoker, hostJson.queues, settings, log);
    this.#front = new HttpFront({
      state: () => this.#state(),
      invoker,
      keys,
      log,
      bodyLimit: Number(settings.FUNCTIONS_REQUEST_BODY_SIZE_LIMIT ?? defaultBodyLimit),
      homePage: settings.AzureWebJobsDisableHomepage?.toLowerCase() !== 'true',
      streamTimeoutMs: options.streaming?.answerTimeoutMs ?? defaultStreamTimeoutMs,
    });
  }

  async listen(port: number): Promise<number> {
    this.#port = await listen(this.#front.server, port);
    return this.#port;
  }

  async ready(): Promise<void> {
    await this.#supervisor.worker();
  }

  /** Idempotent: drains, lets the app terminate, and closes what is still open. */
  stop(): Promise<void> {
    this.#stopping ??= this.#shutDown();
    return this.#stopping;
  }

  async #shutDown(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#front.server.close(() => resolve()));
    this.#front.server.closeIdleConnections();
    await Promise.all([this.#triggers.stop(drainMs), this.#drain(drainMs)]);
    await this.#supervisor.stop();
    // What was still in flight is answered 500 now.
    await this.#drain(1000);
    this.#front.server.closeAllConnections();
    await closed;
    this.#stop.resolve();
  }

  async #drain(milliseconds: number): Promise<void> {
    const deadline = Date.now() + milliseconds;
    while (this.#front.outstanding > 0 && Date.now() < deadline) await sleep(10);
  }

  #state(): AppState | Promise<AppState> {
    const worker = this.#supervisor.worker();
    if (worker instanceof Promise) return worker.then(() => this.#loaded());
    return this.#loaded();
  }

  #loaded(): AppState {
    if (this.app === undefined) throw new Error('No worker has loaded the app yet.');
    return this.app;
  }

  #load(started: StartedWorker): void {
    const { functions, faults } = indexFunctions(started.functions, this.#settings, this.#hostJson.http.routePrefix);
    for (const fault of faults) {
      this.#log.write('error', 'Host.Startup', `The '${fault.name}' function is in error: ${fault.message}`);
    }
    if (functions.length === 0) {
      this.#log.write('warning', 'Host.Startup', 'No job functions found.');
    }
    this.app = {
      url: `http://127.0.0.1:${this.#port}`,
      routePrefix: this.#hostJson.http.routePrefix,
      functions,
      faults,
      errors: started.failure === undefined ? [] : [started.failure.message],
      hostJson: this.#hostJson,
      httpUri: started.capabilities.HttpUri,
      trigger: (target: IndexedFunction, input: string) => void this.#triggers.trigger(target, input),
    };
    this.#triggers.start(functions);
  }
}
