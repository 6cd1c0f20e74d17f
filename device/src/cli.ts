import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import manifest from '../package.json' with { type: 'json' };
import { GatepostDeviceError, reasonOf } from './errors.ts';
import { generalHelp, joinHelp, runHelp } from './help.ts';
import { defaultStateFolder } from './state-folder.ts';
import { count } from './words.ts';

/** What a command reads and writes; the process in production. */
export interface Surroundings {
  environment: NodeJS.ProcessEnv;
  stdin: AsyncIterable<Uint8Array | string> & { isTTY?: boolean };
  /** Writes one line to standard output, or standard error. */
  print(line: string): void;
  warn(line: string): void;
  /** Aborted by SIGINT and SIGTERM. */
  signal: AbortSignal;
  /** Whether standard output is a terminal that shows colours. */
  colour?: boolean;
}

const help = { type: 'boolean', short: 'h' } as const;
const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;

/** Runs the command line. Answers the exit code; every fault is one line on standard error. */
export async function main(parameters: string[], surroundings: Surroundings): Promise<number> {
  try {
    return await dispatch(parameters, surroundings);
  } catch (error) {
    if (error instanceof GatepostDeviceError) {
      surroundings.warn(`gatepost-device: ${error.message} [${error.code}]`);
      return error.exitCode;
    }
    surroundings.warn(`gatepost-device: unexpected: ${reasonOf(error)}`);
    return 1;
  }
}

async function dispatch(parameters: string[], surroundings: Surroundings): Promise<number> {
  const [command, ...rest] = parameters;
  if (command === 'join') return joinCommand(rest, surroundings);
  if (command === 'run') return runCommand(rest, surroundings);
  if (command === 'check') return checkCommand(rest, surroundings);
  if (command === 'trust') return (await import('./trust-store/command.ts')).trustCommand(rest, surroundings);
  if (command === 'agent') {
    const { agentCommand } = await import('./agent/command.ts');
    return agentCommand(rest, surroundings);
  }
  if (command === '--version' || command === '-v') {
    surroundings.print(manifest.version);
    return 0;
  }
  if (command === '--help' || command === '-h' || command === 'help') {
    surroundings.print(generalHelp.trimEnd());
    return 0;
  }
  const what = command === undefined ? 'Say what to do' : `There is no command ${JSON.stringify(command)}`;
  throw new GatepostDeviceError(
    'usage',
    `${what}: join or run; check finds out what is wrong. See gatepost-device --help.`,
  );
}

async function joinCommand(parameters: string[], surroundings: Surroundings): Promise<number> {
  const { environment, print } = surroundings;
  const values = parse('join', parameters, {
    api: text,
    token: text,
    'token-file': text,
    'root-sha256': text,
    document: text,
    state: text,
    help,
  });
  if (values.help === true) {
    print(joinHelp(defaultStateFolder(environment)).trimEnd());
    return 0;
  }
  const state = stateFolder(values.state, environment);
  const { join, joinWithDocument } = await import('./join.ts');
  const { gatewayAddress } = await import('./protocol.ts');
  let joined: Awaited<ReturnType<typeof join>>;
  if (values.document !== undefined) {
    if ([values.api, values.token, values['token-file']].some((each) => each !== undefined)) {
      throw new GatepostDeviceError('usage', '--document needs no API: leave out --api, --token and --token-file.');
    }
    const document = await readSource(values.document, surroundings);
    joined = await joinWithDocument({ document, rootSha256: values['root-sha256'], state });
  } else {
    const api = needed(values.api, '--api');
    const rootSha256 = needed(values['root-sha256'], '--root-sha256');
    joined = await join({ api, rootSha256, token: await readToken(values, surroundings), state });
  }
  const { host, port } = gatewayAddress(joined, 'mqtt');
  const { sequence, roots } = joined.trust;
  print(`joined: ${identityOf(joined.device)} behind gateway ${joined.gateway.id} at ${host}:${port}`);
  print(`trust: sequence ${sequence}, ${count(roots.length, 'root')}; state in ${state}`);
  return 0;
}

