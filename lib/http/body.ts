import { GatepostError } from '../errors.ts';

/** What is read of a request to get at its body. */
export interface BodySource {
  headers: Headers;
  arrayBuffer(): Promise<ArrayBuffer>;
}

const jsonTypes = /^application\/(?:[\w.-]+\+)?json$/i;

/**
 * Reads a JSON body, or undefined where the request has none. Throws `length_required`, `payload_too_large`,
 * `unsupported_media_type` or `invalid_json`.
 */
export async function readJsonBody(request: BodySource, maxBytes: number, optional: boolean): Promise<unknown> {
  const length = declaredLength(request.headers, optional);
  if (length > maxBytes) throw tooLarge(maxBytes);
  if (length === 0 && optional) return undefined;
  checkContentType(request.headers.get('content-type'));
  const bytes = new Uint8Array(await request.arrayBuffer());
  if (bytes.byteLength > maxBytes) throw tooLarge(maxBytes);
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    // The parser's message quotes the body, and the body may hold a key.
    throw new GatepostError('invalid_json', 'Send one JSON document in UTF-8.');
  }
}

/**
 * The Functions host reads a body only where Content-Length says how long it is; a chunked one reaches the handler empty
 * (azure-functions-host, GrpcMessageConversionExtensions.ToRpcHttp). Better to say so than to complain of an empty body.
 */
function declaredLength(headers: Headers, optional: boolean): number {
  const header = headers.get('content-length');
  const chunked = headers.get('transfer-encoding') !== null;
  if (header !== null && !chunked && /^\d+$/.test(header)) return Number(header);
  if (header === null && !chunked && optional) return 0;
  throw new GatepostError('length_required', 'Send the body with a Content-Length header, not chunked.');
}

function checkContentType(header: string | null): void {
  const [type = '', ...parameters] = (header ?? '').split(';').map((part) => part.trim());
  const charset = parameters
    .map((each) => /^charset="?([\w-]+)"?$/i.exec(each)?.[1])
    .find((each) => each !== undefined);
  if (jsonTypes.test(type) && (charset === undefined || /^utf-?8$/i.test(charset))) return;
  throw new GatepostError('unsupported_media_type', 'Send the body as Content-Type: application/json in UTF-8.');
}

function tooLarge(maxBytes: number): GatepostError {
  return new GatepostError('payload_too_large', `Send at most ${maxBytes} bytes.`);
}
