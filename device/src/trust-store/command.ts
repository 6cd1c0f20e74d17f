import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Surroundings } from '../cli.ts';
import { GatepostDeviceError, reasonOf } from '../errors.ts';
import { defaultStateFolder } from '../state-folder.ts';
import { installApp, installInSystem, removeFromSystem, showStatus } from './actions.ts';
import { defaultAppFile } from './app.ts';
import { trustHelp } from './help.ts';
import { thisMachine } from './machine.ts';
import type { TrustSources } from './roots.ts';
import { type Sdk, sdks } from './snippets.ts';

const text = { type: 'string' } as const;
const flag = { type: 'boolean' } as const;

const sources = { state: text, bundle: text, root: { type: 'string', multiple: true } } as const;
const help = { type: 'boolean', short: 'h' } as const;

const optionsOf = {
  install: { ...sources, gateway: text, 'dry-run': flag, app: flag, out: text, sdk: text, help },
  status: { ...sources, json: flag, help },
  remove: { ...sources, all: flag, 'dry-run': flag, help },
} as const;

type Action = keyof typeof optionsOf;

/** `gatepost-device trust ...`. Answers the exit code; throws GatepostDeviceError. */
export async function trustCommand(parameters: string[], surroundings: Surroundings): Promise<number> {
  const [action, ...rest] = parameters;
  const asked = action === '--help' || action === '-h' || action === 'help';
  if (!asked && !isAction(action)) {
    const what = action === undefined ? 'Say what to do with the trust' : `There is no trust ${JSON.stringify(action)}`;
    throw new GatepostDeviceError('usage', `${what}: install, status or remove. See gatepost-device trust --help.`);
  }
  if (asked || rest.includes('--help') || rest.includes('-h')) {
    const { environment, print } = surroundings;
    print(trustHelp(defaultStateFolder(environment), defaultAppFile(environment)).trimEnd());
    return 0;
  }
  return perform(action as Action, rest, surroundings);
}

async function perform(action: Action, parameters: string[], surroundings: Surroundings): Promise<number> {
  const { environment } = surroundings;
  const output = { print: surroundings.print, warn: surroundings.warn, now: new Date() };
  const machine = thisMachine(environment);
  if (action === 'status') {
    const values = parse(action, parameters, optionsOf.status);
    return showStatus({ ...output, machine, ...from(values, environment), json: values.json === true });
  }
  if (action === 'remove') {
    const values = parse(action, parameters, optionsOf.remove);
    const dryRun = values['dry-run'] === true;
    return removeFromSystem({ ...output, machine, ...from(values, environment), dryRun, all: values.all === true });
  }
  const values = parse(action, parameters, optionsOf.install);
  const wanted = { ...from(values, environment), gateway: values.gateway };
  const sdk = values.sdk === undefined ? undefined : parseSdk(values.sdk);
  if (values.app === true) {
    if (values['dry-run'] === true) throw misuse('--dry-run is about the store of the system: leave out --app.');
    const out = values.out === undefined ? defaultAppFile(environment) : resolve(values.out);
    return installApp({ ...output, ...wanted, out, sdks: sdk === undefined ? sdks : [sdk] });
  }
  if (values.out !== undefined || sdk !== undefined) throw misuse('--out and --sdk go with --app.');
  return installInSystem({ ...output, machine, ...wanted, dryRun: values['dry-run'] === true });
}

function from(
  values: { state?: string | undefined; bundle?: string | undefined; root?: string[] | undefined },
  environment: NodeJS.ProcessEnv,
): TrustSources {
  const state = values.state === undefined ? defaultStateFolder(environment) : resolve(values.state);
  return { state, bundle: values.bundle, roots: values.root };
}

function parse<O extends (typeof optionsOf)[Action]>(action: Action, parameters: string[], options: O) {
  try {
    return parseArgs({ args: parameters, options, allowPositionals: false, strict: true }).values;
  } catch (error) {
    const [sentence] = reasonOf(error).split('. ');
    throw misuse(`trust ${action}: ${sentence}. See gatepost-device trust --help.`);
  }
}

function parseSdk(given: string): Sdk {
  const known = sdks.find((each) => each === given);
  if (known !== undefined) return known;
  throw misuse(`--sdk is one of ${sdks.join(', ')}, not ${JSON.stringify(given)}.`);
}

function isAction(given: string | undefined): given is Action {
  return given !== undefined && Object.hasOwn(optionsOf, given);
}

function misuse(message: string): GatepostDeviceError {
  return new GatepostDeviceError('usage', message);
}
