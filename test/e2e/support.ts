import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';
import device from 'azure-iot-device';
import { Mqtt } from 'azure-iot-device-mqtt';
import type { CloudOptions, LocalCloud } from '../../local/cloud.ts';
import { startCloud } from '../../local/cloud.ts';
import type { Gateway } from '../../local/gateway/gateway.ts';

export interface ApiAnswer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked at from outside, as their JSON says
  body: any;
}

/** Calls the API as whoever holds the token; anonymously without one. */
export type Caller = (method: string, path: string, body?: object) => Promise<ApiAnswer>;

export function callerWith(cloud: LocalCloud, authorization?: string): Caller {
  return async (method, path, body) => {
    const response = await fetch(`${cloud.api}/api/v1${path}`, {
      method,
      headers: {
        ...(authorization === undefined ? {} : { authorization }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json');
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
  };
}

export interface Site {
  cloud: LocalCloud;
  operator: Caller;
  /** Its root is imported, and it is registered. */
  gateway: Gateway;
}

/** A cloud whose first gateway is ready for devices. */
export async function startSite(options: CloudOptions = {}): Promise<Site> {
  const cloud = await startCloud(options);
  const operator = callerWith(cloud, `Bearer ${cloud.operatorToken}`);
  const [gateway] = cloud.gateways;
  if (gateway === undefined) throw new Error('The cloud has no gateway.');
  await register(operator, gateway);
  return { cloud, operator, gateway };
}

export async function register(operator: Caller, gateway: Gateway): Promise<void> {
  expectStatus(await operator('POST', '/roots', { name: `root-of-${gateway.id}`, pem: gateway.root }), 200, 201);
  const { hostname, ports } = gateway;
  expectStatus(await operator('PUT', `/gateways/${gateway.id}`, { hostname, ports: { mqtt: ports.mqtt } }), 200, 201);
}

export function expectStatus(answer: ApiAnswer, ...expected: number[]): ApiAnswer {
  if (expected.includes(answer.status)) return answer;
  throw new Error(`The API answered ${answer.status}, not ${expected.join(' or ')}: ${JSON.stringify(answer.body)}`);
}

/** Fetches an access token as a daemon does: client credentials, over TLS to the issuer. */
export function clientCredentialsToken(cloud: LocalCloud, name: string): Promise<string> {
  const { entra, hub } = cloud.contract;
  const client = entra.clients.find((each) => each.name === name);
  if (client === undefined) throw new Error(`The tenant has no client ${name}.`);
  const form = new URLSearchParams({
    grant_type: 'client_credentials',
    client_id: client.clientId,
    client_secret: client.clientSecret,
    scope: `${entra.audience}/.default`,
  }).toString();
  const headers = { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(form) };
  return new Promise((resolve, reject) => {
    const sent = request(entra.tokenUrl, { method: 'POST', ca: readFileSync(hub.caFile), headers }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      answer.on('end', () => {
        if (answer.statusCode === 200) resolve((JSON.parse(text) as { access_token: string }).access_token);
        else reject(new Error(`The token endpoint answered ${answer.statusCode} ${text}`));
      });
    });
    sent.once('error', reject);
    sent.end(form);
  });
}

/**
 * Sends one message as Microsoft's edge_downstream_device sample does (azure-iot-sdk-node,
 * device/samples/javascript/edge_downstream_device.js): a connection string and the root's PEM, nothing of ours.
 */
export async function sendTheDocumentedWay(connectionString: string, rootPem: string, message: object): Promise<void> {
  const client = device.Client.fromConnectionString(connectionString, Mqtt);
  client.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => 0 });
  try {
    await client.setOptions({ ca: rootPem });
    await client.open();
    await client.sendEvent(new device.Message(JSON.stringify(message)));
  } finally {
    await client.close().catch(() => {});
  }
}

/** Telemetry that the hub has received from this device, once there are `count` messages. */
export async function telemetryFrom(cloud: LocalCloud, deviceId: string, count = 1) {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const messages = cloud.hub
      .received()
      .filter((message) => message.deviceId === deviceId)
      .map(({ body, gatewayId, moduleId }) => ({
        body: JSON.parse(Buffer.from(body, 'base64').toString()),
        gatewayId,
        moduleId,
      }));
    if (messages.length >= count || Date.now() > deadline) return messages;
    await sleep(20);
  }
}
