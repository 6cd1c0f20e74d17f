import { setTimeout as sleep } from 'node:timers/promises';
import type { AdminView } from './admin-api.ts';
import { indexFunctions } from './function-index.ts';
import type { HostJson } from './host-json.ts';
import { Invoker } from './invoker.ts';
import type { HostLog } from './log.ts';
import type { Settings } from './settings.ts';
import { Supervisor } from './supervisor.ts';
import { Triggers } from './triggers.ts';
import type { StartedWorker, WorkerOptions } from './worker-process.ts';

/** The app as a worker has loaded it. */
export interface LoadedApp extends AdminView {
  hostJson: HostJson;
  /** Where the worker's own HTTP server listens; undefined: not streaming. */
  httpUri: string | undefined;
  invoker: Invoker;
  /** The requests that this run is answering: their number is kept by the HTTP front. */
  traffic: { active: number };
}

const drainMs = 10_000;

/** One run of an app: its worker and the replacements of that, its triggers. A restart of the host makes a new one. */
export class Run {
  app: LoadedApp | undefined;
  readonly #hostJson: HostJson;
  readonly #url: string;
  readonly #settings: Settings;
  readonly #log: HostLog;
  readonly #supervisor: Supervisor;
  readonly #invoker: Invoker;
  readonly #triggers: Triggers;
  readonly #traffic = { active: 0 };
  #stopping: Promise<void> | undefined;

  /** `gaveUp` is called when the worker has crashed too often to go on. */
  constructor(worker: WorkerOptions, hostJson: HostJson, url: string, gaveUp: () => void) {
    this.#hostJson = hostJson;
    this.#url = url;
    this.#settings = worker.settings;
    this.#log = worker.log;
    this.#supervisor = new Supervisor(worker, { started: (started) => this.#load(started), gaveUp });
    this.#invoker = new Invoker(this.#supervisor, this.#log, (binding, value) => this.#triggers.write(binding, value));
    this.#triggers = new Triggers(this.#invoker, hostJson.queues, worker.settings, this.#log);
  }

  /** @throws where the worker dies too often before it has loaded the app. */
  async started(): Promise<void> {
    await this.#supervisor.worker();
  }

  /** The app; while a worker is being replaced, once that is done. */
  async loaded(): Promise<LoadedApp> {
    await this.#supervisor.worker();
    if (this.app === undefined) throw new Error('No worker has loaded the app yet.');
    return this.app;
  }

  /** Idempotent: waits up to ten seconds for what is in flight, then lets the app terminate. */
  stop(): Promise<void> {
    this.#stopping ??= (async () => {
      await Promise.all([this.#triggers.stop(drainMs), this.#drain()]);
      await this.#supervisor.stop();
    })();
    return this.#stopping;
  }

  async #drain(): Promise<void> {
    const deadline = Date.now() + drainMs;
    while (this.#traffic.active > 0 && Date.now() < deadline) await sleep(10);
  }

  #load(started: StartedWorker): void {
    const { functions, faults } = indexFunctions(started.functions, this.#settings, this.#hostJson.http.routePrefix);
    for (const fault of faults) {
      this.#log.write('error', 'Host.Startup', `The '${fault.name}' function is in error: ${fault.message}`);
    }
    if (functions.length === 0) this.#log.write('warning', 'Host.Startup', 'No job functions found.');
    this.app = {
      url: this.#url,
      routePrefix: this.#hostJson.http.routePrefix,
      functions,
      faults,
      errors: started.failure === undefined ? [] : [started.failure.message],
      hostJson: this.#hostJson,
      httpUri: started.capabilities.HttpUri,
      invoker: this.#invoker,
      traffic: this.#traffic,
      trigger: (target, input) => void this.#triggers.trigger(target, input),
    };
    this.#triggers.start(functions);
  }
}
