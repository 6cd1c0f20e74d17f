import type { X509Certificate } from 'node:crypto';
import { fingerprint, subjectOf } from '../certificates.ts';
import { GatepostDeviceError } from '../errors.ts';
import { probeGateway } from '../probe.ts';
import { count } from '../words.ts';
import { appPem, writeAppFile } from './app.ts';
import { proveBySystemTrust } from './handshake.ts';
import { install, planInstall, planRemoval, remove } from './install.ts';
import type { Machine } from './machine.ts';
import { type GatewayToProve, type TrustSources, type WantedTrust, wantedTrust } from './roots.ts';
import { type Sdk, snippet } from './snippets.ts';
import { expiry, isInEffect, statusLines, trustStatus } from './status.ts';
import { render } from './steps.ts';
import { detectStore } from './system.ts';

interface Output {
  /** Writes one line to standard output, or to standard error. */
  print(line: string): void;
  warn(line: string): void;
  now: Date;
}

type Common = Output & TrustSources;

/** Installs the roots in the store of the system, reads it back, and proves the gateway by it. */
export async function installInSystem(options: Common & { machine: Machine; dryRun: boolean }): Promise<number> {
  const { machine, print, dryRun } = options;
  const [wanted, store] = [await wantedTrust(options), await detectStore(machine)];
  const plan = await planInstall(store, wanted.roots);
  if (dryRun) {
    print(`# ${store.system}: ${count(wanted.roots.length, 'root')} of ${wanted.from}`);
    if (plan.steps.length === 0) print('# nothing to do');
    for (const line of plan.steps.flatMap((step) => render(step, store.shell))) print(line);
    return 0;
  }
  if (plan.steps.length > 0) await install(store, plan, machine);
  print(`${store.system}: ${count(wanted.roots.length, 'root')} of ${wanted.from}`);
  for (const root of plan.missing) print(`installed ${lineOf(root)}`);
  for (const root of plan.present) print(`unchanged ${lineOf(root)}`);
  for (const root of plan.others) print(`unchanged ${lineOf(root)}; somebody else installed it`);
  if (plan.steps.length === 0) print('nothing had to be changed');
  print(`verified: ${store.reads} holds ${wanted.roots.length === 1 ? 'it' : 'all of them'}`);
  if (plan.left.length > 0) {
    print(`${count(plan.left.length, 'root')} of Gatepost's left the bundle: gatepost-device trust remove`);
  }
  warnOfExpiry(wanted.roots, options);
  await prove(wanted, options, async (gateway) => {
    const { by, remarks } = await proveBySystemTrust(store, gateway, wanted.roots, machine);
    for (const remark of remarks) warnWith(options, remark);
    return by;
  });
  print('Node.js does not look into this store: gatepost-device trust install --app');
  return 0;
}

/** Writes the roots to one file for programs, and says what each SDK needs to use it. */
export async function installApp(options: Common & { out: string; sdks: readonly Sdk[] }): Promise<number> {
  const { out, print, sdks } = options;
  const wanted = await wantedTrust(options);
  const isNew = await writeAppFile(out, wanted.roots);
  const say = sdks.length === 1 ? (line: string) => options.warn(`gatepost-device: ${line}`) : print;
  say(`${isNew ? 'wrote' : 'unchanged'} ${out}: ${count(wanted.roots.length, 'root')} of ${wanted.from}`);
  for (const root of wanted.roots) say(`  ${lineOf(root)}`);
  say('it is public: everybody may read it, and it holds no secret');
  warnOfExpiry(wanted.roots, options);
  await prove(wanted, { ...options, print: say }, async ({ host, port }) => {
    await probeGateway({ host, port, roots: appPem(wanted.roots) });
    return `a TLS handshake that trusts ${out} only`;
  });
  for (const sdk of sdks) {
    if (sdks.length > 1) print('');
    for (const line of snippet(sdk, out)) print(line);
  }
  return 0;
}

