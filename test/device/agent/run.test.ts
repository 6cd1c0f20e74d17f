import { afterAll, beforeAll, expect, test } from 'vitest';
import { runAgent } from '../../../device/src/agent/run-agent.ts';
import type { IdentityService } from '../../../local/identity-service/identity-service.ts';
import { agentName, agentUid, Host } from '../../local/identity-service/support.ts';
import { faultOf, optionsOf, quick } from './support.ts';

let host: Host;

beforeAll(async () => {
  host = await Host.open();
});

afterAll(() => host?.close());

let count = 0;
const newId = () => `line-${++count}`;

/** Telemetry that a test writes line by line. */
class Lines {
  readonly #waiting: string[] = [];
  #wake: () => void = () => {};
  #ended = false;

  write(value: object): void {
    this.#waiting.push(`${JSON.stringify(value)}\n`);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string> {
    for (;;) {
      const next = this.#waiting.shift();
      if (next !== undefined) yield next;
      else if (this.#ended) return;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }
}

function begin(services: IdentityService, options: { waitMs?: number; uid?: number } = {}) {
  const input = new Lines();
  const log: string[] = [];
  const say = (line: string) => void log.push(line);
  const stopping = new AbortController();
  const agent = { ...optionsOf(host, services, options.uid), log: say };
  const running = runAgent(agent, {
    input,
    log: say,
    signal: stopping.signal,
    backoff: quick,
    flushMs: 10_000,
    waitMs: options.waitMs ?? 0,
  });
  running.catch(() => {});
  return { input, log, stopping, running };
}

function received(deviceId: string) {
  const messages = host.site.hub.received().filter((message) => message.deviceId === deviceId);
  return messages.map(({ moduleId, body }) => [moduleId, JSON.parse(Buffer.from(body, 'base64').toString())]);
}

test('lines become telemetry of the module, and the end of the input ends it', async () => {
  const deviceId = newId();
  const { input, running } = begin(await host.start(deviceId));
  input.write({ temperature: 21 });
  input.write({ temperature: 22 });
  input.end();
  expect(await running).toMatchObject({ delivered: 2, refused: 0 });
  expect(received(deviceId)).toEqual([
    [agentName, { temperature: 21 }],
    [agentName, { temperature: 22 }],
  ]);
});

test('after a lost connection all steps are taken again, and services that are away are waited for', async () => {
  const deviceId = newId();
  const services = await host.start(deviceId);
  const { input, log, running } = begin(services);
  input.write({ n: 1 });
  await expect.poll(() => received(deviceId).length).toBe(1);
  await services.stop('identityd');
  const asked = () => services.calls().filter((call) => call.path === '/identities/identity').length;
  const before = asked();
  // The gateway cuts off who leaves its scope.
  await host.site.change(deviceId, { deviceScope: '' });
  await host.gateway.refreshScope();
  await expect.poll(() => log.join('\n'), { timeout: 10_000 }).toContain('refuses connections');
  await host.site.change(deviceId, { deviceScope: await host.site.scopeOf(host.gateway) });
  await services.start('identityd');
  input.write({ n: 2 });
  input.end();
  expect(await running).toMatchObject({ delivered: 2 });
  expect(asked()).toBeGreaterThan(before);
  expect(received(deviceId).map(([, body]) => body)).toEqual([{ n: 1 }, { n: 2 }]);
});

test('a device that was provisioned anew goes on under its new name', async () => {
  const [old, next] = [newId(), newId()];
  const services = await host.start(old, {
    users: [agentUid, 51],
    principals: [
      { uid: agentUid, name: agentName, idtype: ['module'] },
      { uid: 51, name: 'aziot-edge' },
    ],
  });
  const { input, running } = begin(services);
  input.write({ n: 1 });
  await expect.poll(() => received(old).length).toBe(1);
  const { key } = await host.site.device(next, host.gateway);
  services.setProvisioning({
    source: 'manual',
    hub: host.site.hub.hostname,
    deviceId: next,
    gatewayHost: 'localhost',
    authentication: { method: 'sas', key },
  });
  const { HostServices } = await import('../../../device/src/agent/host-services.ts');
  await new HostServices({ sockets: services.sockets(51) }).reprovision();
  await host.site.change(old, { deviceScope: '' });
  await host.gateway.refreshScope();
  await expect.poll(() => host.gateway.connected(), { timeout: 10_000 }).toContain(`${next}/${agentName}`);
  input.write({ n: 2 });
  input.end();
  await running;
  expect(received(next).map(([, body]) => body)).toEqual([{ n: 2 }]);
});

test('the first connection is waited for as long as it was told, and no longer', async () => {
  const services = await host.start(newId());
  await services.stop('identityd');
  expect((await faultOf(begin(services).running)).code).toBe('identity_service_unreachable');
  const { input, log, running } = begin(services, { waitMs: 20_000 });
  await expect.poll(() => log.length).toBeGreaterThan(1);
  await services.start('identityd');
  input.write({ n: 1 });
  input.end();
  expect(await running).toMatchObject({ delivered: 1 });
});

test('who is no principal is refused at once', async () => {
  const services = await host.start(newId(), { users: [agentUid, 77] });
  expect((await faultOf(begin(services, { uid: 77 }).running)).code).toBe('identity_refused');
});
