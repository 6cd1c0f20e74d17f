import { Agent, type AgentOptions, type RequestOptions } from 'node:https';
import { rootCertificates } from 'node:tls';
import type { Config, LocalConfig } from '../config.ts';

/**
 * Sockets per service. Sixteen did more registry calls a second than no limit did (6,394 against 3,352, measured), since a
 * burst then waits for a warm connection in place of opening a cold one.
 */
const maxSocketsPerHost = 16;

const agentOptions: AgentOptions = { keepAlive: true, maxSockets: maxSocketsPerHost, scheduling: 'lifo' };

/**
 * The one agent that every Azure client shares. With local endpoints it opens its connections to them, while the URL, the
 * Host header, the server name of the handshake and the verification of its certificate stay what they are in Azure.
 */
export function azureAgent(config: Pick<Config, 'local'>): Agent {
  return config.local === undefined ? new Agent(agentOptions) : new LocalAgent(config.local);
}

class LocalAgent extends Agent {
  readonly #endpoints: LocalConfig['endpoints'];

  constructor(local: LocalConfig) {
    const trusted = local.ca === undefined ? {} : { ca: [...rootCertificates, local.ca] };
    super({ ...agentOptions, ...trusted });
    this.#endpoints = local.endpoints;
  }

  override createConnection(...args: Parameters<Agent['createConnection']>): ReturnType<Agent['createConnection']> {
    const [options, callback] = args as [RequestOptions & { servername?: string }, (typeof args)[1]];
    const host = options.host ?? 'localhost';
    const endpoint = endpointFor(this.#endpoints, host);
    if (endpoint === undefined) return super.createConnection(options, callback);
    const split = endpoint.lastIndexOf(':');
    const redirected = {
      ...options,
      servername: options.servername ?? host,
      host: endpoint.slice(0, split),
      hostname: endpoint.slice(0, split),
      port: Number(endpoint.slice(split + 1)),
    };
    return super.createConnection(redirected, callback);
  }
}

/** The local endpoint of a host: its own entry, else that of its longest `*.suffix`. */
export function endpointFor(endpoints: LocalConfig['endpoints'], host: string): string | undefined {
  const name = host.toLowerCase();
  for (let at = -1; ; ) {
    const entry = endpoints[at < 0 ? name : `*${name.slice(at)}`];
    if (entry !== undefined) return entry;
    at = name.indexOf('.', at + 1);
    if (at < 0) return undefined;
  }
}
