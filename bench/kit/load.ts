import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export interface Load {
  url: string;
  headers?: Record<string, string>;
  seconds: number;
  /** Requests under way at any time, each on a connection that is kept. */
  connections: number;
}

/** Asks for `load.url` for that long, from a process of its own, and answers the requests per second. */
export function requestsPerSecond(load: Load): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL('./load-client.ts', import.meta.url)), {
      execArgv: ['--disable-warning=ExperimentalWarning'],
    });
    child.once('message', (answer: { perSecond?: number; error?: string }) => {
      if (answer.perSecond === undefined) reject(new Error(`${load.url}: ${answer.error}`));
      else resolve(answer.perSecond);
    });
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`The load client ended with exit code ${code}.`)));
    child.send(load);
  });
}
