import type { Reply } from '../kit/https-server.ts';

/** A refusal of the vault: `{"error": {code, message, innererror: {code}}}`, as every Key Vault operation answers it. */
export class VaultError extends Error {
  readonly status: number;
  readonly code: string;
  readonly inner: string | undefined;

  constructor(status: number, code: string, message: string, inner?: string) {
    super(message);
    this.status = status;
    this.code = code;
    this.inner = inner;
  }

  reply(headers: Record<string, string> = {}): Reply {
    const innererror = this.inner === undefined ? {} : { innererror: { code: this.inner } };
    return { status: this.status, headers, body: { error: { code: this.code, message: this.message, ...innererror } } };
  }
}

export function badParameter(message: string): VaultError {
  return new VaultError(400, 'BadParameter', message);
}

/** The three kinds of object, as messages name them. */
export type Kind = 'secrets' | 'keys' | 'certificates';

const nouns = { secrets: 'Secret', keys: 'Key', certificates: 'Certificate' } as const;

export function noun(kind: Kind): 'Secret' | 'Key' | 'Certificate' {
  return nouns[kind];
}

export function notFound(kind: Kind, id: string): VaultError {
  const what = noun(kind).toLowerCase();
  return new VaultError(
    404,
    `${noun(kind)}NotFound`,
    `A ${what} with (name/id) ${id} was not found in this key vault. If you recently deleted this ${what} you may be able to recover it using the correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182`,
  );
}

export function deletedNotFound(kind: Kind, name: string): VaultError {
  return new VaultError(404, `${noun(kind)}NotFound`, `Deleted ${noun(kind)} not found: ${name}`);
}

export function deletedButRecoverable(kind: Kind, name: string): VaultError {
  const what = noun(kind);
  return new VaultError(
    409,
    'Conflict',
    `${what} ${name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the ${what.toLowerCase()} can only be recovered or purged.`,
    'ObjectIsDeletedButRecoverable',
  );
}

/** A certificate's key and secret live and die with it (hashicorp/terraform-provider-azurerm issue 5659). */
export function managedByKeyVault(kind: Kind, operation: string): VaultError {
  const message = `Operation "${operation}" is not allowed as this object's lifetime is managed by Key Vault.`;
  return new VaultError(403, 'Forbidden', message, `${noun(kind)}ManagedByKeyVault`);
}

/** What an object's attributes forbid. `reason` is the inner error's ending. */
export function forbiddenByAttribute(
  kind: Kind,
  operation: string,
  reason: 'Disabled' | 'Expired' | 'NotYetValid',
): VaultError {
  const what = noun(kind).toLowerCase();
  const state = {
    Disabled: `a disabled ${what}`,
    Expired: `an expired ${what}`,
    NotYetValid: `a ${what} that is not yet valid`,
  };
  const message = `Operation ${operation} is not allowed on ${state[reason]}.`;
  return new VaultError(403, 'Forbidden', message, `${noun(kind)}${reason}`);
}

/** microsoft/AzureTRE issue 1951 shows the message. */
export function purgeProtected(vaultName: string): VaultError {
  return new VaultError(
    403,
    'Forbidden',
    `Operation "purge" is not allowed because purge protection is enabled for this vault. Key Vault service will automatically purge it after the retention period has passed.\r\nVault: ${vaultName};location=local\r\n`,
  );
}

/**
 * The body of a fault that the switch makes. It is never empty: the SDKs read `error` of whatever they parsed, and die
 * of a TypeError on an empty body.
 */
export function faultBody(status: number): object {
  if (status === 429) {
    const message =
      'Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached';
    return { error: { code: 'Throttled', message, innererror: { code: 'VaultRequestTypeLimitReached' } } };
  }
  const code = status === 503 ? 'ServiceUnavailable' : 'InternalServerError';
  return { error: { code, message: 'The service could not process the request. Please try again later.' } };
}
