import { fingerprint, readCertificates, subjectOf } from '../certificates.ts';
import { type ConnectionString, parseConnectionString } from '../connection-string.ts';
import { type OnboardingDocument, rootsPem } from '../document.ts';
import { GatepostDeviceError, reasonOf } from '../errors.ts';
import type { ClientCertificate } from '../session.ts';
import { type Origin, rootsPath } from '../state.ts';
import { firstPort, portsOf, usualPorts } from './addresses.ts';
import { password } from './connect.ts';
import type { ConnectMode, Context, Own } from './context.ts';
import { type CommonValues, quoted, worst } from './findings.ts';
import { Observations } from './observations.ts';
import { beginnings } from './observe/clock.ts';
import { type Lookup, systemLookup } from './observe/network.ts';
import { type CheckReport, type CheckResult, exitCodes, type SentCertificate } from './report.ts';
import { runChecks, stoppedAtState } from './runner.ts';
import { type ExaminedState, examineState } from './state.ts';

interface Surroundings {
  /** Milliseconds for each thing that is waited for. Default 5000. */
  timeoutMs?: number;
  now?: () => Date;
  lookup?: Lookup;
}

export interface CheckDeviceOptions extends Surroundings {
  /** The folder that `gatepost-device join` filled. */
  state: string;
  /** Of a device that authenticates with X.509. */
  certificate?: ClientCertificate | undefined;
  /**
   * Whether to log in, which ends the connection of a running client of the same identity. Default `unless-connected`:
   * not while a process of this machine is connected to the gateway, nor where the system does not tell.
   */
  connect?: ConnectMode;
}

export interface CheckGatewayOptions extends Surroundings {
  host: string;
  /** Default 8883. */
  port?: number | undefined;
  /** The PEM file of the roots to trust, and what it holds. */
  roots: { file: string; pem: string };
}

/** Finds out why a device cannot connect, or that it can. Never throws for what is wrong with device or gateway. */
export async function checkDevice(options: CheckDeviceOptions): Promise<CheckReport> {
  const { state } = options;
  const now = options.now ?? (() => new Date());
  const common = commonValues({ state: quoted(state), roots: quoted(rootsPath(state)) });
  const examined = await examineState(state, common);
  const { document } = examined;
  if (document === undefined || worst(examined.findings) === 'error') {
    return report({ results: stoppedAtState(examined.findings), certificates: [], now, document });
  }
  const context = ownContext(options, { ...examined, document }, common);
  return examine(context, now, document);
}

/** Looks at a gateway from a machine that has no identity: everything but what needs one. Throws `usage`. */
export async function checkGateway(options: CheckGatewayOptions): Promise<CheckReport> {
  const { host, roots, timeoutMs = 5_000 } = options;
  const now = options.now ?? (() => new Date());
  const ports = usualPorts(options.port);
  const port = firstPort(ports);
  const trusted = readRoots(roots);
  const common = commonValues({ roots: quoted(roots.file), host, port: String(port) });
  const observe = new Observations({
    host,
    port,
    roots: roots.pem,
    trusted,
    api: undefined,
    token: () => undefined,
    deviceId: undefined,
    passed: beginnings(trusted),
    timeoutMs,
    now,
    lookup: options.lookup ?? systemLookup,
  });
  const context = {
    common,
    host,
    ports,
    port,
    trusted,
    roots: roots.pem,
    own: undefined,
    stateFindings: [],
    timeoutMs,
    observe,
  };
  return examine(context, now);
}

