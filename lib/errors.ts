/** Every problem a caller can meet: its HTTP status and the title that never changes. The code is part of the interface. */
export const problems = {
  // The request itself
  invalid_request: { status: 400, title: 'The request does not read as this call expects it' },
  invalid_json: { status: 400, title: 'The body is not JSON' },
  unsupported_media_type: { status: 415, title: 'The content type is not one that this call reads' },
  not_acceptable: { status: 406, title: 'None of the accepted formats can be served' },
  length_required: { status: 411, title: 'The body came without a Content-Length' },
  payload_too_large: { status: 413, title: 'The body is larger than this call accepts' },
  precondition_failed: { status: 412, title: 'The resource has changed since it was read' },
  rate_limited: { status: 429, title: 'Too many calls of this caller, or for this device' },
  // Who calls
  token_missing: { status: 401, title: 'A bearer token is needed' },
  token_invalid: { status: 401, title: 'The bearer token is not valid here' },
  token_expired: { status: 401, title: 'The bearer token has expired' },
  role_missing: { status: 403, title: 'The caller lacks the app role that this call needs' },
  join_token_invalid: { status: 401, title: 'The join token cannot be redeemed' },
  device_token_invalid: { status: 401, title: 'The SAS token does not prove this device' },
  // Trust
  root_not_found: { status: 404, title: 'There is no root of that name' },
  root_name_taken: { status: 409, title: 'Another root has that name' },
  root_already_trusted: { status: 409, title: 'The same certificate is in the bundle under another name' },
  root_not_pem: { status: 400, title: 'The root is not a PEM certificate' },
  root_not_pfx: { status: 400, title: 'The PFX cannot be opened' },
  root_several_certificates: { status: 400, title: 'A root is exactly one certificate' },
  root_private_key_present: { status: 400, title: 'A public import carries a private key' },
  root_key_mismatch: { status: 400, title: 'The private key does not belong to the certificate' },
  root_not_ca: { status: 400, title: 'The certificate is not a CA' },
  root_cannot_sign: { status: 400, title: 'The key usage of the certificate does not allow signing certificates' },
  root_not_self_signed: { status: 400, title: 'The certificate is not self-signed: it is an intermediate' },
  root_expired: { status: 400, title: 'The certificate has expired' },
  root_not_yet_valid: { status: 400, title: 'The certificate is not valid yet' },
  root_weak_algorithm: { status: 400, title: 'The key or signature algorithm of the certificate is too weak' },
  bundle_full: { status: 409, title: 'The bundle holds as many roots as it can' },
  // Identity
  gateway_not_found: { status: 404, title: 'There is no gateway of that id' },
  gateway_not_edge: { status: 409, title: 'The device of that id is not an IoT Edge device' },
  gateway_not_configured: { status: 409, title: 'The Edge device has no host name recorded: it is not a gateway yet' },
  gateway_disabled: { status: 409, title: 'The gateway is disabled' },
  gateway_full: { status: 409, title: 'The gateway has as many devices as it may have' },
  gateway_has_children: { status: 409, title: 'The gateway still has devices or gateways behind it' },
  gateway_cycle: { status: 409, title: 'The parent gateway stands behind this gateway' },
  gateway_too_deep: { status: 409, title: 'More than five layers of gateways' },
  device_not_found: { status: 404, title: 'There is no device of that id' },
  device_is_gateway: { status: 409, title: 'The device of that id is an IoT Edge device' },
  device_has_no_gateway: { status: 409, title: 'The device has no parent gateway' },
  device_disabled: { status: 409, title: 'The device is disabled' },
  module_not_found: { status: 404, title: 'The device has no module of that id' },
  module_managed: { status: 409, title: 'The module is owned by the IoT Edge or the Identity Service of the device' },
  // Credentials
  credential_mismatch: { status: 409, title: 'The identity does not authenticate in the way that was asked for' },
  // Upstream
  upstream_throttled: { status: 503, title: 'A service behind this one is throttling' },
  upstream_unavailable: { status: 503, title: 'A service behind this one cannot be reached' },
  upstream_timeout: { status: 504, title: 'A service behind this one did not answer in time' },
  upstream_refused: { status: 502, title: 'A service behind this one refused the call' },
  quota_exceeded: { status: 503, title: 'The IoT Hub has no room for another identity' },
  not_found: { status: 404, title: 'There is nothing here' },
  internal: { status: 500, title: 'This is a fault of ours' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ProblemCode = keyof typeof problems;

/** One thing that is wrong with the request: a JSON pointer into the body (or `query/NAME`, `path/NAME`) and a sentence. */
export interface ProblemField {
  pointer: string;
  detail: string;
  /** The rule that failed, where it has a code of its own. */
  code?: ProblemCode;
}

export interface GatepostErrorOptions {
  /** The private cause: logged by name and code, never sent. */
  cause?: unknown;
  errors?: ProblemField[];
  /** Why, in one word of few: logged and counted, never sent. */
  reason?: string;
  /** Seconds after which the same call may be repeated; sent as Retry-After. */
  retryAfterSeconds?: number;
}

/** The one error that is turned into an answer. `detail` is public and tells the reader what to do. */
export class GatepostError extends Error {
  override readonly name = 'GatepostError';
  readonly code: ProblemCode;
  readonly detail: string;
  readonly errors: ProblemField[] | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly reason: string | undefined;

  constructor(code: ProblemCode, detail: string, options: GatepostErrorOptions = {}) {
    super(`${code}: ${detail}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.detail = detail;
    this.errors = options.errors;
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.reason = options.reason;
  }

  get status(): number {
    return problems[this.code].status;
  }
}
