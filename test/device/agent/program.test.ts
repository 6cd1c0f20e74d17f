import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseConnectionString } from '../../../device/src/connection-string.ts';
import type { IdentityService } from '../../../local/identity-service/identity-service.ts';
import { agentName, agentUid, Host } from '../../local/identity-service/support.ts';
import { begin, execute } from '../program.ts';
import { caFile } from './support.ts';

// The command line as npm installs it.
let host: Host;
let services: IdentityService;

beforeAll(async () => {
  host = await Host.open();
  services = await host.start('press-1', { users: [agentUid, 77] });
});

afterAll(() => host?.close());

const agent = (command: string, ...more: string[]) =>
  execute(['agent', command, '--sockets', services.sockets(agentUid), ...more]);

test('agent identity prints who it is, and no key handle', async () => {
  const { code, stdout, stderr } = await agent('identity');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(JSON.parse(stdout)).toEqual({
    hub: 'gatepost.azure-devices.net',
    gateway: 'localhost',
    deviceId: 'press-1',
    moduleId: agentName,
    generationId: expect.any(String),
    auth: 'sas',
  });
});

test('agent connection-string prints one line that the SDKs read', async () => {
  const { code, stdout } = await agent('connection-string', '--expiry', '600');
  expect(code).toBe(0);
  const parsed = parseConnectionString(stdout.trimEnd());
  if (parsed.credential.kind !== 'sas') throw new Error('It has no token.');
  const seconds = parsed.credential.expiresAt.getTime() / 1000 - Date.now() / 1000;
  expect(seconds).toBeGreaterThan(580);
  expect(seconds).toBeLessThanOrEqual(600);
});

test('agent run sends what it reads as telemetry of the module', async () => {
  const port = String(host.gateway.ports.mqtt);
  const { code, stderr, stdout } = await execute(
    ['agent', 'run', '--sockets', services.sockets(agentUid), '--ca', caFile(host), '--port', port],
    { input: '{"n":1}\nnot json\n{"n":2}\n' },
  );
  expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
  expect(stderr).toContain('2 messages delivered, 1 bad line skipped');
  expect(stderr).not.toContain('SharedAccessSignature');
  const messages = host.site.hub.received().filter(({ deviceId }) => deviceId === 'press-1');
  expect(messages.map(({ moduleId, gatewayId }) => [moduleId, gatewayId])).toEqual([
    [agentName, 'gateway-1'],
    [agentName, 'gateway-1'],
  ]);
});

test('SIGTERM ends agent run cleanly although its input stays open', async () => {
  const port = String(host.gateway.ports.mqtt);
  const { child, output, ended } = begin([
    'agent',
    'run',
    '--sockets',
    services.sockets(agentUid),
    '--ca',
    caFile(host),
    '--port',
    port,
  ]);
  await expect.poll(() => output.stderr, { timeout: 10_000 }).toContain('connected to');
  child.kill('SIGTERM');
  expect(await ended).toMatchObject({ code: 0, stderr: expect.stringContaining('stopped: 0 messages delivered') });
});

test('each kind of fault has its exit code and one line', async () => {
  const refused = await execute(['agent', 'identity', '--sockets', services.sockets(77)]);
  expect(refused).toMatchObject({ code: 16, stdout: '' });
  expect(refused.stderr).toMatch(/^gatepost-device: .*\[identity_refused\]\n$/);
  const missing = await execute(['agent', 'run', '--sockets', '/nonexistent']);
  expect(missing).toMatchObject({ code: 15, stderr: expect.stringContaining('[identity_service_missing]') });
  services.misbehave({ service: 'identityd', fault: 'internal', times: 1 });
  expect(await agent('identity')).toMatchObject({
    code: 17,
    stderr: expect.stringContaining('[identity_service_failed]'),
  });
  expect(await agent('reprovision')).toMatchObject({ code: 16 });
  expect(await agent('connection-string', '--expiry', 'soon')).toMatchObject({ code: 2 });
  expect(await agent('dance')).toMatchObject({ code: 2 });
  expect(await agent('identity', '--dance')).toMatchObject({ code: 2 });
  expect(await execute(['agent', 'install', '--user', 'x'])).toMatchObject({ code: 2 });
});

test('root has the device provisioned anew', async () => {
  const { code, stdout } = await execute(['agent', 'reprovision', '--sockets', services.sockets(0)]);
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: 'the device was provisioned anew, and its modules were reconciled with the hub\n',
  });
});

test('help teaches every command', async () => {
  const { code, stdout } = await execute(['agent', '--help']);
  expect(code).toBe(0);
  for (const word of ['install', 'identity', 'connection-string', 'run', 'reprovision', '--sockets', '--dry-run']) {
    expect(stdout).toContain(word);
  }
  expect((await execute(['agent', 'run', '--help'])).stdout).toBe(stdout);
});
