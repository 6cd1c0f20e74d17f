import type { StorageService } from './fault-proxy.ts';

/**
 * Error codes that Azure Storage gives with a status, so that a fault reads to the SDKs like the real thing.
 * Source: learn.microsoft.com/rest/api/storageservices, "Common REST API error codes" and "Table service error codes".
 */
const codes: Record<number, string> = {
  400: 'InvalidInput',
  401: 'InvalidAuthenticationInfo',
  403: 'AuthenticationFailed',
  404: 'ResourceNotFound',
  408: 'OperationTimedOut',
  409: 'ResourceAlreadyExists',
  412: 'ConditionNotMet',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServerBusy',
};

/** What differs in the table service. */
const tableCodes: Record<number, string> = { 409: 'EntityAlreadyExists', 412: 'UpdateConditionNotSatisfied' };

/** The headers and body of an error answer: JSON from the table service, XML from the others. */
export function storageError(
  service: StorageService,
  status: number,
): { headers: Record<string, string>; body: string } {
  const code = (service === 'table' ? tableCodes[status] : undefined) ?? codes[status] ?? 'InternalError';
  const message = `The local storage was told to answer ${status}.`;
  const headers = { 'x-ms-error-code': code };
  if (service === 'table') {
    const body = JSON.stringify({ 'odata.error': { code, message: { lang: 'en-US', value: message } } });
    return { headers: { ...headers, 'content-type': 'application/json;odata=minimalmetadata' }, body };
  }
  const body = `<?xml version="1.0" encoding="utf-8"?><Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  return { headers: { ...headers, 'content-type': 'application/xml' }, body };
}