/** Shows what Gatepost installed. The exit code says whether all of it is in effect. */
export async function showStatus(options: Common & { machine: Machine; json: boolean }): Promise<number> {
  const { machine, print, json, now } = options;
  const store = await detectStore(machine);
  const wanted = await knownTrust(options);
  const roots = await trustStatus(store, wanted?.roots, now);
  const inEffect = isInEffect(roots);
  if (json) {
    print(JSON.stringify({ system: store.system, store: store.reads, bundle: wanted?.from ?? null, inEffect, roots }));
  } else {
    print(`${store.system}: ${store.reads}`);
    print(wanted === undefined ? 'no bundle is known here: --state, --bundle or --root' : `bundle: ${wanted.from}`);
    for (const line of statusLines(roots)) print(line);
    if (roots.length === 0) print('Gatepost installed nothing here');
  }
  if (inEffect) return 0;
  const message = `The system does not trust everything that Gatepost installed: gatepost-device trust install. [trust_unverified]`;
  options.warn(`gatepost-device: ${message}`);
  return new GatepostDeviceError('trust_unverified', message).exitCode;
}

/** Takes away what has left the bundle, or everything that Gatepost installed, and nothing else. */
export async function removeFromSystem(
  options: Common & { machine: Machine; dryRun: boolean; all: boolean },
): Promise<number> {
  const { machine, print, dryRun, all } = options;
  const store = await detectStore(machine);
  const plan = await planRemoval(store, all ? 'none' : (await bundleForRemoval(options)).roots);
  if (dryRun) {
    print(`# ${store.system}: ${count(plan.roots.length, 'root')} to remove`);
    if (plan.steps.length === 0) print('# nothing to do');
    for (const line of plan.steps.flatMap((step) => render(step, store.shell))) print(line);
    return 0;
  }
  await remove(store, plan, machine);
  for (const { mark, certificate } of plan.roots) {
    print(`removed ${certificate === undefined ? mark : lineOf(certificate)}`);
  }
  for (const { mark, certificate } of plan.kept) {
    print(`kept ${certificate === undefined ? mark : lineOf(certificate)}: it is in the bundle`);
  }
  print(
    plan.roots.length === 0
      ? 'nothing had to be removed'
      : `verified: ${store.reads} does not hold ${plan.roots.length === 1 ? 'it' : 'them'} any more`,
  );
  return 0;
}

async function bundleForRemoval(options: TrustSources): Promise<WantedTrust> {
  try {
    return await wantedTrust(options);
  } catch (error) {
    if (!(error instanceof GatepostDeviceError) || !error.code.startsWith('state_')) throw error;
    throw new GatepostDeviceError(
      error.code,
      `${error.message} Without the current bundle nobody knows what has left it: name it with --state or --bundle, or remove everything of Gatepost's with --all.`,
      { cause: error },
    );
  }
}

/** The bundle, where one is named or the state folder can be read. */
async function knownTrust(options: TrustSources): Promise<WantedTrust | undefined> {
  try {
    return await wantedTrust(options);
  } catch (error) {
    if (error instanceof GatepostDeviceError && error.code.startsWith('state_')) return undefined;
    throw error;
  }
}

/** A gateway that nobody named and that is out of reach is no fault: roots are installed before gateways are near. */
async function prove(
  { gateway }: WantedTrust,
  output: Output,
  how: (gateway: GatewayToProve) => Promise<string>,
): Promise<void> {
  if (gateway === undefined) return output.print('not proven with a gateway: none is known (--gateway HOST[:PORT])');
  const where = `${gateway.host}:${gateway.port}`;
  try {
    output.print(`proven: ${where} by ${await how(gateway)}`);
  } catch (error) {
    const isAway = error instanceof GatepostDeviceError && error.exitCode === 8;
    if (gateway.named || !isAway) throw error;
    warnWith(output, `not proven with the gateway: ${error.message} [${error.code}]`);
  }
}

function warnOfExpiry(roots: X509Certificate[], output: Output): void {
  for (const root of roots) {
    for (const warning of expiry(root, output.now)) warnWith(output, `${lineOf(root)} ${warning}`);
  }
}

function warnWith({ warn }: Output, line: string): void {
  warn(`gatepost-device: warning: ${line}`);
}

function lineOf(root: X509Certificate): string {
  return `"${subjectOf(root)}", sha256 ${fingerprint(root)}`;
}
