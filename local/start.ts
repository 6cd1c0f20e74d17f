import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { contractFile, removeContract, writeContract } from './cloud/contract.ts';
import { FolderInUseError } from './cloud/lock.ts';
import type { LocalCloud } from './cloud.ts';

const help = `Brings up the cloud on your desk: IoT Hub, Key Vault, Entra ID, storage and an Edge gateway on loopback,
and the Gatepost API in an embedded Functions host.

  npm start                    begin, or go on where the last run ended
  npm start -- --fresh         forget everything and begin anew
  npm start -- --port N        the API's port: default 7071, 0 takes a free one
  npm start -- --gateways N    how many Edge gateways run: default 1, at most 20
  npm start -- --trace         show each request with the calls that it makes, as it ends
  npm start -- --help          this text

State is kept in .gatepost/ below the current folder. When all is ready, .gatepost/local.json says where everything is
and holds a token for the API; it is for your eyes only and is removed at the end. A port that is taken is replaced by a
free one. Ctrl-C stops it all.
`;

const directory = '.gatepost';
const defaultPort = 7071;
/** The ports of an Edge gateway, which the first one takes if it can. */
const gatewayPorts = { mqtt: 8883, amqp: 5671, websocket: 443 };
const mostGateways = 20;

interface Arguments {
  help: boolean;
  fresh: boolean;
  trace: boolean;
  port: number;
  gateways: number;
}

class UsageError extends Error {}

function readArguments(): Arguments {
  const options = {
    help: { type: 'boolean', short: 'h', default: false },
    fresh: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
    port: { type: 'string', default: String(defaultPort) },
    gateways: { type: 'string', default: '1' },
  } as const;
  let values: ReturnType<typeof parseArgs<{ options: typeof options }>>['values'];
  try {
    values = parseArgs({ options }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  return {
    help: values.help,
    fresh: values.fresh,
    trace: values.trace,
    port: wholeNumber('--port', values.port, 0, 65_535),
    gateways: wholeNumber('--gateways', values.gateways, 0, mostGateways),
  };
}

function wholeNumber(option: string, text: string, least: number, most: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= least && value <= most) return value;
  throw new UsageError(`${option} takes a whole number from ${least} to ${most}, not "${text}".`);
}

/** Says what a person needs next; the lines work when they are pasted into a shell in the same folder. */
function introduce({ contract }: LocalCloud): string {
  const [gateway] = contract.gateways;
  const lines = [
    '',
    `The cloud on your desk is up.`,
    '',
    `  API        ${contract.api}`,
    `  IoT Hub    ${contract.hub.hostname} on 127.0.0.1:${contract.hub.port}`,
    `  Key Vault  ${contract.vault.url} on 127.0.0.1:${contract.vault.port}`,
    `  Entra ID   ${contract.entra.issuer}`,
    ...contract.gateways.map(
      ({ id, hostname, ports }) =>
        `  Gateway    ${id}: mqtts://${hostname}:${ports.mqtt}, amqps://${hostname}:${ports.amqp}, wss://${hostname}:${ports.websocket}`,
    ),
    `  Faults     ${contract.faultsUrl}`,
    `  Telemetry  ${contract.hub.telemetryUrl}`,
    `  API's log  ${join(directory, 'api.log')}`,
    '',
    `Everything, the secrets too, is in ${contractFile(directory)}. Take the operator's token from there:`,
    '',
    `  TOKEN=$(node -p 'require("./${contractFile(directory)}").operatorToken')`,
  ];
  if (gateway !== undefined) lines.push('', ...firstSteps(contract.api, gateway));
  return `${[...lines, '', 'Ctrl-C stops it all.'].join('\n')}\n`;
}

function firstSteps(api: string, gateway: LocalCloud['contract']['gateways'][number]): string[] {
  const { id, hostname, ports, rootFile } = gateway;
  const curl = `  curl -sS -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json'`;
  const body = (value: object) => `-d '${JSON.stringify(value)}'`;
  return [
    "Then import the gateway's root, register the gateway, and onboard a device behind it:",
    '',
    `  node -p 'JSON.stringify({name: "${id}", pem: fs.readFileSync("${rootFile}", "utf8")})' |`,
    `  ${curl.trim()} ${api}/api/v1/roots -d @-`,
    `${curl} -X PUT ${api}/api/v1/gateways/${id} ${body({ hostname, ports: { mqtt: ports.mqtt } })}`,
    `${curl} ${api}/api/v1/devices/press-01/onboard ${body({ gateway: id })}`,
  ];
}

/** Resolves with the first signal that asks for an end; a second one does not wait. */
function endOfRun(): Promise<void> {
  return new Promise((resolve) => {
    let asked = false;
    const end = () => {
      if (asked) process.exit(1);
      asked = true;
      process.stdout.write('\nStopping.\n');
      resolve();
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, end);
    if (process.env.npm_lifecycle_event !== undefined) whenOrphaned(end);
  });
}

/** npm starts us in a shell, and a signal to npm ends that shell without reaching us. */
function whenOrphaned(act: () => void): void {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    act();
  }, 250);
  timer.unref();
}

async function main(): Promise<void> {
  const given = readArguments();
  if (given.help) {
    process.stdout.write(help);
    return;
  }
  const ended = endOfRun();
  // Loaded late, so that a mistyped option is answered at once.
  const { startCloud } = await import('./cloud.ts');
  const logFile = resolve(directory, 'api.log');
  const traces = given.trace ? await showTraces() : undefined;
  const apiEnv = traces?.apiEnv ?? {};
  const cloud = await startCloud({ directory, logFile, gatewayPorts, ...given, apiEnv });
  try {
    // The app begins to send traces after its first answer.
    if (given.trace) await (await fetch(`${cloud.api}/api/v1/health`)).text();
    writeContract(directory, cloud.contract);
    process.stdout.write(introduce(cloud));
    await ended;
  } finally {
    removeContract(directory);
    await cloud.close();
    await traces?.close();
  }
}

/** Prints traces as they come in; `apiEnv` makes the API send them here. */
async function showTraces(): Promise<{ apiEnv: Record<string, string>; close(): Promise<void> }> {
  const [{ startCollector }, { traceGatherer }] = await Promise.all([
    import('./traces/collector.ts'),
    import('./traces/show.ts'),
  ]);
  const print = (line: string) => process.stdout.write(`${line.replace(/\p{Cc}/gu, ' ')}\n`);
  const { endpoint, close } = await startCollector(traceGatherer(print));
  return { apiEnv: { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_BSP_SCHEDULE_DELAY: '200' }, close };
}

try {
  await main();
} catch (error) {
  const isExpected = error instanceof UsageError || error instanceof FolderInUseError;
  process.stderr.write(`${isExpected ? (error as Error).message : (error as Error).stack}\n`);
  if (error instanceof UsageError) process.stderr.write(`\n${help}`);
  process.exitCode = 1;
}
