import { createHash, createHmac, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { OnboardingDocument, TrustedRoot } from '../../device/src/document.ts';
import { type CertificateOptions, issue, type KeyedCertificate, selfSigned } from '../../local/kit/certificates.ts';
import { FaultSwitch } from '../../local/kit/faults.ts';
import { startMqttHead } from '../../local/mqtt/head.ts';
import type { ConnectDecision, ConnectRequest } from '../../local/mqtt/identity.ts';

/** A folder that is gone after the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'gatepost-device-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }));
  return folder;
}

/** The certificates of a gateway as IoT Edge makes them: root, Edge CA, server certificate. */
export interface GatewayPki {
  root: KeyedCertificate;
  edgeCa: KeyedCertificate;
  server: KeyedCertificate;
}

export async function gatewayPki(server: Partial<CertificateOptions> = {}): Promise<GatewayPki> {
  const root = await selfSigned({ commonName: `Root ${randomBytes(4).toString('hex')}` });
  const edgeCa = await issue(root, { commonName: 'Edge CA', ca: 0 });
  const names = { commonName: 'localhost', names: ['localhost'] };
  return { root, edgeCa, server: await issue(edgeCa, { ...names, ...server }) };
}

export function trustedRoot(pem: string): TrustedRoot {
  const certificate = new X509Certificate(pem);
  const sha256 = createHash('sha256').update(certificate.raw).digest('hex');
  return { sha256, subject: certificate.subject, notAfter: new Date(certificate.validTo).toISOString(), pem };
}

export interface DocumentParts {
  roots: string[];
  port: number;
  host?: string;
  hub?: string;
  deviceId?: string;
  moduleId?: string;
  /** The credential field of the connection string. */
  credential?: string;
  sequence?: number;
}

export const deviceKey = randomBytes(32).toString('base64');

export function onboardingDocument(parts: DocumentParts): OnboardingDocument {
  const { host = 'localhost', hub = 'hub.azure-devices.net', deviceId = 'sensor-1', moduleId } = parts;
  const fields = [
    `HostName=${hub}`,
    `DeviceId=${deviceId}`,
    ...(moduleId === undefined ? [] : [`ModuleId=${moduleId}`]),
    parts.credential ?? `SharedAccessKey=${deviceKey}`,
    `GatewayHostName=${host}:${parts.port}`,
  ];
  return {
    device: { id: deviceId, moduleId: moduleId ?? null },
    hub: { hostname: hub },
    gateway: { id: 'gateway-1', hostname: host, ports: { mqtt: parts.port, amqp: null, websocket: null } },
    connectionString: fields.join(';'),
    expiresAt: null,
    trust: { sequence: parts.sequence ?? 7, refreshHintSeconds: 3600, roots: parts.roots.map(trustedRoot) },
  };
}

/** A SAS token of the device's own key, as the backend signs it. */
export function sasToken(hub: string, deviceId: string, secondsFromNow: number): string {
  const resource = encodeURIComponent(`${hub}/devices/${deviceId}`);
  const expiry = Math.floor(Date.now() / 1000) + secondsFromNow;
  const signature = createHmac('sha256', Buffer.from(deviceKey, 'base64'))
    .update(`${resource}\n${expiry}`)
    .digest('base64');
  return `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}&se=${expiry}`;
}

export interface Broker {
  port: number;
  faults: FaultSwitch;
  /** Every CONNECT that arrived, accepted or not. */
  connects: ConnectRequest[];
  messages: { deviceId: string; moduleId: string | null; properties: Record<string, string>; body: string }[];
  clients(): string[];
  disconnect(clientId: string): void;
  setCertificate(certificate: KeyedCertificate): void;
  /** Holds back every PUBACK while true. */
  silent: boolean;
  close(): Promise<void>;
}

/**
 * The real MQTT protocol head of the doubles with the credential rules that matter here: the SAS must be signed with
 * the device's key, a certificate must be the one that was registered.
 */
export async function startBroker(
  pki: { server: KeyedCertificate },
  options: { thumbprint?: string; port?: number; refuse?: ConnectDecision } = {},
): Promise<Broker> {
  const connects: ConnectRequest[] = [];
  const messages: Broker['messages'] = [];
  const faults = new FaultSwitch();
  const head = await startMqttHead({
    tls: { cert: pki.server.chain, key: pki.server.privateKey },
    port: options.port ?? 0,
    faults,
    faultTarget: 'gateway',
    authenticate: async (connect) => {
      connects.push(connect);
      return options.refuse ?? decide(connect, options.thumbprint);
    },
    devices: {
      telemetry: async (from, properties, body) => {
        messages.push({ ...from, properties, body: body.toString('utf8') });
        while (broker.silent) await new Promise((resolve) => setTimeout(resolve, 10));
      },
      twin: async () => ({ desired: { $version: 1 }, reported: { $version: 1 } }),
      patchReported: async () => 2,
      attach: () => () => {},
    },
  });
  const broker: Broker = {
    port: head.port,
    faults,
    connects,
    messages,
    clients: () => head.clients(),
    disconnect: (clientId) => head.disconnect(clientId),
    setCertificate: ({ chain, privateKey }) => head.setCertificate({ cert: chain, key: privateKey }),
    silent: false,
    close: () => {
      broker.silent = false;
      return head.close();
    },
  };
  onTestFinished(() => broker.close().catch(() => {}));
  return broker;
}

export function decide(connect: ConnectRequest, thumbprint: string | undefined): ConnectDecision {
  const [deviceId = '', moduleId] = connect.clientId.split('/');
  const ok = { ok: { deviceId, moduleId: moduleId ?? null } };
  if (!connect.password) {
    const [certificate] = connect.certificates;
    const matches = certificate !== undefined && trustedRoot(certificate.toString()).sha256 === thumbprint;
    return matches ? ok : { refused: 5, reason: 'no such certificate' };
  }
  const fields = new URLSearchParams(connect.password.replace('SharedAccessSignature ', ''));
  const signed = `${encodeURIComponent(fields.get('sr') ?? '')}\n${fields.get('se')}`;
  const expected = createHmac('sha256', Buffer.from(deviceKey, 'base64')).update(signed).digest('base64');
  const fresh = Number(fields.get('se')) > Date.now() / 1000;
  return fresh && fields.get('sig') === expected ? ok : { refused: 5, reason: 'the signature does not match' };
}

export interface ApiDouble {
  url: string;
  /** `METHOD path` of each request, in order. */
  requests: string[];
  /** Answers in place of the contract where it returns true. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean;
}

export interface ApiContents {
  /** PEM of every root in the bundle. */
  roots: string[];
  sequence?: number;
  /** Documents by join token; each is redeemed once. */
  tokens?: Record<string, OnboardingDocument>;
}

/** A server that speaks the three routes of the HTTP contract that a device uses to join. */
export async function startApi(contents: ApiContents): Promise<ApiDouble> {
  const tokens = new Map(Object.entries(contents.tokens ?? {}));
  const api: ApiDouble = { url: '', requests: [], intercept: () => false };
  const server = createServer((request, response) => {
    api.requests.push(`${request.method} ${request.url}`);
    if (!api.intercept(request, response)) void answer(request, response, contents, tokens);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    return new Promise<void>((resolve) => server.close(() => resolve()));
  });
  api.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return api;
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  { roots, sequence = 7 }: ApiContents,
  tokens: Map<string, OnboardingDocument>,
): Promise<void> {
  const send = (status: number, type: string, body: string) =>
    response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) }).end(body);
  const problem = (status: number, code: string) =>
    send(
      status,
      'application/problem+json',
      JSON.stringify({ status, code, title: code, detail: 'As the contract says.' }),
    );
  const url = new URL(request.url ?? '/', api0);
  const known = roots.map(trustedRoot);
  const [, sha256] = /^\/api\/v1\/trust-bundle\/roots\/([0-9a-f]{64})$/.exec(url.pathname) ?? [];
  if (request.method === 'GET' && sha256 !== undefined) {
    const root = known.find((each) => each.sha256 === sha256);
    return void (root ? send(200, 'application/x-pem-file', root.pem) : problem(404, 'root_not_found'));
  }
  if (
    request.method === 'GET' &&
    url.pathname === '/api/v1/trust-bundle' &&
    url.searchParams.get('format') === 'json'
  ) {
    return void send(200, 'application/json', JSON.stringify({ sequence, refreshHintSeconds: 3600, roots: known }));
  }
  if (request.method === 'POST' && url.pathname === '/api/v1/join') {
    if (request.headers['content-type'] !== 'application/json') return void problem(415, 'unsupported_media_type');
    if (request.headers['content-length'] === undefined) return void problem(411, 'length_required');
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { token, ...others } = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { token: string };
    if (Object.keys(others).length > 0) return void problem(400, 'invalid_request');
    const document = tokens.get(token);
    tokens.delete(token);
    return void (document
      ? send(200, 'application/json', JSON.stringify(document))
      : problem(401, 'join_token_invalid'));
  }
  problem(404, 'not_found');
}

const api0 = 'http://127.0.0.1';

/** Waits until `isTrue`, at most five seconds. */
export async function until(isTrue: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 5_000;
  while (!isTrue()) {
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
