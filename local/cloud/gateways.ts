import { join } from 'node:path';
import { type Gateway, type GatewayPorts, startGateway } from '../gateway/gateway.ts';
import type { ScopeTimes } from '../gateway/scope-cache.ts';
import type { Hub } from '../hub/hub.ts';
import type { FaultSwitch } from '../kit/faults.ts';
import { ensureEdgeIdentity } from './edge-identity.ts';
import type { RememberedPorts } from './ports.ts';
import { keep } from './running.ts';

export interface AddGatewayOptions {
  /** Default: `gateway-1`, `gateway-2` and so on. */
  id?: string | undefined;
  /** Default: localhost. */
  hostname?: string | undefined;
  /** What it would like to listen on, unless it had another port before. 0 or absent: any. */
  ports?: Partial<GatewayPorts> | undefined;
  scope?: Partial<ScopeTimes> | undefined;
  maxClients?: number | undefined;
  trustBundle?: string[] | undefined;
}

interface Surroundings {
  directory: string;
  faults: FaultSwitch;
  ports: RememberedPorts;
  hub: Hub;
  /** PEM of the CA that the hub's certificate is from. */
  ca: string;
  gateways: Gateway[];
  cleanup: AsyncDisposableStack;
}

/** Answers a function that makes an Edge device of the hub and starts its gateway, as an installer would. */
export function gatewayAdder(around: Surroundings): (options?: AddGatewayOptions) => Promise<Gateway> {
  const { hub, ports } = around;
  return async (options = {}) => {
    const id = options.id ?? `gateway-${around.gateways.length + 1}`;
    if (around.gateways.some((gateway) => gateway.id === id)) throw new Error(`The gateway ${id} runs already.`);
    const access = { hostname: hub.hostname, port: hub.port, connectionString: hub.connectionString, ca: around.ca };
    const edgeKey = await ensureEdgeIdentity(access, id);
    const gateway = await keep(
      around.cleanup,
      startGateway({
        ...options,
        id,
        faults: around.faults,
        hub: { hostname: hub.hostname, port: hub.port, ca: around.ca, devices: hub.devices },
        edgeKey,
        directory: join(around.directory, 'gateways', encodeURIComponent(id)),
        ports: {
          mqtt: ports.get(`gateway:${id}`, options.ports?.mqtt),
          amqp: ports.get(`gateway:${id}:amqp`, options.ports?.amqp),
          websocket: ports.get(`gateway:${id}:websocket`, options.ports?.websocket),
        },
      }),
    );
    const { mqtt, amqp, websocket } = gateway.ports;
    ports.set({ [`gateway:${id}`]: mqtt, [`gateway:${id}:amqp`]: amqp, [`gateway:${id}:websocket`]: websocket });
    around.gateways.push(gateway);
    return gateway;
  };
}