async function runCommand(parameters: string[], surroundings: Surroundings): Promise<number> {
  const { environment, print } = surroundings;
  const values = parse('run', parameters, {
    state: text,
    cert: text,
    key: text,
    'key-passphrase-file': text,
    protocol: text,
    wait: text,
    flush: text,
    spool: text,
    'spool-limit': text,
    listen: { type: 'boolean' },
    methods: text,
    'log-format': text,
    'print-unit': { type: 'boolean' },
    help,
  });
  if (values.help === true) {
    print(runHelp(defaultStateFolder(environment)).trimEnd());
    return 0;
  }
  const state = stateFolder(values.state, environment);
  if (values['print-unit'] === true) {
    const { systemdUnit } = await import('./service-manager.ts');
    print(systemdUnit({ node: process.execPath, program: resolve(process.argv[1] ?? ''), state }).trimEnd());
    return 0;
  }
  const { parseProtocol } = await import('./protocol.ts');
  const command = {
    state,
    protocol: parseProtocol(values.protocol ?? 'mqtt'),
    waitMs: values.wait === undefined ? undefined : milliseconds(values.wait, '--wait'),
    flushMs: milliseconds(values.flush ?? '60', '--flush'),
    spool: values.spool === undefined ? undefined : resolve(values.spool),
    spoolLimitBytes: values['spool-limit'] === undefined ? undefined : bytes(values['spool-limit'], '--spool-limit'),
    listen: values.listen === true,
    methods: values.methods,
    logFormat: oneOf(['text', 'json'] as const, values['log-format'] ?? 'text', '--log-format'),
    certificate: await readClientCertificate(values),
  };
  const { runService } = await import('./run-command.ts');
  return runService(command, surroundings);
}

async function checkCommand(parameters: string[], surroundings: Surroundings): Promise<number> {
  const { environment, print } = surroundings;
  const values = parse('check', parameters, {
    state: text,
    gateway: text,
    ca: text,
    cert: text,
    key: text,
    'key-passphrase-file': text,
    timeout: text,
    connect: flag,
    'no-connect': flag,
    json: flag,
    verbose: flag,
    help,
  });
  if (values.help === true) {
    const { checkHelp } = await import('./check/help.ts');
    print(checkHelp(defaultStateFolder(environment)).trimEnd());
    return 0;
  }
  const subject = await checkSubject(values, environment);
  if (values.connect === true && values['no-connect'] === true) {
    throw new GatepostDeviceError('usage', '--connect and --no-connect exclude each other.');
  }
  const unless = values['no-connect'] === true ? 'never' : 'unless-connected';
  const { runCheck } = await import('./check/command.ts');
  return runCheck(
    {
      subject,
      connect: values.connect === true ? 'always' : unless,
      certificate: await readClientCertificate(values),
      timeoutMs: milliseconds(values.timeout ?? '5', '--timeout'),
      json: values.json === true,
      verbose: values.verbose === true,
      colour: surroundings.colour === true && !environment.NO_COLOR,
    },
    print,
  );
}

async function checkSubject(values: Record<string, string | boolean | undefined>, environment: NodeJS.ProcessEnv) {
  const { state, gateway, ca } = values;
  if (typeof gateway !== 'string' && typeof ca !== 'string') {
    return { state: stateFolder(typeof state === 'string' ? state : undefined, environment) };
  }
  if (typeof gateway !== 'string' || typeof ca !== 'string') {
    throw new GatepostDeviceError('usage', '--gateway and --ca go together.');
  }
  if (state !== undefined)
    throw new GatepostDeviceError('usage', '--gateway looks without a state: leave out --state.');
  return { gateway, roots: { file: ca, pem: await readText(ca) } };
}

