import { GatepostError, type GatepostErrorOptions } from '../errors.ts';

/** What the hub said about a refusal, out of whichever of its body shapes it used. */
export interface HubRefusal {
  /** `DeviceAlreadyExists` (shape A) or `409001` (shape B); undefined for an empty or foreign body. */
  code: string | undefined;
  message: string | undefined;
  trackingId: string | undefined;
}

export interface HubErrorDetails extends Partial<HubRefusal> {
  method: string;
  path: string;
  status?: number | undefined;
  retryAfterSeconds?: number | undefined;
  /** An attempt before this answer may have done its work: the connection was cut or the hub failed after taking it. */
  uncertain?: boolean;
  /** `errno` code of a connection that failed, or `timeout`. */
  failure?: string | undefined;
}

/**
 * A refusal or failure of IoT Hub. Carries only what may be logged: never the request, whose headers hold our bearer token,
 * as the errors of azure-iothub do (`err.response`).
 */
export class HubError extends Error {
  override readonly name = 'HubError';
  readonly status: number | undefined;
  readonly code: string | undefined;
  readonly trackingId: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly uncertain: boolean;
  readonly failure: string | undefined;
  readonly scopeRefused: boolean;

  constructor(details: HubErrorDetails) {
    const answer = details.failure ?? `${details.status ?? 'no answer'} ${details.code ?? ''}`.trim();
    super(`IoT Hub: ${details.method} ${details.path}: ${answer}`);
    this.status = details.status;
    this.code = details.code;
    this.trackingId = details.trackingId;
    this.retryAfterSeconds = details.retryAfterSeconds;
    this.uncertain = details.uncertain ?? false;
    this.failure = details.failure;
    this.scopeRefused = details.status === 400 && /scope/i.test(`${details.code} ${details.message}`);
  }
}

/**
 * Reads the three error bodies that exist in the wild: A `{"Message":"ErrorCode:DeviceNotFound;..."}` (azure-iot-sdks issue
 * 711), B `{"Message":"{\"errorCode\":404103,...}"}` (azure-iot-sdk-csharp issue 3442), C empty or HTML from a front end.
 */
export function readRefusal(text: string): HubRefusal {
  const outer = parseObject(text);
  const message = stringOf(outer?.Message) ?? stringOf(outer?.message);
  if (message === undefined) return { code: undefined, message: undefined, trackingId: undefined };
  const inner = parseObject(message);
  if (inner !== undefined) {
    const code = inner.errorCode;
    return {
      code: typeof code === 'number' || typeof code === 'string' ? String(code) : undefined,
      message: stringOf(inner.message),
      trackingId: stringOf(inner.trackingId),
    };
  }
  const tracking = /Tracking ID:([0-9a-f]+)/i.exec(stringOf(outer?.ExceptionMessage) ?? '');
  return { code: /ErrorCode:(\w+)/.exec(message)?.[1], message, trackingId: tracking?.[1] };
}

/** The public face of a hub error that nobody on the way had a better word for. */
export function toGatepostError(error: unknown): GatepostError {
  if (error instanceof GatepostError) return error;
  if (!(error instanceof HubError)) {
    return new GatepostError('internal', 'Talking to IoT Hub failed in a way that nobody foresaw.', { cause: error });
  }
  const options: GatepostErrorOptions = { cause: error };
  if (error.failure === 'timeout' || error.status === 504 || error.status === 408) {
    return new GatepostError('upstream_timeout', 'IoT Hub did not answer in time. Repeat the call: it is safe to.', {
      ...options,
      retryAfterSeconds: error.retryAfterSeconds ?? 5,
    });
  }
  if (error.status === 429) {
    return new GatepostError('upstream_throttled', 'IoT Hub is throttling. Repeat the call after Retry-After.', {
      ...options,
      retryAfterSeconds: error.retryAfterSeconds ?? 10,
    });
  }
  if (error.status === undefined || error.status >= 500 || isMissingHub(error)) {
    return new GatepostError('upstream_unavailable', 'IoT Hub cannot be reached. Repeat the call: it is safe to.', {
      ...options,
      retryAfterSeconds: error.retryAfterSeconds ?? 5,
    });
  }
  return refusalToGatepostError(error, options);
}

function refusalToGatepostError(error: HubError, options: GatepostErrorOptions): GatepostError {
  if (error.status === 412) {
    return new GatepostError(
      'precondition_failed',
      'The identity was changed meanwhile. Read it and try again.',
      options,
    );
  }
  if (isFull(error)) {
    const detail = 'IoT Hub has reached a limit of its tier (identities, modules of a device, or messages of the day).';
    return new GatepostError('quota_exceeded', detail, { ...options, retryAfterSeconds: 3600 });
  }
  if (error.status === 401 || error.status === 403) {
    const detail = 'IoT Hub refused the identity that Gatepost runs as: give it the role IoT Hub Data Contributor.';
    return new GatepostError('upstream_refused', detail, options);
  }
  const said = error.code === undefined ? '' : ` (${error.code})`;
  return new GatepostError('upstream_refused', `IoT Hub refused the call with status ${error.status}${said}.`, options);
}

/** 403 is also what a missing role gets (https://learn.microsoft.com/rest/api/iothub/common-error-codes). */
const codesOfFullHub = [
  'IotHubQuotaExceeded',
  '403002',
  'TooManyDevices',
  '413002',
  'TooManyModulesOnDevice',
  '413003',
];

function isFull(error: HubError): boolean {
  return error.code !== undefined && codesOfFullHub.includes(error.code);
}

function isMissingHub(error: HubError): boolean {
  return error.status === 404 && error.code === 'IotHubNotFound';
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function stringOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
