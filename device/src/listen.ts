import type { Client, DeviceMethodRequest, DeviceMethodResponse, Message } from 'azure-iot-device';
import { reasonOf } from './errors.ts';
import { runHandler } from './method-handler.ts';
import type { Session } from './session.ts';

export interface ListenerOptions {
  /** Writes one line of JSON. */
  print(line: string): void;
  log(line: string): void;
  /** A program that answers methods; without one, each is answered with 501. */
  command?: string | undefined;
  /** How long it may take. Default 30 000, which is what callers wait by default. */
  timeoutMs?: number | undefined;
}

/** Method names that one session remembers: whoever calls methods chooses them. */
const mostNames = 256;
const mostAtOnce = 4;

/** Hands what comes down from the cloud to standard output, one JSON object a line, and answers methods. */
export class Listener {
  readonly #options: ListenerOptions;
  #atOnce = 0;

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  /** Listens on this session. */
  attach(session: Session): void {
    const { client } = session;
    // A module gets no cloud-to-device messages: IoT Hub has them for devices only.
    if ('onDeviceMethod' in client) client.on('message', (message: Message) => this.#message(client, message));
    this.#methods(session);
  }

  #message(client: Client, message: Message): void {
    const { messageId, correlationId, contentType, properties } = message;
    const list = properties.propertyList as { key: string; value: string }[];
    this.#options.print(
      JSON.stringify({
        kind: 'message',
        ...(messageId ? { id: String(messageId) } : {}),
        ...(correlationId ? { correlationId: String(correlationId) } : {}),
        ...(contentType ? { contentType } : {}),
        properties: Object.fromEntries(list.map(({ key, value }) => [key, value])),
        ...bodyOf(message.getData() as unknown),
      }),
    );
    // Over MQTT it is acknowledged already; AMQP waits for this, and the hub for AMQP.
    client.complete(message, (error?: Error) => {
      if (error) this.#options.log(`a message from the cloud could not be acknowledged: ${reasonOf(error)}`);
    });
  }

  #methods(session: Session): void {
    let names = 0;
    session
      .onAnyMethod((name) => {
        names += 1;
        if (names > mostNames) return;
        const answer = (request?: DeviceMethodRequest, response?: DeviceMethodResponse) => {
          if (request && response) void this.#method(request, response);
        };
        if ('onDeviceMethod' in session.client) session.client.onDeviceMethod(name, answer);
        else session.client.onMethod(name, answer);
      })
      .catch((error: unknown) => this.#options.log(`methods cannot be received: ${reasonOf(error)}`));
  }

  async #method(request: DeviceMethodRequest, response: DeviceMethodResponse): Promise<void> {
    const { print, log } = this.#options;
    const payload = request.payload as unknown;
    print(JSON.stringify({ kind: 'method', name: request.methodName, requestId: request.requestId, payload }));
    const answer = await this.#answer(request.methodName, payload);
    try {
      await response.send(answer.status, answer.payload);
    } catch (error) {
      log(`the answer to the method ${request.methodName} could not be sent: ${reasonOf(error)}`);
    }
  }

  async #answer(name: string, payload: unknown): Promise<{ status: number; payload: unknown }> {
    const { command, timeoutMs = 30_000, log } = this.#options;
    if (command === undefined) return { status: 501, payload: { error: 'This device answers no methods.' } };
    if (this.#atOnce >= mostAtOnce) return { status: 429, payload: { error: 'Too many methods at once.' } };
    this.#atOnce += 1;
    try {
      return await runHandler({ command, name, payload, timeoutMs, log });
    } finally {
      this.#atOnce -= 1;
    }
  }
}

/** JSON as JSON, text as text, and everything else as base64. */
function bodyOf(data: unknown): { body: unknown } | { base64: string } {
  const bytes = Buffer.isBuffer(data) ? data : Buffer.from(String(data ?? ''));
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return { base64: bytes.toString('base64') };
  }
  try {
    return { body: JSON.parse(text) };
  } catch {
    return { body: text };
  }
}
