import rhea, { type Message } from 'rhea';
import type { CloudToDeviceMessage } from '../mqtt/identity.ts';
import { AmqpError, notAllowed } from './errors.ts';

/** The largest message, properties included (Azure/iotedge, edge-hub Core Constants.cs, MaxMessageSize). */
const maxMessageBytes = 262_144;
/** What is larger is not even looked at (EventsLinkHandler.cs, MaxBatchedMessageSize). */
const maxTransferBytes = 614_400;
/** What the answer to an ATTACH announces, and what ends the link (Constants.cs, AmqpMaxMessageSize). */
export const maxLinkBytes = 1_048_576;

/** Several messages in one transfer, one to a data section (AmqpConstants.AmqpBatchedMessageFormat). */
const batchFormat = 0x80013700;

export interface Telemetry {
  properties: Record<string, string>;
  body: Buffer;
}

/**
 * The messages of one transfer on a telemetry link.
 *
 * @param message what rhea read; a Buffer where the message format is not 0.
 * @throws AmqpError where one of them is too large or is not made of data sections.
 */
export function readTelemetry(message: Message | Buffer, format: number | undefined): Telemetry[] {
  const outer = decode(message);
  if (sizeOf(outer) > maxTransferBytes) throw notAllowed('"Invalid action performed"');
  const messages = format === batchFormat ? dataSections(outer).map((section) => decode(section)) : [outer];
  return messages.map((one) => {
    const telemetry = { properties: readProperties(one), body: bodyOf(one) };
    const size = sizeOf(one);
    if (size > maxMessageBytes) {
      const text = `Message size is ${size} bytes which is greater than the max size ${maxMessageBytes} bytes allowed`;
      throw new AmqpError('amqp:link:message-size-exceeded', JSON.stringify(text));
    }
    return telemetry;
  });
}

function decode(message: Message | Buffer): Message {
  return Buffer.isBuffer(message) ? (rhea.message.decode(message) as unknown as Message) : message;
}

/** As AmqpMessageUtils.cs counts, in characters where it does. */
export function sizeOf(message: Message): number {
  const texts = Object.values(systemProperties(message));
  const properties = Object.entries(message.application_properties ?? {}).flat();
  const lengths = [...texts, ...properties].map((text) => String(text ?? '').length);
  const body = Array.isArray(message.body?.content) ? dataSections(message) : [message.body?.content];
  const bytes = body.map((part: unknown) => (Buffer.isBuffer(part) ? part.length : 0));
  return [...lengths, ...bytes].reduce((sum, length) => sum + length, 0);
}

/** What the message carries in its data sections; a body of another kind edgeHub trips over. */
export function bodyOf(message: Message): Buffer {
  return Buffer.concat(dataSections(message));
}

const dataSection = 0x75;

function dataSections(message: Message): Buffer[] {
  const { body } = message as { body?: { typecode?: number; content?: Buffer | Buffer[] } };
  if (body?.typecode !== dataSection || body.content === undefined) {
    throw new AmqpError('amqp:internal-error', '"Encountered server error"');
  }
  return [body.content].flat();
}

/**
 * Properties under the names that they have over MQTT, which the device side of hub and gateway uses: `$.mid` and so on
 * (Azure/iotedge, AmqpMessageConverter.cs and SystemProperties.cs). edgeHub drops what is not a text.
 */
function readProperties(message: Message): Record<string, string> {
  // Names come from the wire: without a prototype none of them is special.
  const properties: Record<string, string> = Object.create(null);
  Object.assign(properties, systemProperties(message));
  const annotations = message.message_annotations ?? {};
  if (annotations['iothub-interface-id']) properties['$.ifid'] = String(annotations['iothub-interface-id']);
  if (annotations['dt-subject']) properties['$.sub'] = String(annotations['dt-subject']);
  for (const [name, value] of Object.entries(message.application_properties ?? {})) {
    properties[wireNames.get(name) ?? name] = typeof value === 'string' ? value : '';
  }
  return { ...properties };
}

const wireNames = new Map([
  ['iothub-message-schema', '$.schema'],
  ['iothub-creation-time-utc', '$.ctime'],
  ['iothub-outputname', '$.on'],
]);

function systemProperties(message: Message): Record<string, string> {
  const { to, content_type: contentType, content_encoding: contentEncoding } = message;
  const expiry = message.absolute_expiry_time;
  const values = {
    '$.mid': textOf(message.message_id),
    '$.cid': textOf(message.correlation_id),
    '$.ct': contentType,
    '$.ce': contentEncoding,
    '$.to': to,
    '$.uid': message.user_id === undefined ? undefined : String(message.user_id),
    '$.exp': expiry === undefined ? undefined : new Date(expiry).toISOString(),
  };
  return Object.fromEntries(Object.entries(values).filter((entry): entry is [string, string] => Boolean(entry[1])));
}

/** A message id is a text, a number, or 16 bytes of a UUID. */
export function textOf(id: unknown): string {
  if (Buffer.isBuffer(id) && id.length === 16) return rhea.uuid_to_string(id);
  return id === undefined || id === null ? '' : String(id);
}

/** A cloud-to-device message, and how often it was tried before. `lockToken` is a UUID. */
export function cloudToDeviceMessage(
  message: CloudToDeviceMessage,
  to: string,
  delivery: { lockToken: string; count: number },
): Message {
  const { '$.cid': correlationId, '$.ct': contentType, '$.ce': contentEncoding, ...others } = message.properties;
  const { '$.exp': expiry, '$.uid': userId, '$.mid': _mid, '$.to': _to, ...properties } = others;
  return {
    message_id: message.id,
    to,
    ...(correlationId && { correlation_id: correlationId }),
    ...(contentType && { content_type: contentType }),
    ...(contentEncoding && { content_encoding: contentEncoding }),
    ...(userId && { user_id: userId }),
    ...(expiry && { absolute_expiry_time: new Date(expiry) }),
    message_annotations: {
      'iothub-deliverycount': rhea.types.wrap_ubyte(delivery.count),
      'x-opt-lock-token': delivery.lockToken,
    },
    application_properties: properties,
    body: rhea.message.data_section(message.body),
  };
}
