import { join } from 'node:path';
import { startAmqpHead } from '../amqp/head.ts';
import type { Route } from '../kit/https-server.ts';
import { StateFile } from '../kit/state-file.ts';
import { ConnectedClients } from '../mqtt/clients.ts';
import { startMqttHead } from '../mqtt/head.ts';
import { type ConnectDecision, type ConnectRequest, type Credentials, clientIdOf } from '../mqtt/identity.ts';
import { startWebSocketHead } from '../websocket/head.ts';
import { type AuthenticatorOptions, authenticate, credentialsOf, refuse } from './authenticator.ts';
import { readCertificates } from './certificate-rules.ts';
import type { GatewayOptions, GatewayPorts } from './gateway.ts';
import { moduleRegistryRoutes } from './module-registry.ts';
import { RegistryClient } from './registry-client.ts';
import { parseSasToken } from './sas-token.ts';
import { defaultScopeTimes, ScopeCache, type ScopeTimes } from './scope-cache.ts';
import { ScopeClient, type ScopedIdentity, UpstreamError } from './scope-client.ts';
import { expiryGraceSeconds } from './token-rules.ts';
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

interface Head {
  setCertificate(tls: { cert: string; key: string }): void;
  close(): Promise<void>;
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
  readonly #credentials = new Map<string, Credentials>();
  readonly #clients: ConnectedClients;
  readonly #heads: Head[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(options: EdgeHubOptions) {
    this.#options = options;
    this.#clients = new ConnectedClients(options.maxClients ?? 100);
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
      removed: (id) => this.#clients.drop(id),
      updated: (id) => void this.#lookAgain(id),
      ...clock,
    });
    const hosts = { hub: hub.hostname, gateway: options.hostname };
    this.#rules = { scope: this.#scope, hosts, trustBundle: readCertificates(options.trustBundle), ...clock };
  }

  /** Serves every protocol with this certificate. Answers the ports. */
  async start(tls: { cert: string; key: string }): Promise<GatewayPorts> {
    const { ports = {}, faults, hub } = this.#options;
    const common = { tls, faults, faultTarget: 'gateway' as const };
    const devices = { devices: this.#upstream, clients: this.#clients };
    const mqtt = await startMqttHead({
      ...common,
      ...devices,
      port: ports.mqtt ?? 0,
      authenticate: (connect) => this.#authenticate(connect),
    });
    this.#heads.push(mqtt);
    const amqp = await startAmqpHead({
      ...common,
      ...devices,
      port: ports.amqp ?? 0,
      hubHostname: hub.hostname,
      refuse: (credentials) => refuse(this.#rules, credentials),
      audienceOf: (token) => this.#audienceOf(token),
      renewed: (credentials) => this.#remember(credentials),
    });
    this.#heads.push(amqp);
    const websocket = await startWebSocketHead({
      ...common,
      port: ports.websocket ?? 0,
      protocols: { mqtt: mqtt.accept, AMQPWSB10: amqp.accept },
      routes: this.#registryRoutes(),
    });
    this.#heads.push(websocket);
    await this.#scope.start();
    this.#timer = setInterval(() => void this.#lookAgainAtAll(), this.#times.reauthenticateMs);
    this.#timer.unref();
    return { mqtt: mqtt.port, amqp: amqp.port, websocket: websocket.port };
  }

  /** The module registry of the devices behind this gateway. */
  #registryRoutes(): Route[] {
    return moduleRegistryRoutes({
      gatewayId: this.#options.id,
      authenticate: (connect) => authenticate(this.#rules, connect),
      client: { ask: (...question) => this.#ask(() => this.#registryClient.ask(...question)) },
    });
  }

  connected(): string[] {
    return this.#clients.ids();
  }

  setCertificate(tls: { cert: string; key: string }): void {
    for (const head of this.#heads) head.setCertificate(tls);
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
    clearInterval(this.#timer);
    this.#scope.stop();
    this.#upstream.close();
    // The WebSockets last: their clients are served by the others, who have something to say at the end.
    for (const head of this.#heads) await head.close();
    this.#client.close();
    this.#registryClient.close();
    this.#file.flush();
  }

  #ask<T>(question: () => Promise<T>): Promise<T> {
    return this.#upstream.online ? question() : Promise.reject(new UpstreamError('The gateway is offline.'));
  }

  async #authenticate(connect: ConnectRequest): Promise<ConnectDecision> {
    const decision = await authenticate(this.#rules, connect);
    const credentials = credentialsOf(connect);
    if ('ok' in decision && typeof credentials !== 'string') this.#remember(credentials);
    return decision;
  }

  #remember(credentials: Credentials): void {
    this.#credentials.set(clientIdOf(credentials.identity), credentials);
  }

  #audienceOf(text: string): string | undefined {
    const token = parseSasToken(text);
    const now = (this.#options.now ?? Date.now)() / 1000;
    return token === undefined || token.expiry + expiryGraceSeconds < now ? undefined : token.audience;
  }

  /** Each 5 minutes (ConnectionReauthenticator.cs, ReauthenticateAll). */
  async #lookAgainAtAll(): Promise<void> {
    for (const id of this.#clients.ids()) await this.#lookAgain(id);
  }

  /** The hub has other data of an identity than before (ConnectionReauthenticator.cs, HandleServiceIdentityUpdate). */
  async #lookAgain(id: string): Promise<void> {
    const credentials = this.#credentials.get(id);
    if (credentials === undefined) return;
    const reason = await refuse(this.#rules, { ...credentials, again: true });
    if (reason !== undefined) this.#clients.drop(id);
  }
}
