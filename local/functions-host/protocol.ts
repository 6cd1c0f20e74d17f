/**
 * What the host and its worker say to each other: one message each way per invocation. The shapes of the data are those
 * of the Functions gRPC protocol (azure-functions-language-worker-protobuf, FunctionRpc.proto), because the
 * invocation model of `@azure/functions` reads and writes them.
 */

export type LogLevel = 'trace' | 'debug' | 'information' | 'warning' | 'error' | 'critical' | 'none';

export interface TypedData {
  string?: string;
  json?: string;
  bytes?: Uint8Array;
  int?: number;
  double?: number;
  http?: HttpData;
}

export interface Nullable<T> {
  value?: T | null;
}

export interface HttpCookie {
  name: string;
  value: string;
  domain?: Nullable<string>;
  path?: Nullable<string>;
  expires?: Nullable<{ seconds: number }>;
  secure?: Nullable<boolean>;
  httpOnly?: Nullable<boolean>;
  sameSite?: 'none' | 'lax' | 'strict' | 'explicitNone';
  maxAge?: Nullable<number>;
}

/** A request on its way to the function (`method`, `url`, the nullable maps) or a response on its way back. */
export interface HttpData {
  method?: string;
  url?: string;
  nullableHeaders?: Record<string, Nullable<string>>;
  nullableQuery?: Record<string, Nullable<string>>;
  nullableParams?: Record<string, Nullable<string>>;
  body?: TypedData | null;
  statusCode?: string;
  headers?: Record<string, string>;
  cookies?: HttpCookie[];
}

export interface Binding {
  type: string;
  direction: 'in' | 'out' | 'inout';
  name?: string;
  [option: string]: unknown;
}

export interface RetryOptions {
  maxRetryCount: number;
  retryStrategy?: string;
  delayInterval?: { seconds: number };
  minimumInterval?: { seconds: number };
  maximumInterval?: { seconds: number };
}

export interface FunctionMetadata {
  name: string;
  bindings: Record<string, Binding>;
  retryOptions?: RetryOptions;
}

export interface RetryContext {
  retryCount: number;
  maxRetryCount: number;
  exception?: { message: string; stackTrace?: string; source?: string };
}

export interface ParameterBinding {
  name: string;
  data: TypedData;
}

export interface InvocationRequest {
  invocationId: string;
  functionId: string;
  inputData: ParameterBinding[];
  triggerMetadata: Record<string, TypedData>;
  traceContext: { traceParent: string; traceState: string; attributes: Record<string, string> };
  retryContext?: RetryContext;
}

export interface InvocationResponse {
  invocationId: string;
  outputData?: ParameterBinding[];
  returnValue?: TypedData | null;
}

export interface Failure {
  message: string;
  stack?: string;
}

export type HostMessage =
  | { type: 'start'; directory: string; main: string | undefined }
  | { type: 'invoke'; request: InvocationRequest }
  | { type: 'terminate' };

export type WorkerMessage =
  | { type: 'started'; functions: FunctionMetadata[]; capabilities: Record<string, string>; failure?: Failure }
  | { type: 'response'; invocationId: string; response: InvocationResponse }
  | { type: 'failure'; invocationId: string; failure: Failure }
  | {
      type: 'log';
      level: LogLevel;
      category: 'user' | 'system';
      message: string;
      functionName?: string;
      invocationId?: string;
    }
  | { type: 'terminated' };
