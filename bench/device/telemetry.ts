import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { LocalCloud } from '../../local/cloud.ts';
import { begin, gatepostDevice, outcome, residentMegabytes } from './program.ts';

export interface FirstTelemetry {
  /** Milliseconds from the start of the program until the hub has the message. */
  arrived: number;
  /** Megabytes held by the program when its connection has been idle for a while. */
  resident: number;
}

export interface Sender {
  parameters: string[];
  env: Record<string, string>;
  /** What it reads. */
  input: string;
  deviceId: string;
}

/** `run` of a device that has joined. */
export function ours(state: string, deviceId: string): Sender {
  return { parameters: [gatepostDevice, 'run', '--state', state], env: {}, input: '{"temperature":21.5}\n', deviceId };
}

/** Microsoft's way: everything by environment variables. */
export function plain(connectionString: string, rootFile: string, deviceId: string): Sender {
  return {
    parameters: [join(import.meta.dirname, 'plain-sample.cjs')],
    env: { IOTHUB_DEVICE_CONNECTION_STRING: connectionString, PATH_TO_EDGE_CA_CERT: rootFile },
    input: '',
    deviceId,
  };
}

/** @param idleMs how long the connection stands before its memory is measured. */
export async function timeTelemetry(cloud: LocalCloud, sender: Sender, idleMs: number): Promise<FirstTelemetry> {
  const count = () => cloud.hub.received().filter(({ deviceId }) => deviceId === sender.deviceId).length;
  const before = count();
  const begun = performance.now();
  const child = begin(sender.parameters, sender.env);
  const { failure } = outcome(child);
  let failed: string | undefined;
  void failure.then((words) => {
    failed = words ?? 'It ended by itself.';
  });
  try {
    child.stdin?.write(sender.input);
    while (count() === before) {
      if (failed !== undefined) throw new Error(failed);
      if (performance.now() - begun > 30_000) throw new Error(`No telemetry of ${sender.deviceId} arrived in 30 s.`);
      await delay(1);
    }
    const arrived = performance.now() - begun;
    await delay(idleMs);
    return { arrived, resident: residentMegabytes(child.pid ?? 0) };
  } finally {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'close');
    }
  }
}
