import { startFunctionsHost } from '../local/functions-host/host.ts';
import { type App, deployedApp, plainApp } from './kit/apps.ts';
import type { Bench } from './kit/bench.ts';
import { median, table } from './kit/numbers.ts';

/** Milliseconds. */
interface Times {
  /** The worker loads the bundle. */
  load: number;
  /** The host is up, with its worker and the app in it. */
  up: number;
  /** The first answer, once it is up. */
  first: number;
}

/** Settings without which the app does not start. Nothing here is called. */
const settings = {
  GATEPOST_HUB_HOSTNAME: 'bench.azure-devices.net',
  GATEPOST_VAULT_URL: 'https://bench.vault.azure.net',
  GATEPOST_ENTRA_ISSUER: 'https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000/v2.0',
  GATEPOST_ENTRA_AUDIENCE: 'api://gatepost',
  AzureWebJobsStorage: 'UseDevelopmentStorage=true',
};

export const start: Bench = {
  name: 'start',
  about: 'from nothing to the first answer, against a hello-world app in the same host',
  async run({ smoke, print }) {
    const rounds = smoke ? 1 : 21;
    const apps = { plain: await plainApp(), ours: deployedApp() };
    const times = { plain: [] as Times[], ours: [] as Times[] };
    try {
      // The first round fills the machine's file cache and is not counted.
      for (let round = 0; round <= rounds; round++) {
        const plain = await timeStart(apps.plain, '/hello');
        const ours = await timeStart(apps.ours, '/api/v1/health');
        if (round === 0) continue;
        times.plain.push(plain);
        times.ours.push(ours);
      }
    } finally {
      apps.plain.remove();
      apps.ours.remove();
    }
    const compare = (what: string, pick: (times: Times) => number) => {
      const [plain, ours] = [median(times.plain.map(pick)), median(times.ours.map(pick))];
      return {
        ratio: ours / plain,
        row: [what, `${plain.toFixed(0)} ms`, `${ours.toFixed(0)} ms`, (ours / plain).toFixed(2)],
      };
    };
    const total = compare('from nothing to the first answer', ({ up, first }) => up + first);
    const parts = [
      compare('the worker loads the bundle', ({ load }) => load),
      compare('host, worker and app are up', ({ up }) => up),
      compare('the first answer after that', ({ first }) => first),
      total,
    ];
    print(
      table(
        [`median of ${rounds}`, 'hello world', 'Gatepost', 'ratio'],
        parts.map(({ row }) => row),
      ),
    );
    return { summary: `${total.ratio.toFixed(2)} times hello world (aim 1.3, at most 2)`, good: total.ratio <= 2 };
  },
};

async function timeStart(app: App, path: string): Promise<Times> {
  const load = { begin: 0, end: 0 };
  const log = (line: string) => {
    if (line.includes('Loading entry point file')) load.begin = performance.now();
    if (line.includes('Loaded entry point file')) load.end = performance.now();
  };
  const begin = performance.now();
  const host = await startFunctionsHost({ directory: app.directory, env: settings, log });
  try {
    const up = performance.now();
    const response = await fetch(`${host.url}${path}`);
    await response.arrayBuffer();
    const end = performance.now();
    if (response.status !== 200) throw new Error(`${path} answered ${response.status}: ${host.errors.join()}`);
    return { load: load.end - load.begin, up: up - begin, first: end - up };
  } finally {
    await host.close();
  }
}
