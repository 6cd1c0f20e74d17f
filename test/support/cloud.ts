import { createHmac, randomUUID } from 'node:crypto';
import type { Role } from '../../lib/http/route.ts';
import { type CloudOptions, type LocalCloud, startCloud } from '../../local/cloud.ts';

export interface CallOptions {
  json?: unknown;
  /** The whole Authorization header; null sends none. Default: the operator's bearer token. */
  authorization?: string | null;
  headers?: Record<string, string>;
}

export interface CallAnswer {
  status: number;
  headers: Headers;
  /** The body as JSON; undefined where there is none. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape.
  json: any;
  text: string;
}

/** The bundled app in the local cloud, over HTTP as a caller meets it. */
export interface TestCloud {
  cloud: LocalCloud;
  call(method: string, path: string, options?: CallOptions): Promise<CallAnswer>;
  /** The problem code of an answer, behind its status: `409 gateway_full`; the status alone where it is no problem. */
  outcome(method: string, path: string, options?: CallOptions): Promise<string>;
  /** A bearer token with these roles alone. */
  tokenWith(...roles: Role[]): Promise<string>;
  /** A gateway that exists in the hub; none is running. */
  newGateway(settings?: Record<string, unknown>): Promise<string>;
  /** The calls that the hub served since the last time. */
  hubCalls(): Record<string, number>;
  close(): Promise<void>;
}

export async function startTestCloud(options: CloudOptions = {}): Promise<TestCloud> {
  const cloud = await startCloud({ gateways: 0, ...options });
  const call: TestCloud['call'] = async (method, path, { json, authorization, headers = {} } = {}) => {
    const bearer = authorization === undefined ? `Bearer ${cloud.operatorToken}` : authorization;
    const response = await fetch(new URL(path, cloud.api), {
      method,
      headers: {
        ...(bearer === null ? {} : { authorization: bearer }),
        ...(json === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    });
    const text = await response.text();
    // An answer to HEAD names the type of a body that it does not have.
    const isJson = text !== '' && /json/.test(response.headers.get('content-type') ?? '');
    return { status: response.status, headers: response.headers, json: isJson ? JSON.parse(text) : undefined, text };
  };
  return {
    cloud,
    call,
    outcome: async (method, path, callOptions) => {
      const { status, json } = await call(method, path, callOptions);
      return json?.code === undefined ? String(status) : `${status} ${json.code}`;
    },
    tokenWith: async (...roles) => {
      const { entra } = cloud;
      return `Bearer ${await entra.issue({ aud: entra.audience, roles, oid: randomUUID() })}`;
    },
    newGateway: async (settings = {}) => {
      const id = `gateway-${randomUUID().slice(0, 8)}`;
      const answer = await call('PUT', `/api/v1/gateways/${id}`, { json: { hostname: 'gw.example.com', ...settings } });
      if (answer.status !== 201) throw new Error(`The gateway was not made: ${answer.text}`);
      return id;
    },
    hubCalls: () => {
      const { hub } = cloud.faults.calls();
      cloud.faults.resetCalls();
      return hub;
    },
    close: () => cloud.close(),
  };
}

/** The Authorization header of a device or module that signs with its own key. */
export function sasOf(options: {
  hub: string;
  deviceId: string;
  moduleId?: string;
  key: string;
  expiresInSeconds?: number;
}): string {
  const { hub, deviceId, moduleId, key, expiresInSeconds = 600 } = options;
  const path = moduleId === undefined ? deviceId : `${deviceId}/modules/${moduleId}`;
  const resource = encodeURIComponent(`${hub}/devices/${path}`);
  const expiry = Math.floor(Date.now() / 1000) + expiresInSeconds;
  const mac = createHmac('sha256', Buffer.from(key, 'base64')).update(`${resource}\n${expiry}`).digest('base64');
  return `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(mac)}&se=${expiry}`;
}

/** A field of a connection string. */
export function fieldOf(connectionString: string, name: string): string | undefined {
  const field = connectionString.split(';').find((each) => each.startsWith(`${name}=`));
  return field?.slice(name.length + 1);
}

/** An id that no other test has. */
export function newId(name = 'device'): string {
  return `${name}-${randomUUID().slice(0, 13)}`;
}
