import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { type Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import {
  type IdentityService,
  type IdentityServiceOptions,
  startIdentityService,
} from '../../../local/identity-service/identity-service.ts';
import type { ServiceName } from '../../../local/identity-service/routing.ts';
import { Site } from '../gateway/site.ts';

export interface SocketAnswer {
  status: number;
  contentType: string | undefined;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers are looked at from outside, as their JSON says
  body: any;
}

export interface SocketRequest {
  method?: string;
  body?: unknown;
  /** Sent as it is, whatever it is. */
  raw?: string;
  headers?: Record<string, string>;
  agent?: Agent;
}

/** One request over a Unix socket, on a connection of its own. */
export function ask(
  folder: string,
  service: ServiceName,
  path: string,
  sent: SocketRequest = {},
): Promise<SocketAnswer> {
  const text = sent.raw ?? (sent.body === undefined ? undefined : JSON.stringify(sent.body));
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        socketPath: join(folder, `${service}.sock`),
        method: sent.method ?? (text === undefined ? 'GET' : 'POST'),
        path,
        agent: sent.agent ?? false,
        headers: {
          ...(text === undefined ? {} : { 'content-length': Buffer.byteLength(text) }),
          ...(sent.body === undefined ? {} : { 'content-type': 'application/json' }),
          ...sent.headers,
        },
      },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on('data', (chunk: Buffer) => chunks.push(chunk));
        answer.on('end', () => {
          const received = Buffer.concat(chunks).toString('utf8');
          const contentType = answer.headers['content-type'];
          const body = contentType === 'application/json' ? JSON.parse(received) : undefined;
          resolve({ status: answer.statusCode ?? 0, contentType, text: received, body });
        });
      },
    );
    outgoing.on('error', reject);
    outgoing.end(text);
  });
}

export const agentUid = 4242;
export const agentName = 'press-agent';

/** A host with the identity services, below a gateway and a hub. */
export class Host {
  readonly site: Site;
  readonly gateway: Gateway;
  readonly ca: string;
  readonly #closers: (() => Promise<unknown>)[] = [];

  private constructor(site: Site, gateway: Gateway) {
    this.site = site;
    this.gateway = gateway;
    this.ca = `${gateway.root}\n${site.access.ca}`;
  }

  static async open(): Promise<Host> {
    const site = await Site.open();
    return new Host(site, await site.gateway({ id: 'gateway-1', scope: { identityRefreshDelayMs: 0 } }));
  }

  /** Where port 443 of a host is on this machine. */
  locate = (host: string) => {
    const port = host === this.site.hub.hostname ? this.site.hub.port : this.gateway.ports.websocket;
    return { address: '127.0.0.1', port };
  };

  /** The services of a device behind the gateway, with one module principal. */
  async start(deviceId: string, options: Partial<IdentityServiceOptions> = {}): Promise<IdentityService> {
    const device = await this.site.device(deviceId, this.gateway);
    return this.services({
      provisioning: {
        source: 'manual',
        hub: this.site.hub.hostname,
        deviceId,
        gatewayHost: this.gateway.hostname,
        authentication: { method: 'sas', key: device.key },
      },
      principals: [{ uid: agentUid, name: agentName, idtype: ['module'] }],
      ...options,
    });
  }

  async services(options: Omit<IdentityServiceOptions, 'cloud' | 'directory'> & Partial<IdentityServiceOptions>) {
    const directory = this.folder();
    const cloud = { ca: this.ca, locate: this.locate, timeoutMs: 2_000, retries: 0, retryDelayMs: 10 };
    const services = await startIdentityService({ directory, users: [agentUid], cloud, ...options });
    this.#closers.push(() => services.close());
    return services;
  }

  folder(): string {
    const folder = mkdtempSync(join(tmpdir(), 'gatepost-aziot-'));
    this.#closers.push(() => rm(folder, { recursive: true, force: true }));
    return folder;
  }

  /** The modules that the hub has for a device, by name, with their primary key. */
  async modules(deviceId: string): Promise<Record<string, string>> {
    const modules = (await this.site.call('GET', `/devices/${deviceId}/modules`)) as {
      moduleId: string;
      authentication: { symmetricKey: { primaryKey: string } };
    }[];
    return Object.fromEntries(modules.map((one) => [one.moduleId, one.authentication.symmetricKey.primaryKey]));
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
    await this.site.close();
  }
}
