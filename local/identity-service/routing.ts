/** The daemons that have a socket. */
export type ServiceName = 'identityd' | 'keyd' | 'certd';

export interface Caller {
  uid: number;
}

/** One request to a route, its body parsed. */
export interface Call extends Caller {
  /** Path variables, percent-decoded. */
  params: Record<string, string>;
  query: URLSearchParams;
  /** undefined where there is none. */
  body: unknown;
  /** How far serde has read where it misses a field. */
  end: string;
}

export interface Answer {
  status: number;
  /** Absent: neither body nor content-type. */
  body?: object;
}

type Handler = (call: Call) => Answer | Promise<Answer>;

export interface ServiceRoute {
  /** `/key/{id}`: a variable is one segment. */
  path: string;
  /** The first api-version that knows it. Absent: all do. */
  since?: string;
  get?: Handler;
  post?: Handler;
  put?: Handler;
  delete?: Handler;
}

/** An answer that is an error: `{"message": ...}`, causes below one another. */
export class ServiceError extends Error {
  readonly status: number;

  constructor(status: number, message: string, ...causes: string[]) {
    super([message, ...causes.map((cause) => `caused by: ${cause}`)].join('\n'));
    this.status = status;
  }
}

export function invalidParameter(name: string, cause: string): ServiceError {
  return new ServiceError(400, `parameter "${name}" has an invalid value`, cause);
}

export interface Request extends Caller {
  method: string;
  target: string;
  contentType: string | undefined;
  /** undefined where it does not arrive in time. */
  readBody(): Promise<Buffer | undefined>;
}

interface Service {
  routes: ServiceRoute[];
  versions: readonly string[];
}

/**
 * What all three daemons do around a request, in their order (Azure/iot-identity-service, http-common/src/server.rs,
 * make_service): api-version, path, body, method.
 */
export async function serve(service: Service, request: Request): Promise<Answer> {
  try {
    return await route(service, request);
  } catch (error) {
    if (error instanceof ServiceError) return { status: error.status, body: { message: error.message } };
    throw error;
  }
}

async function route(service: Service, request: Request): Promise<Answer> {
  // The authority is not looked at: http://foo/... is as good as http://identityd.sock/...
  const url = new URL(request.target, 'http://localhost');
  const version = url.searchParams.getAll('api-version').at(-1);
  if (version === undefined) throw new ServiceError(400, 'api-version not specified');
  if (!service.versions.includes(version)) throw new ServiceError(400, `invalid api-version "${version}"`);
  for (const each of service.routes) {
    const params = match(each.path, url.pathname);
    if (params === undefined || (each.since !== undefined && version < each.since)) continue;
    const { body, end } = await bodyOf(request);
    const handler = { GET: each.get, POST: each.post, PUT: each.put, DELETE: each.delete }[request.method];
    // Not 405.
    if (handler === undefined) throw new ServiceError(400, 'method not allowed');
    return handler({ uid: request.uid, params, query: url.searchParams, body, end });
  }
  throw new ServiceError(404, 'not found');
}

async function bodyOf(request: Request): Promise<{ body: unknown; end: string }> {
  const { method, contentType } = request;
  if (method !== 'POST' && method !== 'PUT' && method !== 'DELETE') return { body: undefined, end: '' };
  // Only here are parameters of the content type put up with.
  const isJson = contentType === undefined || contentType.split(';')[0]?.trim() === 'application/json';
  if (method === 'PUT' && !isJson) throw new ServiceError(415, 'request body must be application/json');
  const bytes = await request.readBody();
  if (bytes === undefined) throw new ServiceError(408, 'deadline has elapsed');
  if (method !== 'PUT' && (bytes.length === 0 || !isJson)) return { body: undefined, end: '' };
  const text = bytes.toString('utf8');
  const lines = text.split('\n');
  const end = `line ${lines.length} column ${lines.at(-1)?.length ?? 0}`;
  if (text.trim() === '') throw new ServiceError(422, `EOF while parsing a value at ${end}`);
  try {
    return { body: JSON.parse(text), end };
  } catch {
    throw new ServiceError(422, `expected value at ${end}`);
  }
}

/** The fields of a body as serde reads a struct: unknown ones are passed over, missing ones are a 422. */
export function fields<K extends string>(call: Call, ...names: K[]): Record<K, unknown> {
  const { body, end } = call;
  if (body === undefined) throw new ServiceError(400, 'missing request body');
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new ServiceError(422, `invalid type: expected struct Request at ${end}`);
  }
  const given = body as Record<string, unknown>;
  for (const name of names) {
    if (!(name in given)) throw new ServiceError(422, `missing field \`${name}\` at ${end}`);
  }
  return given as Record<K, unknown>;
}

/** A text field; serde names what it got in place of it. */
export function text(call: Call, value: unknown): string {
  if (typeof value === 'string') return value;
  throw new ServiceError(422, `invalid type: ${serdeType(value)}, expected a string at ${call.end}`);
}

/** Bytes as base64 with padding, as the standard alphabet has it; anything less strict is refused. */
export function bytes(call: Call, value: unknown): Buffer {
  const encoded = text(call, value);
  const decoded = Buffer.from(encoded, 'base64');
  if (decoded.toString('base64') === encoded) return decoded;
  throw new ServiceError(422, `Invalid padding at ${call.end}`);
}

function serdeType(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'sequence';
  if (typeof value === 'object') return 'map';
  return typeof value === 'number' ? `integer \`${value}\`` : `${typeof value} \`${String(value)}\``;
}

function match(template: string, path: string): Record<string, string> | undefined {
  const names: string[] = [];
  const pattern = template.replace(/\{(\w+)\}/g, (_whole, name: string) => {
    names.push(name);
    return '([^/]+)';
  });
  const groups = new RegExp(`^${pattern}$`).exec(path);
  if (groups === null) return undefined;
  try {
    return Object.fromEntries(names.map((name, at) => [name, decodeURIComponent(groups[at + 1] ?? '')]));
  } catch {
    return undefined;
  }
}
