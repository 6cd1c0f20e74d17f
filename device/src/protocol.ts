import { parseConnectionString } from './connection-string.ts';
import type { OnboardingDocument } from './document.ts';
import { GatepostDeviceError } from './errors.ts';

export const protocols = ['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws'] as const;

/** How a client speaks to its gateway. */
export type Protocol = (typeof protocols)[number];

/** The port of each listener of edgeHub (ProtocolHead settings in edge-hub/core, appsettings_hub.json). */
const usual = { mqtt: 8883, amqp: 5671, websocket: 443 } as const;

/** Reads what a person or a program wrote. Throws `not_supported` for http, with the reason, and `usage` for the rest. */
export function parseProtocol(text: string): Protocol {
  const known = protocols.find((each) => each === text);
  if (known !== undefined) return known;
  if (text === 'http' || text === 'https') {
    throw new GatepostDeviceError(
      'not_supported',
      "HTTP does not lead through a gateway: edgeHub has no HTTP route for telemetry, and the SDK's HTTP transport ignores the gateway and goes straight to the IoT Hub. Where only port 443 is open, use mqtt-ws or amqp-ws.",
    );
  }
  throw new GatepostDeviceError(
    'usage',
    `The protocol is one of ${protocols.join(', ')}, not ${JSON.stringify(text)}.`,
  );
}

/**
 * Where a client must go: for MQTT the port in the connection string, else the one in the document, else the usual one.
 * Throws `not_supported` where the document says that the gateway does not serve this protocol.
 */
export function gatewayAddress(document: OnboardingDocument, protocol: Protocol): { host: string; port: number } {
  const { host, port } = parseConnectionString(document.connectionString).gateway;
  const { ports } = document.gateway;
  if (protocol === 'mqtt') return { host, port: port ?? ports?.mqtt ?? usual.mqtt };
  const listener = protocol === 'amqp' ? 'amqp' : 'websocket';
  const given = ports?.[listener];
  if (given === null) {
    const served = (['mqtt', 'amqp', 'websocket'] as const).filter((each) => ports?.[each] !== null);
    throw new GatepostDeviceError(
      'not_supported',
      `The gateway ${document.gateway.id} does not serve ${protocol}: its ports in the onboarding document say ${listener}: null. It serves ${served.join(' and ')}.`,
    );
  }
  return { host, port: given ?? usual[listener] };
}

/** What stands as GatewayHostName in the credentials, from which the SDK makes its URI: it fixes 443 for WebSockets. */
export function gatewayHostName({ host, port }: { host: string; port: number }, protocol: Protocol): string {
  return protocol.endsWith('-ws') ? host : `${host}:${port}`;
}
