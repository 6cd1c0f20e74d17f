/** Every fault that this package names, with the exit code of the command line. Codes and numbers are part of the interface. */
export const faults = {
  /** The command line or the options of a call do not read. */
  usage: 2,
  /** There is no state folder, it cannot be read or written, or what it holds is damaged. */
  state_missing: 3,
  state_invalid: 3,
  state_unwritable: 3,
  /** What the API served does not have the SHA-256 that was given. */
  pin_mismatch: 4,
  /** The gateway's certificate chain does not lead to a root that this device trusts. */
  chain_untrusted: 5,
  chain_incomplete: 5,
  root_not_anchor: 5,
  /** The gateway's certificate is for another name. */
  host_name_mismatch: 6,
  /** The gateway's chain has expired or is not valid yet, by the clock of this device. */
  certificate_expired: 7,
  certificate_not_yet_valid: 7,
  /** There is no connection to the gateway. */
  gateway_not_found: 8,
  gateway_unreachable: 8,
  gateway_not_tls: 8,
  gateway_busy: 8,
  /** The gateway does not accept the credential. */
  credential_refused: 9,
  credential_expired: 9,
  credential_incomplete: 9,
  /** The Gatepost API cannot be reached, or not be trusted, or answers something else. */
  api_unreachable: 10,
  api_untrusted: 10,
  api_failed: 10,
  /** The API does not redeem the join token. */
  join_token_refused: 11,
  /** The onboarding document or the trust bundle does not read, contradicts itself, or is older than what is installed. */
  document_invalid: 12,
  bundle_invalid: 12,
  sequence_lower: 12,
  /** The client was about to speak, or spoke, to something that is not the gateway. */
  peer_not_gateway: 13,
  /** What the SDK can do elsewhere and a gateway does not offer. */
  not_supported: 14,
  /** The Identity, Keys or Certificates Service of this host is not there, or does not take connections. */
  identity_service_missing: 15,
  identity_service_unreachable: 15,
  /** It does not let this user in, or no longer takes what it handed out. */
  identity_refused: 16,
  signing_refused: 16,
  /** It has no identity for the caller, could not ask the cloud, failed, or answered something else. */
  identity_not_found: 17,
  identity_cloud_failed: 17,
  identity_service_failed: 17,
  identity_invalid: 17,
  /** The agent could not be installed or uninstalled. */
  install_failed: 18,
  /** The system's trust store: which one it is, who may change it, and whether it holds what it should. */
  trust_store_unknown: 19,
  trust_not_permitted: 19,
  trust_incomplete: 19,
  trust_unverified: 19,
  /** Everything else: a fault of ours. */
  internal: 1,
} as const satisfies Record<string, number>;

export type DeviceErrorCode = keyof typeof faults;

/** The one error of this package: a stable `code`, and a `message` that says in one line what is wrong and what to do. */
export class GatepostDeviceError extends Error {
  override readonly name = 'GatepostDeviceError';
  readonly code: DeviceErrorCode;

  constructor(code: DeviceErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
  }

  /** What `gatepost-device` exits with. */
  get exitCode(): number {
    return faults[this.code];
  }
}

/** The text of anything that was thrown, on one line. */
export function reasonOf(error: unknown): string {
  // Node reports a name with several addresses as one error without a text around one error per address.
  const [first] = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  if (first !== undefined) return reasonOf(first);
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.replace(/\s+/g, ' ').trim();
}

/** The `code` of a system or TLS error, such as `ENOTFOUND` or `CERT_HAS_EXPIRED`. */
export function systemCode(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}
