import { StateFile } from '../kit/state-file.ts';

/**
 * The ports that the parts took last time. They are asked for again, because connection strings and tokens that
 * outlive a restart name them; a port that somebody else has taken meanwhile is replaced.
 */
export class RememberedPorts {
  readonly #ports: Record<string, number>;
  readonly #file: StateFile<Record<string, number>>;

  constructor(path: string | undefined) {
    this.#file = new StateFile(path, () => this.#ports);
    this.#ports = this.#file.read() ?? {};
  }

  /** The port to ask for; 0 is any. */
  get(part: string, preferred = 0): number {
    return this.#ports[part] ?? preferred;
  }

  set(taken: Record<string, number>): void {
    Object.assign(this.#ports, taken);
    this.#file.flush();
  }
}
