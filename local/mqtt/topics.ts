import type { Identity } from './identity.ts';
import { decodePair } from './user-name.ts';

/** A topic that a device may publish to. */
export type DeviceTopic =
  | { kind: 'telemetry'; template: string; properties: Record<string, string> }
  | { kind: 'twin'; template: string; requestId: string }
  | { kind: 'reported'; template: string; requestId: string }
  | { kind: 'methodResponse'; template: string; requestId: string; status: number };

/** What a device may subscribe to. */
export type Subscribable = 'twinAnswers' | 'desired' | 'methods' | 'cloudToDevice' | 'inputs';

/** The path below which an identity's own topics lie: `devices/{id}` or `devices/{id}/modules/{moduleId}`. */
function ownPath(identity: Identity): string {
  const device = `devices/${identity.deviceId}`;
  return identity.moduleId === null ? device : `${device}/modules/${identity.moduleId}`;
}

/**
 * Reads a topic that `identity` publishes to; undefined where it is not one of the device protocol or belongs to
 * another identity. Source of the templates: learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub and
 * azure-iot-device-mqtt 1.16.
 */
export function parsePublishTopic(topic: string, identity: Identity): DeviceTopic | undefined {
  const events = `${ownPath(identity)}/messages/events`;
  if (topic === events || topic.startsWith(`${events}/`)) {
    const properties = decodeBag(topic.slice(events.length + 1));
    if (properties === undefined) return undefined;
    const template =
      identity.moduleId === null ? 'devices/{id}/messages/events' : 'devices/{id}/modules/{moduleId}/messages/events';
    return { kind: 'telemetry', template, properties };
  }
  const request = /^\$iothub\/(twin\/GET|twin\/PATCH\/properties\/reported|methods\/res\/(\d+))\/\?(.+)$/.exec(topic);
  const requestId = decodeBag(request?.[3] ?? '')?.$rid;
  if (request === null || !requestId) return undefined;
  if (request[1] === 'twin/GET') return { kind: 'twin', template: '$iothub/twin/GET', requestId };
  if (request[2] === undefined) {
    return { kind: 'reported', template: '$iothub/twin/PATCH/properties/reported', requestId };
  }
  return { kind: 'methodResponse', template: '$iothub/methods/res', requestId, status: Number(request[2]) };
}

/** Which of its own topics `identity` subscribes to with `filter`; undefined where it may not. */
export function parseFilter(filter: string, identity: Identity): Subscribable | undefined {
  if (filter === '$iothub/twin/res/#') return 'twinAnswers';
  if (filter === '$iothub/twin/PATCH/properties/desired/#') return 'desired';
  if (filter === '$iothub/methods/POST/#') return 'methods';
  if (identity.moduleId === null) {
    return filter === `${ownPath(identity)}/messages/devicebound/#` ? 'cloudToDevice' : undefined;
  }
  return filter === `${ownPath(identity)}/inputs/#` ? 'inputs' : undefined;
}

export function cloudToDeviceTopic(identity: Identity, id: string, properties: Record<string, string>): string {
  const path = `${ownPath(identity)}/messages/devicebound`;
  return `${path}/${encodeBag({ '$.mid': id, '$.to': `/${path}`, ...properties })}`;
}

/** A property bag as it stands in a topic: `name=value&...`, percent-encoded. */
function encodeBag(properties: Record<string, string>): string {
  return Object.entries(properties)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join('&');
}

/** undefined where an escape is broken. A leading `?` and a trailing `/` are allowed, as in edgeHub's templates. */
function decodeBag(bag: string): Record<string, string> | undefined {
  const text = bag.replace(/^\?/, '').replace(/\/$/, '');
  // Names come from the wire: without a prototype none of them is special.
  const properties: Record<string, string> = Object.create(null);
  if (text === '') return { ...properties };
  for (const part of text.split('&')) {
    const pair = decodePair(part);
    if (pair === undefined) return undefined;
    properties[pair[0]] = pair[1];
  }
  return { ...properties };
}
