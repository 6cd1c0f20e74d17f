import { GatepostError, type ProblemField, problems } from '../errors.ts';

/** An HTTP answer as the host takes it. */
export interface HttpAnswer {
  status: number;
  headers: Record<string, string>;
  body?: string | Uint8Array;
}

/** RFC 9457 problem details with the members of this API. */
export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  /** The invocation id: what a person quotes when asking for help. */
  instance: string;
  code: string;
  errors?: ProblemField[];
}

/** Seconds to wait that a 503 or 504 names where the cause named none. */
const defaultRetryAfterSeconds = 5;

/** Turns an error into the one form in which this API answers errors. Anything unforeseen becomes `internal`, told nothing of. */
export function problemAnswer(error: unknown, instance: string): HttpAnswer {
  const known = error instanceof GatepostError ? error : internalError(error);
  const { status, title } = problems[known.code];
  const problem: Problem = {
    type: `urn:gatepost:problem:${known.code}`,
    title,
    status,
    detail: known.detail,
    instance,
    code: known.code,
    ...(known.errors === undefined ? {} : { errors: known.errors }),
  };
  const headers: Record<string, string> = {
    'content-type': 'application/problem+json; charset=utf-8',
    'cache-control': 'no-store',
  };
  const challenge = challengeFor(known);
  if (challenge !== undefined) headers['www-authenticate'] = challenge;
  const retryAfter = retryAfterOf(known, status);
  if (retryAfter !== undefined) headers['retry-after'] = String(retryAfter);
  return { status, headers, body: JSON.stringify(problem) };
}

function internalError(cause: unknown): GatepostError {
  return new GatepostError('internal', 'Repeat the call; if it fails again, report the instance id of this answer.', {
    cause,
  });
}

function retryAfterOf(error: GatepostError, status: number): number | undefined {
  if (error.retryAfterSeconds !== undefined) return Math.max(1, Math.ceil(error.retryAfterSeconds));
  return status === 503 || status === 504 ? defaultRetryAfterSeconds : undefined;
}

/** RFC 9110 section 15.5.2 asks every 401 for a challenge; RFC 6750 section 3 says how bearer challenges name the fault. */
function challengeFor(error: GatepostError): string | undefined {
  switch (error.code) {
    case 'token_missing':
      return 'Bearer realm="gatepost"';
    case 'token_invalid':
    case 'token_expired':
      return 'Bearer realm="gatepost", error="invalid_token"';
    case 'role_missing':
      return 'Bearer realm="gatepost", error="insufficient_scope"';
    case 'device_token_invalid':
      return 'SharedAccessSignature realm="gatepost"';
    case 'join_token_invalid':
      return 'JoinToken realm="gatepost"';
    default:
      return undefined;
  }
}
