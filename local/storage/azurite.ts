import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import type { FaultSwitch } from '../kit/faults.ts';
import { type FaultProxy, type StorageService, startFaultProxy, storageServices } from './fault-proxy.ts';

export interface Storage {
  /** Leads through the fault switch. */
  connectionString: string;
  close(): Promise<void>;
}

export interface StorageOptions {
  faults: FaultSwitch;
  /** Where Azurite keeps its data; undefined keeps it in memory. */
  directory?: string | undefined;
  /** The blob port; queue and table take the next two. 0 or absent: three free ports. Taken ports are replaced. */
  port?: number;
}

/** The one account that Azurite always has, and its published key (Azurite README, "Default Storage Account"). */
const account = 'devstoreaccount1';
const accountKey = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';
const startTimeoutMs = 60_000;
const stopTimeoutMs = 10_000;

type Ports = Record<StorageService, number>;

/** Starts Azurite as a child process and, in front of each of its three services, a proxy that can be told to misbehave. */
export async function startStorage(options: StorageOptions): Promise<Storage> {
  const child = spawnAzurite(options.directory);
  const proxies: FaultProxy[] = [];
  try {
    const ports = await readPorts(child);
    for (const [index, service] of storageServices.entries()) {
      const port = options.port ? options.port + index : 0;
      proxies.push(
        await startFaultProxy({ service, account, faults: options.faults, upstreamPort: ports[service], port }),
      );
    }
  } catch (error) {
    await stop(child);
    throw error;
  }
  child.once('exit', reportCrash);
  return {
    connectionString: connectionString(proxies),
    async close() {
      child.off('exit', reportCrash);
      await Promise.all(proxies.map((proxy) => proxy.close()));
      await stop(child);
    },
  };
}

function reportCrash(code: number | null, signal: string | null): void {
  process.stderr.write(
    `storage: Azurite ended by itself (${signal ?? `exit code ${code}`}); start the local cloud again.\n`,
  );
}

function connectionString(proxies: FaultProxy[]): string {
  const endpoints = proxies.map(({ service, port }) => {
    const name = `${service.charAt(0).toUpperCase()}${service.slice(1)}Endpoint`;
    return `${name}=http://127.0.0.1:${port}/${account};`;
  });
  return `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${accountKey};${endpoints.join('')}`;
}

function spawnAzurite(directory: string | undefined): ChildProcess {
  if (directory !== undefined) mkdirSync(directory, { recursive: true, mode: 0o700 });
  const main = createRequire(import.meta.url).resolve('azurite/dist/src/azurite.js');
  const services = storageServices.flatMap((service) => [
    ...[`--${service}Host`, '127.0.0.1', `--${service}Port`, '0'],
    // Longer than the proxy keeps an idle connection: it must never write into one that Azurite is closing.
    ...[`--${service}KeepAliveTimeout`, '600'],
  ]);
  const place = directory === undefined ? ['--inMemoryPersistence'] : ['--location', directory];
  // The SDKs' newest API version is usually ahead of the one that Azurite lists.
  return fork(main, [...services, ...place, '--silent', '--disableTelemetry', '--skipApiVersionCheck'], {
    execArgv: ['--import', new URL('exit-with-parent.ts', import.meta.url).href],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    // A process group of its own: Ctrl-C in a terminal must reach the runner alone, which stops storage last.
    detached: true,
  });
}

/** Reads the ports that the three services took from what Azurite says when it is ready. */
function readPorts(child: ChildProcess): Promise<Ports> {
  const { stdout, stderr } = child;
  if (stdout === null || stderr === null) throw new Error('Azurite was started without its output streams.');
  const ports: Partial<Ports> = {};
  let complaints = '';
  stderr.on('data', (chunk: Buffer) => {
    complaints = `${complaints}${chunk.toString()}`.slice(-2000);
  });
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Error(`Azurite did not start: ${why} ${complaints}`.trim()));
    const timer = setTimeout(() => fail(`not ready after ${startTimeoutMs} ms.`), startTimeoutMs);
    child.once('error', (error) => fail(error.message));
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      fail(`it ended (${signal ?? `exit code ${code}`}).`);
    });
    // Reading goes on after the start: a full pipe would stop Azurite.
    createInterface({ input: stdout }).on('line', (line) => {
      const [, service, port] =
        /Azurite (\w+) service is successfully listening at http:\/\/[^:]+:(\d+)/.exec(line) ?? [];
      if (service === undefined) return;
      ports[service.toLowerCase() as StorageService] = Number(port);
      if (!isComplete(ports)) return;
      clearTimeout(timer);
      resolve(ports);
    });
  });
}

function isComplete(ports: Partial<Ports>): ports is Ports {
  return storageServices.every((service) => ports[service] !== undefined);
}

/** Lets Azurite write what it holds, and ends it where it does not. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const gone = once(child, 'exit');
  if (child.connected) child.send('shutdown');
  else child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
  await gone;
  clearTimeout(timer);
}
