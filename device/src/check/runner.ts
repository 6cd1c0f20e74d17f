import { agreementCheck } from './agreement.ts';
import { chainCheck } from './chain.ts';
import { clockCheck } from './clock.ts';
import { type CheckCode, checkCodes } from './codes.ts';
import { connectCheck } from './connect.ts';
import { type Check, type CheckName, type Context, checkNames } from './context.ts';
import { credentialCheck } from './credential.ts';
import { dnsCheck } from './dns.ts';
import { edgeCaCheck } from './edge-ca.ts';
import { expiryCheck } from './expiry.ts';
import { type Finding, worst } from './findings.ts';
import { identityCheck } from './identity.ts';
import { nameCheck } from './name.ts';
import { peerCheck } from './peer.ts';
import { portsCheck } from './ports.ts';
import type { CheckResult, ReportedFinding } from './report.ts';
import { stateCheck } from './state.ts';
import { tlsCheck } from './tls.ts';
import { verificationCheck } from './verification.ts';

const checks: Record<CheckName, Check> = {
  state: stateCheck,
  clock: clockCheck,
  dns: dnsCheck,
  ports: portsCheck,
  tls: tlsCheck,
  chain: chainCheck,
  name: nameCheck,
  expiry: expiryCheck,
  'edge-ca': edgeCaCheck,
  verification: verificationCheck,
  credential: credentialCheck,
  identity: identityCheck,
  connect: connectCheck,
  peer: peerCheck,
  agreement: agreementCheck,
};

/** Every check, in the order in which they are shown. */
export const allChecks: readonly Check[] = checkNames.map((name) => checks[name]);

/**
 * Runs every check whose needs are met. One that builds on something broken is not run, since all it could find are
 * consequences: it says on account of which code. What is independent runs in any case.
 */
export async function runChecks(context: Context): Promise<CheckResult[]> {
  const run = new Run(context);
  const wanted = allChecks.filter(({ ownOnly }) => !ownOnly || context.own !== undefined);
  return Promise.all(wanted.map(({ name }) => run.result(name)));
}

/** The results where nothing but the state folder could be looked at. */
export function stoppedAtState(findings: Finding[]): CheckResult[] {
  const cause = firstError(findings);
  return allChecks.map((check) => (check.name === 'state' ? finished(check, findings) : skipped(check, cause ?? null)));
}

class Run {
  readonly #context: Context;
  readonly #results = new Map<CheckName, Promise<CheckResult>>();

  constructor(context: Context) {
    this.#context = context;
  }

  result(name: CheckName): Promise<CheckResult> {
    const known = this.#results.get(name) ?? this.#run(checks[name]);
    this.#results.set(name, known);
    return known;
  }

  async #run(check: Check): Promise<CheckResult> {
    if (check.ownOnly && this.#context.own === undefined) return finished(check, []);
    for (const need of check.needs) {
      const cause = causeOf(await this.result(need));
      if (cause !== undefined) return skipped(check, cause);
    }
    const outcome = await check.run(this.#context);
    if (Array.isArray(outcome)) return finished(check, outcome);
    return skipped(check, causeOf(await this.result(outcome.skippedFor)) ?? null);
  }
}

function finished({ name, title }: Check, findings: Finding[]): CheckResult {
  return { name, title, result: worst(findings), because: null, findings: findings.map(reported) };
}

function skipped({ name, title }: Check, because: CheckCode | null): CheckResult {
  return { name, title, result: 'skipped', because, findings: [] };
}

/** On account of what a check cannot be built upon; undefined where it can. */
function causeOf({ result, because, findings }: CheckResult): CheckCode | undefined {
  return result === 'skipped' ? (because ?? undefined) : firstError(findings);
}

function firstError(findings: readonly { code: string; severity: string }[]): CheckCode | undefined {
  return findings.find(({ severity }) => severity === 'error')?.code as CheckCode | undefined;
}

function reported(finding: Finding): ReportedFinding {
  const code = finding.code as CheckCode;
  return { ...finding, code, likely: [...(checkCodes[code].likely ?? [])] };
}
