import { randomUUID } from 'node:crypto';
import type { Exchange, Reply, Route } from '../kit/https-server.ts';
import { type AccessOptions, authenticate, authorize, challenge } from './access.ts';
import { checkName } from './checks.ts';
import { badParameter, VaultError } from './errors.ts';

export interface Call {
  params: Record<string, string>;
  query: URLSearchParams;
  /** The JSON object that was sent; empty where none was. */
  body: Record<string, unknown>;
}

/** One operation of the vault: what it needs, and what it does once that is given. */
export interface Operation {
  method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';
  path: string;
  /** The data actions below `Microsoft.KeyVault/vaults/`, any of which is enough; a refusal names the first. */
  actions: [string, ...string[]];
  act(call: Call): Reply | Promise<Reply>;
}

/** The operation as a route: authenticate, check the request, authorize, act, answer. */
export function toRoute(access: AccessOptions, operation: Operation): Route {
  return {
    method: operation.method,
    path: operation.path,
    handle: (exchange) =>
      answer(access, exchange, async () => {
        const caller = await authenticate(access, exchange);
        checkVersion(exchange);
        const { name } = exchange.params;
        if (name !== undefined) checkName(name);
        const [kind] = operation.actions[0].split('/');
        authorize(access, caller, operation.actions, name === undefined ? '' : `/${kind}/${name}`);
        return operation.act({ params: exchange.params, query: exchange.url.searchParams, body: readBody(exchange) });
      }),
  };
}

/** What no operation speaks: still a 401 without a token, as the front end of the service looks at that first. */
export function answerUnknown(access: AccessOptions, exchange: Exchange): Promise<Reply> {
  return answer(access, exchange, async () => {
    await authenticate(access, exchange);
    checkVersion(exchange);
    throw new VaultError(404, 'ResourceNotFound', `${exchange.method} ${exchange.url.pathname} is not spoken here.`);
  });
}

async function answer(access: AccessOptions, exchange: Exchange, act: () => Promise<Reply>): Promise<Reply> {
  const headers = commonHeaders(exchange);
  try {
    const reply = await act();
    return { ...reply, headers: { ...headers, ...reply.headers } };
  } catch (error) {
    if (!(error instanceof VaultError)) throw error;
    return error.reply(error.status === 401 ? { ...headers, ...challenge(access.tenantId) } : headers);
  }
}

function commonHeaders(exchange: Exchange): Record<string, string> {
  const clientRequestId = exchange.headers['x-ms-client-request-id'];
  return {
    'cache-control': 'no-cache',
    pragma: 'no-cache',
    expires: '-1',
    'x-ms-keyvault-region': 'local',
    'x-ms-request-id': randomUUID(),
    ...(typeof clientRequestId === 'string' ? { 'x-ms-client-request-id': clientRequestId } : {}),
    'x-content-type-options': 'nosniff',
    'strict-transport-security': 'max-age=31536000;includeSubDomains',
  };
}

/** Every version from 7.0 (2018) on is taken; the newer ones are dates. */
function checkVersion(exchange: Exchange): void {
  // The SDKs percent-encode the key (`api%2Dversion`): URLSearchParams has undone that.
  const version = exchange.url.searchParams.get('api-version');
  if (!version) throw badParameter('api-version must be specified');
  if (!/^(7\.\d|20\d\d-\d\d-\d\d)(-preview(\.\d)?)?$/.test(version)) {
    throw badParameter(
      `The specified version (${version}) is not recognized. Consider using the latest supported version.`,
    );
  }
}

function readBody(exchange: Exchange): Record<string, unknown> {
  if (exchange.body.length === 0) return {};
  let parsed: unknown;
  try {
    parsed = JSON.parse(exchange.body.toString('utf8'));
  } catch {
    throw badParameter('The request body could not be parsed as JSON.');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw badParameter('The request body must be a JSON object.');
  }
  return parsed as Record<string, unknown>;
}
