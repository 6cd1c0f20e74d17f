import type { FaultSwitch } from '../kit/faults.ts';
import type { CertificateFault } from './bad-certificates.ts';
import { EdgeHub } from './edge-hub.ts';
import { openPki } from './pki.ts';
import type { ScopeTimes } from './scope-cache.ts';
import type { HubDevices } from './upstream.ts';

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
  /** The key of the Edge device's `$edgeHub` module, as which the gateway asks the hub for its scope. */
  edgeKey: string;
  /** Keeps certificates, the cached scope and undelivered messages over a restart. */
  directory?: string | undefined;
  /** What to listen on; 0 or absent is any. A port that is taken, or not permitted, is replaced by a free one. */
  ports?: Partial<GatewayPorts> | undefined;
  scope?: Partial<ScopeTimes> | undefined;
  /** Default 100, as edgeHub's MaxConnectedClients. */
  maxClients?: number | undefined;
  /** PEM of the CAs that may have issued devices' certificates. The Edge CA is always among them. */
  trustBundle?: string[] | undefined;
  now?: () => number;
}

/** In the field 8883, 5671 and 443; on the last one are WebSockets, and HTTPS for the identity services of devices. */
export interface GatewayPorts {
  mqtt: number;
  amqp: number;
  websocket: number;
}

export interface Gateway {
  id: string;
  hostname: string;
  ports: GatewayPorts;
  rootFile?: string;
  /** PEM of the root that devices must trust. */
  root: string;
  /** Client ids. */
  connected(): string[];
  /** The link to the hub. */
  setOnline(online: boolean): void;
  /** As when edgeHub restarts shortly before its certificate ends. Connections that stand stay. */
  replaceServerCertificate(): Promise<void>;
  /** Serves certificates with this fault to new connections, until the next `serve` or `replaceServerCertificate`. */
  serve(fault: CertificateFault): Promise<void>;
  /** Reads the whole scope from the hub now. */
  refreshScope(): Promise<void>;
  close(): Promise<void>;
}

/** Starts the double of an IoT Edge device's edgeHub as a transparent gateway. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { id, hostname = 'localhost', trustBundle = [] } = options;
  const pki = await openPki(options.directory, id, hostname);
  const newCertificate = async () => {
    const { chain, privateKey } = await pki.serverCertificate();
    return { cert: chain, key: privateKey };
  };
  const edgeHub = new EdgeHub({ ...options, hostname, trustBundle: [pki.edgeCa, ...trustBundle] });
  const ports = await edgeHub.start(await newCertificate());
  return {
    id,
    hostname,
    ports,
    ...(pki.rootFile === undefined ? {} : { rootFile: pki.rootFile }),
    root: pki.root,
    connected: () => edgeHub.connected(),
    setOnline: (online) => edgeHub.setOnline(online),
    replaceServerCertificate: async () => edgeHub.setCertificate(await newCertificate()),
    serve: async (fault) => {
      const { chain, privateKey } = await pki.badCertificate(fault);
      edgeHub.setCertificate({ cert: chain, key: privateKey });
    },
    refreshScope: () => edgeHub.refreshScope(),
    close: () => edgeHub.close(),
  };
}
