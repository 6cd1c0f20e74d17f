import { randomUUID } from 'node:crypto';
import type { Reply } from '../kit/https-server.ts';
import { DeviceError } from '../mqtt/identity.ts';

/**
 * The errors that this double gives, with the number and the HTTP status of each. Source: learn.microsoft.com,
 * *Troubleshooting Azure IoT Hub error codes*, and azure-iot-sdk-csharp `ErrorCode.cs`.
 */
const catalogue = {
  ArgumentInvalid: [400, 400004],
  BlobContainerValidationError: [400, 400008],
  DeserializationError: [400, 400012],
  InvalidDeviceScope: [400, 400028],
  ManagedIdentityNotEnabled: [400, 400032],
  InvalidConfigurationContent: [400, 400402],
  CannotModifyImmutableConfigurationContent: [400, 400403],
  IotHubUnauthorizedAccess: [401, 401002],
  IotHubUnauthorized: [401, 401003],
  SystemModuleModifyUnauthorizedAccess: [401, 401100],
  IotHubQuotaExceeded: [403, 403002],
  JobQuotaExceeded: [403, 403003],
  DeviceMaximumQueueDepthExceeded: [403, 403004],
  DeviceNotFound: [404, 404001],
  JobNotFound: [404, 404002],
  ModuleNotFound: [404, 404010],
  DeviceNotOnline: [404, 404103],
  ConfigurationNotFound: [404, 404301],
  DeviceAlreadyExists: [409, 409001],
  ModuleAlreadyExistsOnDevice: [409, 409301],
  ConfigurationAlreadyExists: [409, 409401],
  PreconditionFailed: [412, 412001],
  MessageTooLarge: [413, 413001],
  TooManyDevices: [413, 413002],
  TooManyModulesOnDevice: [413, 413003],
  ConfigurationCountLimitExceeded: [413, 413101],
  ThrottlingException: [429, 429001],
  ServerError: [500, 500001],
  ServiceUnavailable: [503, 503001],
  GatewayTimeout: [504, 504101],
} as const;

export type HubErrorName = keyof typeof catalogue;

/** A refusal of the hub; a device that caused it is told as well. */
export class HubError extends DeviceError {
  readonly code: HubErrorName;
  readonly retryAfter: number | undefined;

  constructor(code: HubErrorName, message: string, options: { retryAfter?: number } = {}) {
    const [status, errorCode] = catalogue[code];
    super(status, errorCode, message);
    this.name = 'HubError';
    this.code = code;
    this.retryAfter = options.retryAfter;
  }
}

/**
 * The two shapes of an error body that are in the field: A of old (azure-iot-sdks#711), B since about 2021, an error in
 * JSON inside a string (azure-iot-sdk-node#971, azure-iot-sdk-csharp#3442).
 */
export type ErrorBody = 'A' | 'B';

export function errorReply(error: HubError, shape: ErrorBody, now: Date): Reply {
  const headers: Record<string, string> = { 'iothub-errorcode': error.code };
  if (error.retryAfter !== undefined) headers['retry-after'] = String(error.retryAfter);
  // An offline device has only ever been seen in shape B.
  const isNew = shape === 'B' || error.code === 'DeviceNotOnline' || error.code === 'GatewayTimeout';
  return { status: error.status, headers, body: isNew ? bodyB(error, now) : bodyA(error, now) };
}

/** The body of an armed `status` fault; empty, as of a front end, for a status that the hub itself does not answer. */
export function faultBody(status: number, shape: ErrorBody, now: Date): string | object {
  const names: Record<number, HubErrorName> = {
    429: 'ThrottlingException',
    500: 'ServerError',
    503: 'ServiceUnavailable',
    504: 'GatewayTimeout',
  };
  const name = names[status];
  return name === undefined ? '' : (errorReply(new HubError(name, name), shape, now).body ?? '');
}

function bodyA(error: HubError, now: Date): object {
  const tracking = `Tracking ID:${randomUUID().replaceAll('-', '')}-G:11-TimeStamp:${usTimestamp(now)}`;
  return { Message: `ErrorCode:${error.code};${error.message}`, ExceptionMessage: tracking };
}

function bodyB(error: HubError, now: Date): object {
  const inner = {
    errorCode: error.errorCode,
    trackingId: `${randomUUID().replaceAll('-', '').toUpperCase()}-G:0-TimeStamp:${usTimestamp(now)}`,
    message: error.message,
    info: {},
    timestampUtc: now.toISOString(),
  };
  return { Message: JSON.stringify(inner), ExceptionMessage: '' };
}

function usTimestamp(now: Date): string {
  const [date = '', time = ''] = now.toISOString().split('T');
  const [year, month, day] = date.split('-');
  return `${month}/${day}/${year} ${time.slice(0, 8)}`;
}
