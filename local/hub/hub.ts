import type { FaultSwitch } from '../kit/faults.ts';
import { type Route, serveHttps } from '../kit/https-server.ts';
import { StateFile } from '../kit/state-file.ts';
import { type MqttHead, startMqttHead } from '../mqtt/head.ts';
import { type CloudToDeviceMessage, clientIdOf } from '../mqtt/identity.ts';
import { newPolicies, type Policy, type RoleAssignment, type TokenVerifier } from './access.ts';
import { configurationRoutes } from './configuration-routes.ts';
import { authenticateDevice, type DeviceAuthenticationContext } from './device-authentication.ts';
import { deviceRoutes } from './device-routes.ts';
import { ConnectedDevices, type HubDevices, type ReceivedMessage } from './devices.ts';
import { type ErrorBody, faultBody, HubError } from './errors.ts';
import { jobRoutes } from './job-routes.ts';
import { RegistryJobs } from './jobs.ts';
import type { Principal } from './model.ts';
import { onBehalfOfRoutes } from './on-behalf-of-routes.ts';
import { queryRoutes } from './query-routes.ts';
import { HubRegistry, type RegistryState } from './registry.ts';
import { type RouteContext, toRoute } from './routes.ts';
import { scopeRoutes } from './scope-routes.ts';
import { Throttle, type ThrottleTier } from './throttle.ts';
import { twinRoutes } from './twin-routes.ts';

export interface HubOptions {
  faults: FaultSwitch;
  /** `cert` is the chain that is sent; it needs the hub's host name, and `localhost` for devices on this machine. */
  tls: { cert: string; key: string };
  /** Default: gatepost.azure-devices.net. */
  hostname?: string;
  /** Identities, twins, policies and pending messages survive a restart there. Absent: nothing does. */
  stateFile?: string;
  port?: number;
  mqttPort?: number;
  /** Answers who a bearer token is. Absent: bearer tokens are refused. */
  tokens?: TokenVerifier;
  roleAssignments?: RoleAssignment[];
  /** Default: no throttling. */
  throttle?: ThrottleTier;
  /** PEM. Authorities of devices whose authentication is `certificateAuthority`. */
  certificateAuthorities?: string[];
  /** Devices that the registry takes. Default: 1,000,000. */
  maxDevices?: number;
  now?(): Date;
}

export interface Hub {
  hostname: string;
  /** HTTPS: the service side and what edgeHub asks. */
  port: number;
  /** MQTT over TLS, straight to the hub. */
  mqttPort: number;
  /** Of the iothubowner policy. */
  connectionString: string;
  /** The connection string of any of the hub's policies. */
  connectionStringOf(policy: 'iothubowner' | 'service' | 'device' | 'registryRead' | 'registryReadWrite'): string;
  /** The telemetry so far, the oldest first. */
  received(): ReceivedMessage[];
  /** Takes a message as it is, without the checks of `devices.telemetry`. */
  ingest(message: ReceivedMessage): void;
  /** What a service sends to a device; the service SDK speaks AMQP for it, which this double does not. Answers the id. */
  sendCloudToDevice(deviceId: string, message: Partial<CloudToDeviceMessage>): string;
  setThrottle(tier: ThrottleTier | undefined): void;
  setErrorBody(shape: ErrorBody): void;
  devices: HubDevices;
  close(): Promise<void>;
}

type HubContext = RouteContext & DeviceAuthenticationContext;

interface HubState extends RegistryState {
  policies: Policy[];
}

/** How soon an expired token ends its connection. */
const reauthenticateMs = 2000;

