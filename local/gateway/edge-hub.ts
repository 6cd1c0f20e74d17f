import { join } from 'node:path';
import { type RunningServer, serveHttps } from '../kit/https-server.ts';
import { StateFile } from '../kit/state-file.ts';
import { type MqttHead, startMqttHead } from '../mqtt/head.ts';
import type { ConnectDecision, ConnectRequest } from '../mqtt/identity.ts';
import { type AuthenticatorOptions, authenticate } from './authenticator.ts';
import { readCertificates } from './certificate-rules.ts';
import type { GatewayOptions } from './gateway.ts';
import { moduleRegistryRoutes } from './module-registry.ts';
import { RegistryClient } from './registry-client.ts';
import { defaultScopeTimes, ScopeCache, type ScopeTimes } from './scope-cache.ts';
import { ScopeClient, type ScopedIdentity, UpstreamError } from './scope-client.ts';
import { type StoredMessage, Upstream } from './upstream.ts';

interface EdgeHubState {
  scope: ScopedIdentity[];
  messages: StoredMessage[];
}

export interface EdgeHubOptions extends GatewayOptions {
  hostname: string;
  /** PEM of the CAs whose certificates let devices in. */
  trustBundle: string[];
}

/** What runs behind the certificates: who may connect, and what becomes of what they send. */
export class EdgeHub {
  readonly #options: EdgeHubOptions;
  readonly #times: ScopeTimes;
  readonly #file: StateFile<EdgeHubState>;
  readonly #client: ScopeClient;
  readonly #registryClient: RegistryClient;
  readonly #upstream: Upstream;
  readonly #scope: ScopeCache;
  readonly #rules: AuthenticatorOptions;
  /** What each client came with, so that it can be looked at again (edgeHub's CredentialsCache). */
  readonly #credentials = new Map<string, ConnectRequest>();
  #head: MqttHead | undefined;
  #registry: RunningServer | undefined;

  constructor(options: EdgeHubOptions) {
    this.#options = options;
    this.#times = { ...defaultScopeTimes, ...options.scope };
    this.#file = new StateFile<EdgeHubState>(options.directory && join(options.directory, 'state.json'), () => ({
      scope: this.#scope.all(),
      messages: this.#upstream.stored(),
    }));
    const stored = this.#file.read();
    const clock = options.now === undefined ? {} : { now: options.now };
    const changed = () => this.#file.touch();
    const { hub, id: gatewayId } = options;
    const asEdgeHub = { hub, edgeDeviceId: gatewayId, edgeKey: options.edgeKey };
    this.#client = new ScopeClient(asEdgeHub);
    this.#registryClient = new RegistryClient(asEdgeHub);
    this.#upstream = new Upstream({ hub: hub.devices, gatewayId, stored: stored?.messages, changed, ...clock });
    this.#scope = new ScopeCache({
      source: {
        everybody: () => this.#ask(() => this.#client.everybody()),
        one: (deviceId, moduleId) => this.#ask(() => this.#client.one(deviceId, moduleId)),
      },
      times: this.#times,
      stored: stored?.scope,
      changed,
      removed: (id) => this.#head?.disconnect(id),
      updated: (id) => void this.#lookAgain(id),
      ...clock,
    });
    const hosts = { hub: hub.hostname, gateway: options.hostname };
    this.#rules = { scope: this.#scope, hosts, trustBundle: readCertificates(options.trustBundle), ...clock };
  }

  /** Serves MQTT with this certificate. Answers the port. */
  async start(tls: { cert: string; key: string }): Promise<number> {
    const head = await startMqttHead({
      tls,
      port: this.#options.port ?? 0,
      devices: this.#upstream,
      faults: this.#options.faults,
      faultTarget: 'gateway',
      maxClients: this.#options.maxClients ?? 100,
      reauthenticateMs: this.#times.reauthenticateMs,
      authenticate: (connect) => this.#authenticate(connect),
    });
    this.#head = head;
    await this.#scope.start();
    return head.port;
  }

  /** Serves the module registry of the devices behind this gateway over HTTPS. Answers the port. */
  async startRegistry(tls: { cert: string; key: string }): Promise<number> {
    const { id: gatewayId, faults, registryPort: port = 0 } = this.#options;
    const routes = moduleRegistryRoutes({
      gatewayId,
      authenticate: (connect) => authenticate(this.#rules, connect),
      client: { ask: (...question) => this.#ask(() => this.#registryClient.ask(...question)) },
    });
    this.#registry = await serveHttps({ target: 'gateway', faults, tls, requestCert: true, routes, port });
    return this.#registry.port;
  }

  connected(): string[] {
    return this.#head?.clients() ?? [];
  }

  setCertificate(tls: { cert: string; key: string }): void {
    this.#head?.setCertificate(tls);
  }

  refreshScope(): Promise<void> {
    return this.#scope.refreshAll();
  }

  setOnline(online: boolean): void {
    this.#upstream.setOnline(online);
    // A hub that is back is asked for the scope (ConnectionReauthenticator.cs, CloudConnectionEstablishedHandler).
    if (online) void this.#scope.demandRefresh();
  }

  async close(): Promise<void> {
    this.#scope.stop();
    this.#upstream.close();
    await this.#head?.close();
    await this.#registry?.close();
    this.#client.close();
    this.#registryClient.close();
    this.#file.flush();
  }

  #ask<T>(question: () => Promise<T>): Promise<T> {
    return this.#upstream.online ? question() : Promise.reject(new UpstreamError('The gateway is offline.'));
  }

  async #authenticate(connect: ConnectRequest): Promise<ConnectDecision> {
    const decision = await authenticate(this.#rules, connect);
    if ('ok' in decision) this.#credentials.set(connect.clientId, connect);
    return decision;
  }

  /** The hub has other data of an identity than before (ConnectionReauthenticator.cs, HandleServiceIdentityUpdate). */
  async #lookAgain(id: string): Promise<void> {
    const connect = this.#credentials.get(id);
    if (connect === undefined) return;
    const decision = await authenticate(this.#rules, { ...connect, again: true });
    if ('refused' in decision) this.#head?.disconnect(id);
  }
}
