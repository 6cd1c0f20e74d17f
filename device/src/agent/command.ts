import { writeFile } from 'node:fs/promises';
import type { Surroundings } from '../cli.ts';
import { GatepostDeviceError, reasonOf } from '../errors.ts';
import { count } from '../words.ts';
import { parseOptions, secondsOption, wholeNumber } from './arguments.ts';
import type { AgentSessionOptions } from './connect-agent.ts';
import type { AgentOptions } from './connection.ts';
import { agentHelp } from './help.ts';

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;
const help = { type: 'boolean', short: 'h' } as const;

/** What every command but `install` takes. */
const common = { sockets: text, wait: text, help };
const year = 366 * 86_400;

/** `gatepost-device agent ...`. Answers the exit code. */
export async function agentCommand(parameters: string[], surroundings: Surroundings): Promise<number> {
  const [command, ...rest] = parameters;
  const commands: Record<string, (parameters: string[], surroundings: Surroundings) => Promise<number>> = {
    install,
    identity,
    'connection-string': connectionString,
    run,
    reprovision,
  };
  const found = command === undefined || !Object.hasOwn(commands, command) ? undefined : commands[command];
  if (
    command === '--help' ||
    command === '-h' ||
    command === 'help' ||
    rest.includes('--help') ||
    rest.includes('-h')
  ) {
    surroundings.print(agentHelp.trimEnd());
    return 0;
  }
  if (found !== undefined) return found(rest, surroundings);
  const what = command === undefined ? 'Say what the agent is to do' : `There is no agent ${JSON.stringify(command)}`;
  throw new GatepostDeviceError(
    'usage',
    `${what}: install, identity, connection-string, run or reprovision. See gatepost-device agent --help.`,
  );
}

async function install(parameters: string[], { print }: Surroundings): Promise<number> {
  const values = parseOptions('agent', parameters, {
    module: text,
    user: text,
    device: flag,
    'dry-run': flag,
    uninstall: flag,
    root: text,
    help,
  });
  const { module, user, root } = values;
  if (module === undefined || user === undefined) {
    throw new GatepostDeviceError(
      'usage',
      '--module NAME and --user USER are needed. See gatepost-device agent --help.',
    );
  }
  const { planInstall, planUninstall } = await import('./plan.ts');
  const { carryOut, shellOf } = await import('./carry-out.ts');
  const options = { module, user, root, isDevice: values.device === true };
  const plan = values.uninstall === true ? await planUninstall(options) : await planInstall(options);
  const isDry = values['dry-run'] === true;
  for (const line of plan.done) print(isDry ? `# there already: ${line}` : `there already: ${line}`);
  if (isDry) {
    for (const line of shellOf(plan)) print(line);
    return 0;
  }
  await carryOut(plan, options, print);
  if (plan.steps.length === 0) print('nothing to do');
  else if (values.uninstall === true)
    print(`uninstalled ${module}: identityd takes its module out of the hub within 10 s`);
  else print(`installed ${module} for user ${user}: identityd makes its identity within 10 s`);
  return 0;
}

async function identity(parameters: string[], surroundings: Surroundings): Promise<number> {
  const values = parseOptions('agent', parameters, common);
  const { agentIdentity } = await import('./connection.ts');
  const found = await agentIdentity(optionsOf(values, surroundings));
  const { hub, gateway = null, deviceId, moduleId = null, generationId = null, credential } = found;
  // Without the key handle: whoever has it may sign.
  const certificateId = credential.kind === 'x509' ? credential.certificateId : undefined;
  const shown = { hub, gateway, deviceId, moduleId, generationId, auth: credential.kind, certificateId };
  surroundings.print(JSON.stringify(shown));
  return 0;
}

async function connectionString(parameters: string[], surroundings: Surroundings): Promise<number> {
  const values = parseOptions('agent', parameters, { ...common, expiry: text, certificate: text });
  const lifetimeSeconds = wholeNumber(values.expiry, '--expiry', [60, year]);
  const { agentConnection } = await import('./connection.ts');
  const made = await agentConnection({ ...optionsOf(values, surroundings), lifetimeSeconds });
  if (made.certificate !== undefined) await tellOfCertificate(made.certificate, values.certificate, surroundings);
  surroundings.print(made.connectionString);
  return 0;
}

async function tellOfCertificate(pem: string, file: string | undefined, { warn }: Surroundings): Promise<void> {
  if (file !== undefined) {
    try {
      await writeFile(file, pem);
    } catch (error) {
      throw new GatepostDeviceError('usage', `${file} cannot be written: ${reasonOf(error)}`, { cause: error });
    }
  }
  warn(
    'gatepost-device: the private key stays in the Keys Service: use it through the OpenSSL engine aziot_keys, as the C SDK can; the Node SDK cannot',
  );
}

async function run(parameters: string[], surroundings: Surroundings): Promise<number> {
  const values = parseOptions('agent', parameters, {
    ...common,
    ca: text,
    port: text,
    protocol: text,
    expiry: text,
    flush: text,
  });
  const { stdin, signal, warn } = surroundings;
  const { parseProtocol } = await import('../protocol.ts');
  const options: AgentSessionOptions = {
    ...optionsOf(values, surroundings),
    ca: values.ca,
    port: wholeNumber(values.port, '--port', [1, 65_535]),
    protocol: parseProtocol(values.protocol ?? 'mqtt'),
    lifetimeSeconds: wholeNumber(values.expiry, '--expiry', [60, year]),
  };
  const waitMs = options.waitMs ?? 0;
  const flushMs = secondsOption(values.flush, '--flush') ?? 60_000;
  if (stdin.isTTY === true) warn('gatepost-device: reading JSON lines from the terminal; end with Ctrl-D');
  const { runAgent } = await import('./run-agent.ts');
  const log = (line: string) => warn(`gatepost-device: ${line}`);
  const result = await runAgent({ ...options, log }, { input: stdin, log, signal, waitMs, flushMs });
  const bad = result.refused === 0 ? '' : `, ${count(result.refused, 'bad line')} skipped`;
  log(`${signal.aborted ? 'stopped' : 'end of input'}: ${count(result.delivered, 'message')} delivered${bad}`);
  return 0;
}

async function reprovision(parameters: string[], surroundings: Surroundings): Promise<number> {
  const values = parseOptions('agent', parameters, { sockets: text, help });
  const { HostServices } = await import('./host-services.ts');
  await new HostServices({ sockets: values.sockets, signal: surroundings.signal }).reprovision();
  surroundings.print('the device was provisioned anew, and its modules were reconciled with the hub');
  return 0;
}

function optionsOf(
  values: { sockets?: string | undefined; wait?: string | undefined },
  { signal, warn }: Surroundings,
): AgentOptions {
  const waitMs = secondsOption(values.wait, '--wait') ?? 0;
  return { sockets: values.sockets, waitMs, signal, log: (line) => warn(`gatepost-device: ${line}`) };
}
