import { join } from 'node:path';
import type { FaultSwitch } from '../kit/faults.ts';
import { StateFile } from '../kit/state-file.ts';
import { startMqttHead } from '../mqtt/head.ts';
import type { ConnectRequest } from '../mqtt/identity.ts';
import { authenticate } from './authenticator.ts';
import { readCertificates } from './certificate-rules.ts';
import { openPki } from './pki.ts';
import { defaultScopeTimes, ScopeCache, type ScopeTimes } from './scope-cache.ts';
import { ScopeClient, type ScopedIdentity, UpstreamError } from './scope-client.ts';
import { type HubDevices, type StoredMessage, Upstream } from './upstream.ts';

export interface GatewayOptions {
  /** The device id of the Edge device. */
  id: string;
  /** What devices write into `GatewayHostName`. Default: localhost. */
  hostname?: string | undefined;
  faults: FaultSwitch;
  hub: {
    hostname: string;
    port: number;
    /** PEM of the CA that signed the hub's certificate. */
    ca: string;
    devices: HubDevices;
  };
  /** The key of the Edge device's `$edgeHub` module, or of the Edge device itself. */
  edgeKey: string;
  /** Keeps certificates, the cached scope and undelivered messages over a restart. */
  directory?: string | undefined;
  port?: number | undefined;
  scope?: Partial<ScopeTimes> | undefined;
  /** Default 100, as edgeHub's MaxConnectedClients. */
  maxClients?: number | undefined;
  /** PEM of the CAs that may have issued devices' certificates. The Edge CA is always among them. */
  trustBundle?: string[] | undefined;
  now?: () => number;
}

export interface Gateway {
  id: string;
  hostname: string;
  ports: { mqtt: number; amqp: null; websocket: null };
  rootFile?: string;
  /** PEM of the root that devices must trust. */
  root: string;
  /** Client ids. */
  connected(): string[];
  /** The link to the hub. */
  setOnline(online: boolean): void;
  /** As when edgeHub restarts shortly before its certificate ends. Connections that stand stay. */
  replaceServerCertificate(): Promise<void>;
  /** Reads the whole scope from the hub now. */
  refreshScope(): Promise<void>;
  close(): Promise<void>;
}

interface GatewayState {
  scope: ScopedIdentity[];
  messages: StoredMessage[];
}

/** Starts the double of an IoT Edge device's edgeHub as a transparent gateway. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const hostname = options.hostname ?? 'localhost';
  const times = { ...defaultScopeTimes, ...options.scope };
  const pki = await openPki(options.directory, options.id, hostname);
  const file = new StateFile<GatewayState>(options.directory && join(options.directory, 'state.json'), () => ({
    scope: scope.all(),
    messages: upstream.stored(),
  }));
  const stored = file.read();
  const changed = () => file.touch();
  const clock = options.now === undefined ? {} : { now: options.now };
  const hub = options.hub.devices;
  const upstream = new Upstream({ hub, gatewayId: options.id, stored: stored?.messages, changed, ...clock });
  const client = new ScopeClient({ hub: options.hub, edgeDeviceId: options.id, edgeKey: options.edgeKey });
  const online = <T>(ask: () => Promise<T>): Promise<T> =>
    upstream.online ? ask() : Promise.reject(new UpstreamError('The gateway is offline.'));
  // What each connected client came with, so that it can be looked at again (edgeHub's CredentialsCache).
  const credentials = new Map<string, ConnectRequest>();
  const scope = new ScopeCache({
    source: {
      everybody: () => online(() => client.everybody()),
      one: (deviceId, moduleId) => online(() => client.one(deviceId, moduleId)),
    },
    times,
    stored: stored?.scope,
    changed,
    removed: (id) => head.disconnect(id),
    updated: (id) => void lookAgain(id),
    ...clock,
  });
  const rules = {
    scope,
    hosts: { hub: options.hub.hostname, gateway: hostname },
    trustBundle: readCertificates([pki.edgeCa, ...(options.trustBundle ?? [])]),
    ...clock,
  };
  const lookAgain = async (id: string) => {
    const connect = credentials.get(id);
    if (connect === undefined) return;
    const decision = await authenticate(rules, { ...connect, again: true });
    if ('refused' in decision) head.disconnect(id);
  };
  const { chain, privateKey } = await pki.serverCertificate();
  const head = await startMqttHead({
    tls: { cert: chain, key: privateKey },
    port: options.port ?? 0,
    devices: upstream,
    faults: options.faults,
    faultTarget: 'gateway',
    maxClients: options.maxClients ?? 100,
    reauthenticateMs: times.reauthenticateMs,
    authenticate: async (connect) => {
      const decision = await authenticate(rules, connect);
      if ('ok' in decision) credentials.set(connect.clientId, connect);
      return decision;
    },
  });
  await scope.start();
  return {
    id: options.id,
    hostname,
    ports: { mqtt: head.port, amqp: null, websocket: null },
    ...(pki.rootFile === undefined ? {} : { rootFile: pki.rootFile }),
    root: pki.root,
    connected: () => head.clients(),
    setOnline(isOnline) {
      upstream.setOnline(isOnline);
      // A hub that is back is asked for the scope (ConnectionReauthenticator.cs, CloudConnectionEstablishedHandler).
      if (isOnline) void scope.demandRefresh();
    },
    replaceServerCertificate: async () => {
      const next = await pki.serverCertificate();
      head.setCertificate({ cert: next.chain, key: next.privateKey });
    },
    refreshScope: () => scope.refreshAll(),
    async close() {
      scope.stop();
      upstream.close();
      await head.close();
      client.close();
      file.flush();
    },
  };
}
