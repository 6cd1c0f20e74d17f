import type { CheckCode } from './codes.ts';
import type { CheckName } from './context.ts';
import type { Severity } from './findings.ts';

/** What `gatepost-device check --json` prints: docs/check-report.schema.json describes it. */
export interface CheckReport {
  /** Raised when a field changes its meaning or goes away; new fields and codes do not raise it. */
  version: 1;
  /** By this device's clock. */
  checkedAt: string;
  /** What was looked at; null where the state folder did not say. */
  gateway: { id: string | null; host: string; port: number } | null;
  device: { id: string; moduleId: string | null } | null;
  /** The worst that was found. */
  severity: Severity;
  /** The first error, on which others may be based; null where there is none. */
  firstCause: CheckCode | null;
  exitCode: number;
  checks: CheckResult[];
  /** What the gateway sent, in its order. */
  certificates: SentCertificate[];
}

export interface CheckResult {
  name: CheckName;
  title: string;
  /** `skipped`: another check has to be well first. */
  result: Severity | 'skipped';
  /** The code on account of which it was skipped. */
  because: CheckCode | null;
  findings: ReportedFinding[];
}

export interface ReportedFinding {
  code: CheckCode;
  severity: Severity;
  cause: string;
  cure: string;
  command: string;
  details: string[];
  /** Where one code has several possible causes, the likeliest first. */
  likely: string[];
}

export interface SentCertificate {
  subject: string;
  issuer: string;
  notBefore: string;
  notAfter: string;
  sha256: string;
}

/** Exit codes of `check` by the worst that was found; 1 and 2 are those of every command. */
export const exitCodes = { ok: 0, info: 0, warning: 20, error: 21 } as const satisfies Record<Severity, number>;
