import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client, ModuleClient } from 'azure-iot-device';
import { onTestFinished } from 'vitest';
import { type AgentSessionOptions, connectAgent } from '../../../device/src/agent/connect-agent.ts';
import { GatepostDeviceError } from '../../../device/src/errors.ts';
import type { IdentityService } from '../../../local/identity-service/identity-service.ts';
import { agentUid, type Host } from '../../local/identity-service/support.ts';

/** Backoff that a test can wait for. */
export const quick = { firstMs: 10, ceilingMs: 50, random: () => 0.5 };

/** Writes the roots that this host trusts, as a file. */
export function caFile(host: Host): string {
  const folder = mkdtempSync(join(tmpdir(), 'gatepost-agent-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const path = join(folder, 'roots.pem');
  writeFileSync(path, host.ca);
  return path;
}

/** How the agent of a host behind its gateway is called. */
export function optionsOf(host: Host, services: IdentityService, uid = agentUid): AgentSessionOptions {
  const port = host.gateway.ports.mqtt;
  return { sockets: services.sockets(uid), ca: caFile(host), port, backoff: quick, sdkRetries: false };
}

export async function open<C extends Client | ModuleClient = ModuleClient>(options: AgentSessionOptions): Promise<C> {
  const client = await connectAgent<C>(options);
  onTestFinished(() =>
    client.close().then(
      () => {},
      () => {},
    ),
  );
  return client;
}

/** The code and message of a fault that was expected. */
export async function faultOf(promise: Promise<unknown>): Promise<{ code: string; message: string }> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof GatepostDeviceError) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error('It did not fail.');
}
