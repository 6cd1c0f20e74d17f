import type { IncomingMessage, ServerResponse } from 'node:http';
import { hostname } from 'node:os';
import type { FunctionFault, IndexedFunction } from './function-index.ts';
import { readBody, type Target } from './http-messages.ts';

const version = '4.1037.0.0';
const bodyLimit = 1024 * 1024;

/** What the admin API shows and starts. */
export interface AdminView {
  url: string;
  routePrefix: string;
  functions: IndexedFunction[];
  faults: FunctionFault[];
  /** Errors of the whole app, such as an entry point that did not load. */
  errors: string[];
  /** Starts a function without waiting for it. */
  trigger(target: IndexedFunction, input: string): void;
}

/** `/admin/*`, for a caller who has shown the master key (FunctionsController and HostController of the host). */
export async function serveAdmin(
  view: AdminView,
  request: IncomingMessage,
  response: ServerResponse,
  target: Target,
): Promise<void> {
  const [, , area, name, action, ...rest] = target.path.replace(/\/$/, '').toLowerCase().split('/');
  const route = `${request.method} ${area}`;
  if (rest.length > 0) return empty(response, 404);
  if (route === 'GET host' && name === 'status' && action === undefined) return json(response, hostStatus(view));
  if (area !== 'functions') return empty(response, 404);
  if (route === 'GET functions' && name === undefined) {
    return json(
      response,
      view.functions.map((each) => describe(view, each)),
    );
  }
  const found = view.functions.find((each) => each.name.toLowerCase() === name);
  if (route === 'GET functions' && action === 'status') return functionStatus(view, name ?? '', response);
  if (found === undefined || action !== undefined) return empty(response, 404);
  if (route === 'GET functions') return json(response, describe(view, found));
  if (route === 'POST functions') return start(view, found, request, response);
  return empty(response, 404);
}

async function start(
  view: AdminView,
  target: IndexedFunction,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const body = await readBody(request, bodyLimit);
  let input: string | undefined;
  try {
    input = readInput(JSON.parse(String(body ?? '')));
  } catch {
    input = undefined;
  }
  if (input === undefined) return empty(response, 400);
  view.trigger(target, input);
  empty(response, 202);
}

function readInput(invocation: unknown): string | undefined {
  if (typeof invocation !== 'object' || invocation === null) return undefined;
  const input = (invocation as { input?: unknown }).input;
  if (input === undefined || input === null) return '';
  return typeof input === 'string' ? input : undefined;
}

function hostStatus(view: AdminView): object {
  return {
    id: hostname().toLowerCase(),
    state: 'Running',
    version,
    versionDetails: version,
    platformVersion: '',
    instanceId: '',
    computerName: hostname(),
    processUptime: Math.round(process.uptime() * 1000),
    ...(view.errors.length > 0 && { errors: view.errors }),
  };
}

function functionStatus(view: AdminView, name: string, response: ServerResponse): void {
  const errors = view.faults.filter((fault) => fault.name.toLowerCase() === name).map((fault) => fault.message);
  const known = errors.length > 0 || view.functions.some((each) => each.name.toLowerCase() === name);
  if (known) json(response, errors.length > 0 ? { errors } : {});
  else empty(response, 404);
}

function describe(view: AdminView, target: IndexedFunction): object {
  const prefix = view.routePrefix === '' ? '' : `${view.routePrefix}/`;
  const bindings = Object.entries(target.metadata.bindings).map(([name, binding]) => ({ ...binding, name }));
  return {
    name: target.name,
    href: `${view.url}/admin/functions/${target.name}`,
    invoke_url_template: target.http === undefined ? null : `${view.url}/${prefix}${target.http.route}`,
    language: 'node',
    isDisabled: target.disabled,
    isDirect: false,
    isProxy: false,
    config: { name: target.name, language: 'node', functionDirectory: '', bindings },
  };
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json; charset=utf-8' }).end(JSON.stringify(value));
}

function empty(response: ServerResponse, status: number): void {
  response.writeHead(status, { 'content-length': 0 }).end();
}
