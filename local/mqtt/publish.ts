import { setTimeout as sleep } from 'node:timers/promises';
import type { Client, PublishPacket } from 'aedes';
import type { Fault, FaultSwitch, FaultTarget } from '../kit/faults.ts';
import { type DeviceBackend, DeviceError } from './identity.ts';
import type { Session } from './session.ts';
import { type DeviceTopic, parsePublishTopic } from './topics.ts';

/** The largest message of IoT Hub and of edgeHub (MaxInboundMessageSize). */
export const maxMessageBytes = 262_144;

interface Publish {
  client: Client;
  session: Session;
  packet: PublishPacket;
  devices: DeviceBackend;
  faults?: FaultSwitch;
  faultTarget?: FaultTarget;
}

/** What becomes of a PUBLISH: `nothing` leaves the connection up and the message without an acknowledgement. */
export type PublishAnswer = 'acknowledge' | 'disconnect' | 'nothing';

/** Does what a published message asks for. Rejects, as `disconnect`, where the backend fails. */
export async function handlePublish(publish: Publish): Promise<PublishAnswer> {
  const { client, session, packet, faults, faultTarget = 'hub' } = publish;
  // The broker publishes a will once the connection is gone, and nothing else then.
  const isWill = client.closed;
  const topic = parsePublishTopic(packet.topic, session.identity);
  const fault = faults?.strike(faultTarget, 'PUBLISH', packet.topic);
  faults?.count(faultTarget, 'PUBLISH', topic?.template ?? '(unknown)');
  if (fault !== undefined) {
    const answer = await misbehave(fault);
    if (answer !== undefined) return answer;
  }
  const body = Buffer.from(packet.payload);
  // The hub closes the connection of a client that publishes with QoS 2 (learn.microsoft.com, iot-mqtt-connect-to-iot-hub).
  if (topic === undefined || packet.qos === 2 || body.length > maxMessageBytes) return 'disconnect';
  await act(publish, topic, body, isWill);
  return fault !== undefined && 'cut' in fault ? 'disconnect' : 'acknowledge';
}

async function misbehave(fault: Fault): Promise<PublishAnswer | undefined> {
  if ('hang' in fault) return 'nothing';
  if ('status' in fault || ('cut' in fault && fault.cut === 'before')) return 'disconnect';
  if ('delayMs' in fault) await sleep(fault.delayMs);
  return undefined;
}

async function act(publish: Publish, topic: DeviceTopic, body: Buffer, isWill: boolean): Promise<void> {
  const { session, packet, devices } = publish;
  switch (topic.kind) {
    case 'telemetry': {
      const properties = { ...topic.properties };
      // Both as the hub marks them; it keeps no retained messages.
      if (packet.retain) properties['mqtt-retain'] = 'true';
      if (isWill) properties['iothub-MessageType'] = 'Will';
      packet.retain = false;
      await session.inOrder(() => devices.telemetry(session.identity, properties, body));
      return;
    }
    case 'twin':
      await answerTwin(session, topic.requestId, async () => {
        return { status: 200, query: '', body: JSON.stringify(await devices.twin(session.identity)) };
      });
      return;
    case 'reported':
      await answerTwin(session, topic.requestId, async () => {
        const version = await devices.patchReported(session.identity, parsePatch(body));
        return { status: 204, query: `&$version=${version}`, body: '' };
      });
      return;
    case 'methodResponse':
      session.methodResponse(topic.requestId, topic.status, body);
  }
}

interface TwinAnswer {
  status: number;
  query: string;
  body: string;
}

async function answerTwin(session: Session, requestId: string, work: () => Promise<TwinAnswer>): Promise<void> {
  let answer: TwinAnswer;
  try {
    answer = await work();
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    // azure-iot-device looks only at the body: an error is what has an errorCode (mqtt_twin_client.js).
    const body = { errorCode: error.errorCode, trackingId: '', message: error.message, timestampUtc: new Date() };
    answer = { status: error.status, query: '', body: JSON.stringify(body) };
  }
  const topic = `$iothub/twin/res/${answer.status}/?$rid=${encodeURIComponent(requestId)}${answer.query}`;
  session.send('twinAnswers', topic, answer.body);
}

function parsePatch(body: Buffer): object {
  let patch: unknown;
  try {
    patch = JSON.parse(body.toString('utf8'));
  } catch {
    throw new DeviceError(400, 400004, 'The reported properties are not JSON.');
  }
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) {
    throw new DeviceError(400, 400004, 'The reported properties are not an object.');
  }
  return patch;
}
