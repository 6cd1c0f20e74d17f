import mqtt, { type IClientOptions, type MqttClient } from 'mqtt';
import { developmentCa, issue, type KeyedCertificate } from '../../../local/kit/certificates.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { type MqttHead, type MqttHeadOptions, startMqttHead } from '../../../local/mqtt/head.ts';
import type { DeviceBackend, DeviceSink, Identity } from '../../../local/mqtt/identity.ts';
import { parseUserName } from '../../../local/mqtt/user-name.ts';

/** A backend that remembers what reached it. */
export class Recorder implements DeviceBackend {
  readonly telemetrySeen: { from: Identity; properties: Record<string, string>; body: string }[] = [];
  readonly attached = new Map<string, DeviceSink>();
  readonly patches: object[] = [];
  readonly comings: string[] = [];
  desired: object = { colour: 'green', $version: 3 };
  refuse: Error | undefined;

  async telemetry(from: Identity, properties: Record<string, string>, body: Buffer): Promise<void> {
    if (this.refuse) throw this.refuse;
    this.telemetrySeen.push({ from, properties, body: body.toString() });
  }

  async twin(): Promise<{ desired: object; reported: object }> {
    if (this.refuse) throw this.refuse;
    return { desired: this.desired, reported: { $version: 1 } };
  }

  async patchReported(_of: Identity, patch: object): Promise<number> {
    if (this.refuse) throw this.refuse;
    this.patches.push(patch);
    return this.patches.length + 1;
  }

  attach(of: Identity, sink: DeviceSink): () => void {
    this.attached.set(of.deviceId, sink);
    this.comings.push(`${of.deviceId} comes`);
    return () => {
      this.comings.push(`${of.deviceId} goes`);
      if (this.attached.get(of.deviceId) === sink) this.attached.delete(of.deviceId);
    };
  }

  sink(deviceId: string): DeviceSink {
    const sink = this.attached.get(deviceId);
    if (sink === undefined) throw new Error(`${deviceId} is not attached`);
    return sink;
  }
}

export interface HeadUnderTest {
  head: MqttHead;
  backend: Recorder;
  faults: FaultSwitch;
  ca: KeyedCertificate;
  /** Connects as the device SDKs do; `options` override. Rejects where the head refuses. */
  connect(clientId: string, options?: IClientOptions): Promise<MqttClient>;
  stop(): Promise<void>;
}

/** A head that lets in everybody whose password is "right". */
export async function startHead(options: Partial<MqttHeadOptions> = {}): Promise<HeadUnderTest> {
  const backend = new Recorder();
  const faults = new FaultSwitch();
  const ca = await developmentCa(undefined);
  const server = await issue(ca, { commonName: 'localhost', names: ['localhost'] });
  const clients: MqttClient[] = [];
  const head = await startMqttHead({
    tls: { cert: server.chain, key: server.privateKey },
    devices: backend,
    faults,
    authenticate: async (connect) => {
      const user = parseUserName(connect.userName);
      if (user === undefined) return { refused: 4, reason: 'the user name does not read as one' };
      if (connect.password !== 'right') return { refused: 5, reason: 'the password is not right' };
      return { ok: { deviceId: user.deviceId, moduleId: user.moduleId } };
    },
    ...options,
  });
  const connect = async (clientId: string, more: IClientOptions = {}): Promise<MqttClient> => {
    const url = `mqtts://localhost:${head.port}`;
    const settings: IClientOptions = {
      clientId,
      username: `hub.example/${clientId}/?api-version=2021-04-12`,
      password: 'right',
      ca: ca.certificate,
      protocolVersion: 4,
      reconnectPeriod: 0,
      clean: true,
      ...more,
    };
    const client = mqtt.connect(url, settings);
    clients.push(client);
    await new Promise<void>((resolve, reject) => {
      client.once('connect', () => resolve());
      client.once('error', reject);
      client.once('close', () => reject(new Error('closed before CONNACK')));
    });
    client.on('error', () => {});
    return client;
  };
  const stop = async (): Promise<void> => {
    for (const client of clients) client.end(true);
    await head.close();
  };
  return { head, backend, faults, ca, connect, stop };
}

/** The next message whose topic starts with `prefix`. */
export function nextMessage(client: MqttClient, prefix: string): Promise<{ topic: string; body: string }> {
  return new Promise((resolve) => {
    const listen = (topic: string, payload: Buffer): void => {
      if (!topic.startsWith(prefix)) return;
      client.off('message', listen);
      resolve({ topic, body: payload.toString() });
    };
    client.on('message', listen);
  });
}

export async function closed(client: MqttClient): Promise<void> {
  if (!client.connected) return;
  await new Promise<void>((resolve) => client.once('close', () => resolve()));
}
