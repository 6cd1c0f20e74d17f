import { movedBy } from './agreement.ts';
import type { Check, Context } from './context.ts';
import { defineCodes, type Finding, finder } from './findings.ts';
import type { Dialled } from './observe/network.ts';

export const portsCodes = defineCodes({
  mqtt_port_open: {
    severity: 'ok',
    cause: '{host}:{port} (MQTT) takes connections, at {address}.',
    cure: 'Nothing needs to be done.',
    command: 'nc -vz {host} {port}',
  },
  mqtt_port_refused: {
    severity: 'error',
    cause: '{host}:{port} (MQTT) refuses connections: edgeHub is not running there, or listens on another port.',
    cure: 'On the gateway, look with "iotedge list" whether edgeHub runs and whether its createOptions publish the port.',
    command: 'nc -vz {host} {port}',
  },
  mqtt_port_silent: {
    severity: 'error',
    cause: '{host}:{port} (MQTT) does not answer at all: a firewall drops what is sent there, or the host is down.',
    cure: 'Open outgoing TCP {port} between this device and the gateway; where only 443 can be open, use MQTT over WebSockets.',
    command: 'nc -vz -w 5 {host} {port}; ping -c 3 {host}',
  },
  mqtt_port_unreachable: {
    severity: 'error',
    cause: 'There is no way to {host}:{port} (MQTT) from here: {reason}.',
    cure: 'Repair the network of this device: address, route, cable, VPN.',
    command: 'ip route get "$(getent hosts {host} | cut -d " " -f 1)"',
  },
  mqtt_not_served: {
    severity: 'info',
    cause: 'This gateway serves no MQTT on a port of its own: its document says so.',
    cure: 'Use AMQP or WebSockets; if MQTT is wanted, its port has to be recorded for the gateway.',
    command: 'grep -A 5 \'"ports"\' {state}/document.json',
  },
  first_port_closed: {
    severity: 'error',
    cause: '{host}:{port}, which is what this gateway serves in place of MQTT, cannot be reached: {reason}.',
    cure: 'On the gateway, look with "iotedge list" whether edgeHub runs and publishes the port, and open it in the firewall.',
    command: 'nc -vz {host} {port}',
  },
  amqp_port_open: {
    severity: 'ok',
    cause: '{host}:{amqpPort} (AMQP) takes connections.',
    cure: 'Nothing needs to be done.',
    command: 'nc -vz {host} {amqpPort}',
  },
  amqp_port_closed: {
    severity: 'warning',
    cause: '{host}:{amqpPort} (AMQP) cannot be reached: {reason}; MQTT does not need it.',
    cure: 'Open the port in the firewall and in the createOptions of edgeHub, or stay with MQTT.',
    command: 'nc -vz {host} {amqpPort}',
  },
  amqp_not_served: {
    severity: 'info',
    cause: 'This gateway serves no AMQP: its document says so.',
    cure: 'Use MQTT; if AMQP is wanted, its port has to be recorded for the gateway.',
    command: 'grep -A 5 \'"ports"\' {state}/document.json',
  },
  websocket_port_open: {
    severity: 'ok',
    cause: '{host}:{websocketPort} (WebSockets) takes connections.',
    cure: 'Nothing needs to be done.',
    command: 'nc -vz {host} {websocketPort}',
  },
  websocket_port_closed: {
    severity: 'warning',
    cause: '{host}:{websocketPort} (WebSockets) cannot be reached: {reason}; plain MQTT does not need it.',
    cure: 'Open the port in the firewall and in the createOptions of edgeHub, or stay with plain MQTT.',
    command: 'nc -vz {host} {websocketPort}',
  },
  websocket_not_served: {
    severity: 'info',
    cause: 'This gateway serves no WebSockets: its document says so.',
    cure: 'Use MQTT; if WebSockets are wanted, their port has to be recorded for the gateway.',
    command: 'grep -A 5 \'"ports"\' {state}/document.json',
  },
});

const found = finder(portsCodes);

export const portsCheck: Check = {
  name: 'ports',
  title: 'TCP ports of the gateway',
  needs: ['dns'],
  ownOnly: false,
  async run(context) {
    const { mqtt, amqp, websocket } = context.ports;
    const dial = (port: number | null) => (port === null ? undefined : context.observe.dial(port));
    const [ofMqtt, ofAmqp, ofWebsocket] = await Promise.all([dial(mqtt), dial(amqp), dial(websocket)]);
    const first = await context.observe.dial(context.port);
    const moved = 'failed' in first ? await movedBy(context) : undefined;
    if (moved !== undefined) return { skippedFor: moved };
    return [
      ...mqttFindings(context, ofMqtt, first),
      amqpFinding(context, ofAmqp),
      websocketFinding(context, ofWebsocket),
    ];
  },
};

function mqttFindings(context: Context, ofMqtt: Dialled | undefined, first: Dialled): Finding[] {
  if (ofMqtt !== undefined) return [mqttFinding(context, ofMqtt)];
  const notServed = found('mqtt_not_served', context.common, {});
  if ('open' in first) return [notServed];
  return [found('first_port_closed', context.common, { reason: first.reason }), notServed];
}

function mqttFinding({ common }: Context, dialled: Dialled): Finding {
  if ('open' in dialled) return found('mqtt_port_open', common, { address: dialled.open });
  if (dialled.failed === 'refused') return found('mqtt_port_refused', common, {});
  if (dialled.failed === 'silent') return found('mqtt_port_silent', common, {});
  return found('mqtt_port_unreachable', common, { reason: dialled.reason });
}

function amqpFinding({ common, ports: { amqp: amqpPort } }: Context, dialled: Dialled | undefined): Finding {
  if (dialled === undefined || amqpPort === null) return found('amqp_not_served', common, {});
  if ('open' in dialled) return found('amqp_port_open', common, { amqpPort });
  return found('amqp_port_closed', common, { amqpPort, reason: dialled.reason });
}

function websocketFinding({ common, ports }: Context, dialled: Dialled | undefined): Finding {
  const { websocket: websocketPort } = ports;
  if (dialled === undefined || websocketPort === null) return found('websocket_not_served', common, {});
  if ('open' in dialled) return found('websocket_port_open', common, { websocketPort });
  return found('websocket_port_closed', common, { websocketPort, reason: dialled.reason });
}
