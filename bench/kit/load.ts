import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface Load {
  url: string;
  headers: Record<string, string>;
  seconds: number;
  /** Requests under way at any time, each on a connection that is kept. */
  connections: number;
}

export type LoadAnswer = { perSecond: number } | { error: string };

/** Asks from a process of its own, so that asking costs the host nothing but the machine's cores. */
export class LoadClient {
  readonly #child: ChildProcess;

  constructor() {
    this.#child = fork(fileURLToPath(new URL('./load-client.ts', import.meta.url)), {
      execArgv: ['--disable-warning=ExperimentalWarning'],
    });
  }

  /** Asks for `load.url` for that long. One load at a time. */
  async requestsPerSecond(load: Load): Promise<number> {
    const gone = new AbortController();
    this.#child.once('exit', () => gone.abort(new Error('The load client has ended.')));
    this.#child.send(load);
    const [answer] = (await once(this.#child, 'message', { signal: gone.signal })) as [LoadAnswer];
    this.#child.removeAllListeners('exit');
    if ('error' in answer) throw new Error(`${load.url}: ${answer.error}`);
    return answer.perSecond;
  }

  close(): void {
    if (this.#child.connected) this.#child.disconnect();
  }
}
