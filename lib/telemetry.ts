/** What a log line may carry. A field that is not named here is not written: see {@link createLog}. */
export interface LogFields {
  route?: string;
  method?: string;
  status?: number;
  code?: string;
  plane?: string;
  caller?: string;
  durationMs?: number;
  clientRequestId?: string;
  invocationId?: string;
  /** The trace that the request belongs to: 32 hexadecimal digits. */
  correlationId?: string;
  limit?: string;
  outcome?: string;
  throttled?: number;
  /** Why a join failed: for operators, never for whoever tried. */
  reason?: string;
  action?: string;
  phase?: string;
  deviceId?: string;
  moduleId?: string;
  gatewayId?: string;
  root?: string;
  kind?: string;
  daysLeft?: number;
  sha256?: string;
  sequence?: number | string;
  upstream?: string;
  operation?: string;
  upstreamStatus?: number;
  attempt?: number;
  waitMs?: number;
  count?: number;
  /** A metric's name and its sums over about a minute: see telemetry/metrics.ts, where its other dimensions are, too. */
  metric?: string;
  sum?: number;
  min?: number;
  max?: number;
  created?: string;
  format?: string;
  /** Name and code of an unexpected error, and the place in the source that threw it: never its message. */
  errorName?: string;
  errorCode?: string;
  errorAt?: string;
  setting?: string;
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Structured logging. `event` is a constant of the source, never made of data. */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** The same log with more fields on every line. */
  with(fields: LogFields): Log;
}

export type LogSink = (level: LogLevel, line: string) => void;

/** The names of all fields that a line may have beside its event: the queries in infra/ are held to them. */
export const logFields: ReadonlySet<string> = new Set<keyof LogFields>([
  'route',
  'method',
  'status',
  'code',
  'plane',
  'caller',
  'durationMs',
  'clientRequestId',
  'invocationId',
  'correlationId',
  'limit',
  'outcome',
  'throttled',
  'reason',
  'action',
  'phase',
  'deviceId',
  'moduleId',
  'gatewayId',
  'root',
  'kind',
  'daysLeft',
  'sha256',
  'sequence',
  'upstream',
  'operation',
  'upstreamStatus',
  'attempt',
  'waitMs',
  'count',
  'metric',
  'sum',
  'min',
  'max',
  'created',
  'format',
  'errorName',
  'errorCode',
  'errorAt',
  'setting',
]);

/** The second net: a value that looks like a credential is not written, whatever field it came in. */
const secretShapes = /SharedAccess|[?&;]sig=|PRIVATE KEY|eyJ[\w-]+\.|Bearer\s|AccountKey=/i;
const longest = 256;

/** A log that writes one JSON object per line to `sink`, with allowed fields only. */
export function createLog(sink: LogSink, base: LogFields = {}): Log {
  const write = (level: LogLevel, event: string, fields: LogFields = {}) =>
    sink(level, JSON.stringify({ event, ...presentable({ ...base, ...fields }) }));
  return {
    debug: (event, fields) => write('debug', event, fields),
    info: (event, fields) => write('info', event, fields),
    warn: (event, fields) => write('warn', event, fields),
    error: (event, fields) => write('error', event, fields),
    with: (fields) => createLog(sink, { ...base, ...fields }),
  };
}

/** What may be told about an error that nobody foresaw: its class, its code, and where it was thrown. */
export function describeError(error: unknown): LogFields {
  if (!(error instanceof Error)) return { errorName: typeof error };
  const code = (error as { code?: unknown }).code;
  const at = error.stack?.split('\n').find((line) => /^\s+at /.test(line));
  return {
    errorName: error.name,
    ...(typeof code === 'string' || typeof code === 'number' ? { errorCode: String(code) } : {}),
    ...(at === undefined ? {} : { errorAt: at.trim() }),
  };
}

function presentable(fields: LogFields): Record<string, string | number> {
  const shown: Record<string, string | number> = {};
  for (const [name, value] of Object.entries(fields) as [string, unknown][]) {
    if (!logFields.has(name)) continue;
    if (typeof value === 'number') shown[name] = value;
    if (typeof value === 'string') shown[name] = presentableText(value);
  }
  return shown;
}

/** A text as it may be written down: nothing that looks like a credential, and not too long. */
export function presentableText(value: string): string {
  return secretShapes.test(value) ? '[redacted]' : value.slice(0, longest);
}