function ownContext(
  options: CheckDeviceOptions,
  { findings, document, origin }: ExaminedState & { document: OnboardingDocument },
  partly: CommonValues,
): Context {
  const { timeoutMs = 5_000 } = options;
  const string = parseConnectionString(document.connectionString);
  const { host } = string.gateway;
  const ports = portsOf(document);
  const port = firstPort(ports);
  const own = ownOf(document, string, options);
  const roots = rootsPem(document.trust);
  const trusted = readCertificates(roots);
  const api = apiOf(origin);
  const common = {
    ...partly,
    host,
    port: String(port),
    hub: string.hub,
    device: own.id,
    gateway: document.gateway.id,
    api: api === undefined ? partly.api : api.href.replace(/\/$/, ''),
  };
  const observe = new Observations({
    host,
    port,
    roots,
    trusted,
    api,
    token: (now) => password(own, now),
    deviceId: string.deviceId,
    passed: [...joinedAt(origin), ...beginnings(trusted)],
    timeoutMs,
    now: options.now ?? (() => new Date()),
    lookup: options.lookup ?? systemLookup,
  });
  return { common, host, ports, port, trusted, roots, own, stateFindings: findings, timeoutMs, observe };
}

function ownOf(document: OnboardingDocument, string: ConnectionString, options: CheckDeviceOptions): Own {
  const { hub, deviceId, moduleId } = string;
  const path = moduleId === undefined ? deviceId : `${deviceId}/modules/${moduleId}`;
  return {
    document,
    string,
    id: moduleId === undefined ? deviceId : `${deviceId}/${moduleId}`,
    resource: `${hub}/devices/${path}`,
    certificate: options.certificate,
    connect: options.connect ?? 'unless-connected',
  };
}

async function examine(context: Context, now: () => Date, document?: OnboardingDocument): Promise<CheckReport> {
  // Before this program opens connections of its own.
  await context.observe.peers();
  const results = await runChecks(context);
  const sent = results.some(({ name, result }) => name === 'tls' && result === 'ok')
    ? await context.observe.sent()
    : [];
  const certificates = sent.map((each) => ({
    subject: subjectOf(each),
    issuer: each.issuer.split('\n').join(','),
    notBefore: new Date(each.validFrom).toISOString(),
    notAfter: new Date(each.validTo).toISOString(),
    sha256: fingerprint(each),
  }));
  const gateway = { id: document?.gateway.id ?? null, host: context.host, port: context.port };
  return report({ results, certificates, now, document, gateway });
}

interface Parts {
  results: CheckResult[];
  certificates: SentCertificate[];
  now: () => Date;
  document?: OnboardingDocument | undefined;
  gateway?: NonNullable<CheckReport['gateway']>;
}

function report({ results, certificates, now, document, gateway }: Parts): CheckReport {
  const findings = results.flatMap((each) => each.findings);
  const severity = worst(findings);
  return {
    version: 1,
    checkedAt: now().toISOString(),
    gateway: gateway ?? null,
    device: document === undefined ? null : { id: document.device.id, moduleId: document.device.moduleId ?? null },
    severity,
    firstCause: findings.find((each) => each.severity === 'error')?.code ?? null,
    exitCode: exitCodes[severity],
    checks: results,
    certificates,
  };
}

function readRoots({ file, pem }: CheckGatewayOptions['roots']) {
  let reason = 'it holds no certificate';
  try {
    const trusted = readCertificates(pem);
    if (trusted.length > 0) return trusted;
  } catch (error) {
    reason = reasonOf(error);
  }
  throw new GatepostDeviceError('usage', `--ca takes a PEM file of roots; ${file} does not read: ${reason}.`);
}

/** Where the device joined; undefined where that was without the network, or the file was edited. */
function apiOf(origin: Origin | undefined): URL | undefined {
  try {
    return typeof origin?.api === 'string' ? new URL(origin.api) : undefined;
  } catch {
    return undefined;
  }
}

function joinedAt(origin: Origin | undefined): { at: Date; what: string }[] {
  const at = new Date(origin?.joinedAt ?? '');
  return Number.isNaN(at.getTime()) ? [] : [{ at, what: 'this device joined' }];
}

/** Capitals stand for what is not known. */
function commonValues(known: Partial<CommonValues>): CommonValues {
  return {
    host: 'HOST',
    port: '8883',
    roots: 'ROOTS.pem',
    state: 'STATE',
    api: 'API',
    hub: 'HUB',
    device: 'DEVICE',
    gateway: 'GATEWAY',
    ...known,
  };
}
