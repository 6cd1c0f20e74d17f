import { randomBytes } from 'node:crypto';
import { GatepostError } from '../errors.ts';
import type { Caller } from '../http/route.ts';
import { count } from '../telemetry/metrics.ts';
import type { Log } from '../telemetry.ts';
import { presentableText } from '../telemetry.ts';
import type { AuditEvent, AuditLog, AuditResult } from './log.ts';
import { type AuditPolicy, type AuditSubject, auditCaller } from './record.ts';

/** What a route may say of the event that it is. */
export interface AuditTrail {
  /** Records that it is about to happen. Throws an `upstream_` problem where that cannot be, and then it must not. */
  begin(subject: AuditSubject): Promise<void>;
  /** Adds what is known only later, such as the kind of credential. */
  note(subject: AuditSubject): void;
}

export interface TrailOptions {
  policy: AuditPolicy;
  audit: () => Promise<AuditLog>;
  caller: Caller;
  correlationId: string;
  requestId: string;
  clock: () => Date;
  log: Log;
}

/** A trail that nothing is recorded on, for routes that change nothing. */
export const noTrail: AuditTrail = { begin: async () => {}, note: () => {} };

/**
 * The record of one call. What changes something is recorded before, or is not done: fail closed. Its outcome is recorded
 * after; where that fails nothing can be undone, and the first row stays, without an outcome: it is not silent.
 */
export class Trail implements AuditTrail {
  readonly #options: TrailOptions;
  #subject: AuditSubject = {};
  #event: AuditEvent | undefined;

  constructor(options: TrailOptions) {
    this.#options = options;
  }

  note(subject: AuditSubject): void {
    this.#subject = { ...this.#subject, ...subject };
  }

  async begin(subject: AuditSubject): Promise<void> {
    this.note(subject);
    this.#event = this.#newEvent();
    try {
      await (await this.#options.audit()).append(this.#event);
    } catch (cause) {
      this.#lost('begin', cause, undefined);
      throw unrecorded(cause);
    }
  }

  /** Records how a call ended that was begun, or that releases a credential. Throws where that must not go out unrecorded. */
  async end(result: AuditResult): Promise<void> {
    const { policy, audit } = this.#options;
    const isRelease = policy.when === 'release';
    if (isRelease ? result.outcome !== 'succeeded' : this.#event === undefined) return;
    const event = this.#event === undefined ? this.#newEvent() : { ...this.#event, subject: this.#subject };
    try {
      await (await audit()).append(event, result);
    } catch (cause) {
      this.#lost('end', cause, result);
      if (isRelease && policy.otherwise !== 'log') throw unrecorded(cause);
    }
  }

  #newEvent(): AuditEvent {
    const { policy, caller, correlationId, requestId, clock } = this.#options;
    const named = auditCaller(caller, this.#subject);
    return {
      id: randomBytes(6).toString('hex'),
      at: clock(),
      action: policy.action,
      caller: { ...named, id: presentableText(named.id), name: presentableText(named.name) },
      subject: this.#subject,
      correlationId,
      requestId,
    };
  }

  /** The log has what the row would have had. */
  #lost(phase: 'begin' | 'end', cause: unknown, result: AuditResult | undefined): void {
    const { policy, log, caller } = this.#options;
    const { deviceId, moduleId, gatewayId, root, credential } = this.#subject;
    count('gatepost.audit.lost', { phase });
    log.error('audit_row_lost', {
      phase,
      action: policy.action,
      caller: auditCaller(caller, this.#subject).id,
      ...(deviceId === undefined ? {} : { deviceId }),
      ...(moduleId === undefined || moduleId === null ? {} : { moduleId }),
      ...(gatewayId === undefined ? {} : { gatewayId }),
      ...(root === undefined ? {} : { root }),
      ...(credential === undefined ? {} : { kind: credential }),
      ...(result === undefined ? {} : { outcome: result.outcome, status: result.status }),
      ...(cause instanceof GatepostError ? { code: cause.code } : {}),
    });
  }
}

/** How a call ended, by what it threw. */
export function resultOf(error: unknown): AuditResult {
  const known = error instanceof GatepostError ? error : undefined;
  const status = known?.status ?? 500;
  return { outcome: status < 500 ? 'refused' : 'failed', status, code: known?.code ?? 'internal' };
}

function unrecorded(cause: unknown): GatepostError {
  const detail = 'The audit log cannot be written now, and without it nothing is done. Repeat the call.';
  const known = cause instanceof GatepostError ? cause : undefined;
  const options = {
    cause,
    ...(known?.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: known.retryAfterSeconds }),
  };
  return new GatepostError(known?.code ?? 'upstream_unavailable', detail, options);
}
