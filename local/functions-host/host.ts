import { resolve } from 'node:path';
import type { FunctionFault } from './function-index.ts';
import { readHostJson } from './host-json.ts';
import { HttpFront } from './http-server.ts';
import { type HostKeys, KeyRing } from './keys.ts';
import { HostLog } from './log.ts';
import { type LoadedApp, Run } from './run.ts';
import { appSettings, type Settings } from './settings.ts';

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
  /**
   * Ends the worker as {@link close} does and starts the app anew, also after the host has stopped. The port stays open
   * meanwhile: what comes in waits for the new worker.
   */
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
  readonly #options: FunctionsHostOptions;
  readonly #settings: Settings;
  readonly #log: HostLog;
  readonly #front: HttpFront;
  #run: Run | undefined;
  /** Resolves with the run that takes requests; while there is none, they wait here. */
  #ready = Promise.withResolvers<Run>();
  #stop = Promise.withResolvers<void>();
  #stopping: Promise<void> | undefined;
  /** Starts and restarts take turns. */
  #turn: Promise<void> = Promise.resolve();

  constructor(options: FunctionsHostOptions) {
    this.#options = { ...options, directory: resolve(options.directory) };
    this.#settings = appSettings(options.env ?? {}, options.storageConnectionString);
    this.#log = new HostLog({ log: options.log, logFile: options.logFile });
    const keys = new KeyRing(options.keys ?? {});
    this.masterKey = keys.master;
    this.port = options.port ?? 0;
    this.#front = new HttpFront({
      app: () => this.#app(),
      keys,
      log: this.#log,
      bodyLimit: Number(this.#settings.FUNCTIONS_REQUEST_BODY_SIZE_LIMIT ?? defaultBodyLimit),
      homePage: this.#settings.AzureWebJobsDisableHomepage?.toLowerCase() !== 'true',
      streamTimeoutMs: options.streaming?.answerTimeoutMs ?? defaultStreamTimeoutMs,
    });
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get functions(): string[] {
    return this.#run?.app?.functions.map(({ name }) => name) ?? [];
  }

  get faults(): FunctionFault[] {
    return this.#run?.app?.faults ?? [];
  }

  get errors(): string[] {
    return this.#run?.app?.errors ?? [];
  }

  get stopped(): Promise<void> {
    return this.#stop.promise;
  }

  async start(): Promise<void> {
    this.#ready.promise.catch(() => {});
    try {
      const hostJson = await readHostJson(this.#options.directory);
      this.#log.setLevels(hostJson.logLevels);
      if (!this.#front.server.listening) {
        this.port = await this.#front.listen(this.port);
        this.#stopping = undefined;
        this.#stop = Promise.withResolvers();
      }
      const { directory, main } = this.#options;
      const worker = { directory, main, settings: this.#settings, log: this.#log };
      this.#run = new Run(worker, hostJson, this.url, () => void this.#shutDown());
      await this.#run.started();
      this.#ready.resolve(this.#run);
    } catch (error) {
      this.#ready.reject(error);
      await this.#shutDown();
      throw error;
    }
  }

  restart(): Promise<void> {
    const restarted = this.#turn.then(async () => {
      this.#ready = Promise.withResolvers();
      await this.#stopping;
      await this.#run?.stop();
      await this.start();
    });
    this.#turn = restarted.catch(() => {});
    return restarted;
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
    await this.#turn;
    await this.#shutDown();
    await this.#log.close();
  }

  async #app(): Promise<LoadedApp> {
    const run = await this.#ready.promise;
    return run.loaded();
  }

  #shutDown(): Promise<void> {
    this.#stopping ??= (async () => {
      const closed = this.#front.close();
      await this.#run?.stop();
      await this.#front.hangUp();
      await closed;
      this.#stop.resolve();
    })();
    return this.#stopping;
  }
}
