import { parseConnectionString } from '../connection-string.ts';
import type { OnboardingDocument } from '../document.ts';
import type { Listeners } from './context.ts';

/** Where edgeHub listens unless it is told otherwise (Azure/iotedge, doc/EnvironmentVariables.md). */
const usual = { mqtt: 8883, amqp: 5671, websocket: 443 } as const;

/** The ports of a gateway that is named only by its host and perhaps its MQTT port. */
export function usualPorts(mqtt: number | undefined): Listeners {
  return { ...usual, mqtt: mqtt ?? usual.mqtt };
}

/** Where to look at TLS. */
export function firstPort({ mqtt, amqp, websocket }: Listeners): number {
  return mqtt ?? amqp ?? websocket ?? usual.mqtt;
}

/** What an onboarding document says; for MQTT, its connection string has the last word. */
export function portsOf({ gateway, connectionString }: OnboardingDocument): Listeners {
  const { mqtt = usual.mqtt, amqp = usual.amqp, websocket = usual.websocket } = gateway.ports ?? {};
  const { port } = parseConnectionString(connectionString).gateway;
  return { mqtt: port ?? mqtt, amqp, websocket };
}

/** What the API says where the device must go now; undefined where its answer does not read. */
export function gatewayAddressOf(answered: Record<string, unknown>) {
  try {
    const document = answered as unknown as OnboardingDocument;
    const { hub, gateway } = parseConnectionString(document.connectionString);
    const { sequence } = document.trust;
    return { id: document.gateway.id, hub, host: gateway.host, mqtt: portsOf(document).mqtt, sequence };
  } catch {
    return undefined;
  }
}