/** Starts an IoT Hub on loopback. */
export async function startHub(options: HubOptions): Promise<Hub> {
  const { faults, tls, port = 0 } = options;
  const now = options.now ?? (() => new Date());
  const { registry, policies, file } = openRegistry(options, now);
  const throttle = new Throttle(now);
  throttle.set(options.throttle);
  let errorBody: ErrorBody = 'A';
  const context: HubContext = {
    hostname: options.hostname ?? 'gatepost.azure-devices.net',
    registry,
    policies,
    tokens: options.tokens,
    roleAssignments: options.roleAssignments ?? [],
    certificateAuthorities: options.certificateAuthorities ?? [],
    throttle,
    errorBody: () => errorBody,
    now,
  };
  const devices = new ConnectedDevices(registry, throttle, now);
  const jobs = new RegistryJobs(registry);
  const head = await startDeviceSide(options, context, devices);
  const server = await serveHttps({
    target: 'hub',
    faults,
    tls,
    port,
    requestCert: true,
    routes: routesOf(context, devices, jobs),
    faultBody: (status) => faultBody(status, errorBody, now()),
  });
  return {
    hostname: context.hostname,
    port: server.port,
    mqttPort: head.port,
    connectionString: connectionStringOf(context, 'iothubowner'),
    connectionStringOf: (policy) => connectionStringOf(context, policy),
    received: () => [...devices.received],
    ingest: (message) => devices.ingest(message),
    sendCloudToDevice: (deviceId, message) => devices.sendCloudToDevice(deviceId, message),
    setThrottle: (tier) => throttle.set(tier),
    setErrorBody: (shape) => {
      errorBody = shape;
    },
    devices,
    close: async () => {
      jobs.close();
      await head.close();
      await server.close();
      file.flush();
    },
  };
}

/** The registry as it was stored, or a new one, and its file. */
function openRegistry(options: HubOptions, now: () => Date) {
  const file: StateFile<HubState> = new StateFile<HubState>(
    options.stateFile,
    (): HubState => ({ ...registry.capture(), policies }),
  );
  const stored = file.read();
  const policies: Policy[] = stored?.policies ?? newPolicies();
  const registry = new HubRegistry(
    stored,
    now,
    options.maxDevices === undefined ? {} : { devices: options.maxDevices },
  );
  disconnectAll(registry);
  registry.on('changed', () => file.touch());
  file.touch();
  return { registry, policies, file };
}

async function startDeviceSide(options: HubOptions, context: HubContext, devices: ConnectedDevices): Promise<MqttHead> {
  const head = await startMqttHead({
    tls: options.tls,
    port: options.mqttPort ?? 0,
    faults: options.faults,
    faultTarget: 'hub',
    devices,
    reauthenticateMs,
    authenticate: async (connect) => {
      const decision = authenticateDevice(context, connect);
      if ('ok' in decision && !connect.again) context.throttle.take('connection');
      return decision;
    },
  });
  context.registry.on('revoked', (deviceId, moduleId) => head.disconnect(clientIdOf({ deviceId, moduleId })));
  return head;
}

function routesOf(context: HubContext, devices: ConnectedDevices, jobs: RegistryJobs): Route[] {
  const { registry } = context;
  // The first that matches answers: /devices/query before /devices/{id}.
  return [
    ...queryRoutes(registry),
    ...scopeRoutes(registry),
    ...onBehalfOfRoutes(registry),
    ...deviceRoutes(registry),
    ...twinRoutes(registry, devices),
    ...configurationRoutes(registry),
    ...jobRoutes(jobs),
  ].map((route) => toRoute(context, route));
}

function connectionStringOf(context: HubContext, name: string): string {
  const policy = context.policies.find((one) => one.name === name);
  if (policy === undefined) throw new HubError('ArgumentInvalid', `There is no policy ${name}.`);
  return `HostName=${context.hostname};SharedAccessKeyName=${name};SharedAccessKey=${policy.primaryKey}`;
}

/** Nobody is connected to a hub that has just started. */
function disconnectAll(registry: HubRegistry): void {
  for (const device of registry.devices.values()) {
    const principals: Principal[] = [device, ...Object.values(device.modules)];
    for (const principal of principals) {
      if (principal.connectionState === 'Connected') principal.connectionStateUpdatedTime = principal.lastActivityTime;
      principal.connectionState = 'Disconnected';
    }
  }
}
