import { type StartedWorker, type WorkerOptions, WorkerProcess } from './worker-process.ts';

const allowedCrashes = 3;
/** Crashes that lie further apart than this do not add up (host: WorkerRestartErrorIntervalThresholdInMinutes). */
const crashWindowMs = 30 * 60_000;

/** Said by {@link Supervisor.worker} once the host has given up on its worker, or was stopped. */
export class HostStoppedError extends Error {}

export interface SupervisorEvents {
  /** A worker has loaded the app: at the start, and again after each crash. */
  started(started: StartedWorker): void;
  /** The third crash: the host stops. */
  gaveUp(): void;
}

/** Keeps one worker running: a crash is followed by a new one, the third crash by none. */
export class Supervisor {
  readonly #options: WorkerOptions;
  readonly #events: SupervisorEvents;
  /** The newest process, whether or not it has loaded the app. */
  #current: WorkerProcess | undefined;
  /** The process that takes calls. */
  #running: WorkerProcess | undefined;
  #next = Promise.withResolvers<WorkerProcess>();
  #crashes = 0;
  #lastCrash = 0;
  #stopping = false;

  constructor(options: WorkerOptions, events: SupervisorEvents) {
    this.#options = options;
    this.#events = events;
    this.#next.promise.catch(() => {});
    void this.#run();
  }

  /** The worker that takes calls now, or the one being started. @throws {HostStoppedError} */
  worker(): WorkerProcess | Promise<WorkerProcess> {
    return this.#running ?? this.#next.promise;
  }

  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    await this.#current?.terminate();
    this.#next.reject(new HostStoppedError('The host has stopped.'));
  }

  async #run(): Promise<void> {
    while (true) {
      const worker = new WorkerProcess(this.#options);
      this.#current = worker;
      const started = await worker.started.catch(() => undefined);
      if (started !== undefined) {
        this.#events.started(started);
        this.#running = worker;
        this.#next.resolve(worker);
      }
      const how = await worker.ended;
      this.#running = undefined;
      if (started !== undefined) this.#renew();
      if (this.#stopping) return;
      this.#options.log.write('error', 'Host.Worker', `The Node worker (process ${worker.pid}) has crashed: ${how}.`);
      if (this.#isOneTooMany()) break;
    }
    this.#options.log.write(
      'critical',
      'Host.Worker',
      `The Node worker has crashed ${allowedCrashes} times: stopping.`,
    );
    this.#next.reject(new HostStoppedError('The worker has crashed too often: the host has stopped.'));
    this.#events.gaveUp();
  }

  #renew(): void {
    this.#next = Promise.withResolvers();
    this.#next.promise.catch(() => {});
  }

  #isOneTooMany(): boolean {
    const now = Date.now();
    if (now - this.#lastCrash > crashWindowMs) this.#crashes = 0;
    this.#lastCrash = now;
    this.#crashes += 1;
    return this.#crashes >= allowedCrashes;
  }
}