type Options = NonNullable<ParseArgsConfig['options']>;

function parse<O extends Options>(command: string, parameters: string[], options: O) {
  try {
    return parseArgs({ args: parameters, options, allowPositionals: false, strict: true }).values;
  } catch (error) {
    // The first sentence names the option; what follows explains positionals and quotes the value, which may be a token.
    const [sentence] = reasonOf(error).split('. ');
    const known = /^Unknown option|^Option/.test(sentence ?? '') ? `${sentence}` : 'It takes options only';
    throw new GatepostDeviceError('usage', `${known}. See gatepost-device ${command} --help.`);
  }
}

async function readToken(
  values: { token?: string | undefined; 'token-file'?: string | undefined },
  surroundings: Surroundings,
): Promise<string> {
  const file = values['token-file'];
  if (values.token !== undefined && file !== undefined) {
    throw new GatepostDeviceError('usage', '--token and --token-file exclude each other.');
  }
  const found =
    file === undefined
      ? (values.token ?? surroundings.environment.GATEPOST_JOIN_TOKEN)
      : await readSource(file, surroundings);
  const token = found?.trim() ?? '';
  if (token !== '') return token;
  throw new GatepostDeviceError(
    'usage',
    'There is no join token: set GATEPOST_JOIN_TOKEN, or use --token-file FILE (- for standard input).',
  );
}

async function readClientCertificate(values: Record<string, string | boolean | undefined>) {
  const { cert, key, 'key-passphrase-file': passphraseFile } = values;
  if (cert === undefined && key === undefined) return undefined;
  if (typeof cert !== 'string' || typeof key !== 'string') {
    throw new GatepostDeviceError('usage', '--cert and --key go together.');
  }
  const passphrase = typeof passphraseFile === 'string' ? (await readText(passphraseFile)).trimEnd() : undefined;
  return {
    certificate: await readText(cert),
    key: await readText(key),
    ...(passphrase === undefined ? {} : { passphrase }),
  };
}

/** A file, or standard input where it is `-`. */
async function readSource(source: string, { stdin }: Surroundings): Promise<string> {
  if (source !== '-') return readText(source);
  const chunks: Buffer[] = [];
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk as Uint8Array));
  return Buffer.concat(chunks).toString('utf8');
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new GatepostDeviceError('usage', `${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
}

function stateFolder(given: string | undefined, environment: NodeJS.ProcessEnv): string {
  return given === undefined ? defaultStateFolder(environment) : resolve(given);
}

function needed(value: string | undefined, name: string): string {
  if (value !== undefined) return value;
  throw new GatepostDeviceError('usage', `${name} is needed. See gatepost-device join --help.`);
}

function milliseconds(value: string, name: string): number {
  const seconds = Number(value);
  if (value.trim() !== '' && Number.isFinite(seconds) && seconds >= 0) return seconds * 1000;
  throw new GatepostDeviceError('usage', `${name} takes a number of seconds, not ${JSON.stringify(value)}.`);
}

function bytes(value: string, name: string): number {
  const [, number, unit = ''] = /^(\d+)([KMG]?)$/i.exec(value.trim()) ?? [];
  const size = Number(number) * 1024 ** ['', 'K', 'M', 'G'].indexOf(unit.toUpperCase());
  if (number !== undefined && Number.isSafeInteger(size)) return size;
  throw new GatepostDeviceError('usage', `${name} takes a number of bytes, such as 64M, not ${JSON.stringify(value)}.`);
}

function oneOf<T extends string>(known: readonly T[], value: string, name: string): T {
  const found = known.find((each) => each === value);
  if (found !== undefined) return found;
  throw new GatepostDeviceError('usage', `${name} is one of ${known.join(', ')}, not ${JSON.stringify(value)}.`);
}

function identityOf(device: { id: string; moduleId: string | null }): string {
  return device.moduleId ? `${device.id}/${device.moduleId}` : device.id;
}
