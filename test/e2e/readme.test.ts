import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const recorder = pathToFileURL(join(root, 'test/secrets/recorder.ts')).href;

describe('the README', () => {
  it('begins with exactly two commands', () => {
    const commands = readme.slice(0, readme.indexOf('## Try it')).matchAll(/```\n(.*)\n```/g);
    expect([...commands].map(([, command]) => command)).toEqual(['npm ci && npm run demo', 'npm ci && npm test']);
  });

  it('names no file that is not there', () => {
    const links = [...readme.matchAll(/\]\(([^)#:]+)\)/g)].map(([, path]) => path ?? '');
    expect(links).not.toEqual([]);
    expect(links.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  it('names no script that package.json does not have', () => {
    const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    const named = [...readme.matchAll(/(?:^|`|&& | {3})npm (?:run )?([a-z]+)/gm)].map(([, name]) => name ?? '');
    expect(named.filter((name) => name !== 'ci' && name !== 'run' && scripts[name] === undefined)).toEqual([]);
  });
});

it('the settings page lists every app setting that the backend reads, and no other', () => {
  const names = (text: string, pattern: RegExp) => new Set([...text.matchAll(pattern)].map(([, name]) => name));
  const read = names(
    readFileSync(join(root, 'lib/config.ts'), 'utf8'),
    /^ {2}((?:GATEPOST_|AZURE_|OTEL_|AzureWebJobs)\w+):/gm,
  );
  const listed = names(readFileSync(join(root, 'docs/settings.md'), 'utf8'), /^\| `(\w+)` \|/gm);
  expect(read.size).toBeGreaterThan(5);
  expect(listed).toEqual(read);
});

const hasTools = ['bash', 'curl'].every((tool) => spawnSync(tool, ['--version']).status === 0);

describe.skipIf(!hasTools)('against npm start (skipped where this machine has no bash or curl)', () => {
  let folder: string;
  let cloud: ChildProcess;
  let said = '';

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'gatepost-readme-'));
    // Pasted in the repository's folder; here the state shall not land in that of whoever runs the tests.
    symlinkSync(join(root, 'device'), join(folder, 'device'));
    const flags = process.env.GATEPOST_EVIDENCE === undefined ? [] : ['--import', recorder];
    cloud = spawn(process.execPath, [...flags, join(root, 'local/start.ts'), '--port', '0'], { cwd: folder });
    for (const stream of [cloud.stdout, cloud.stderr]) stream?.setEncoding('utf8').on('data', (text) => (said += text));
    while (!existsSync(join(folder, '.gatepost/local.json'))) {
      if (cloud.exitCode !== null) throw new Error(`npm start ended with ${cloud.exitCode}: ${said}`);
      await sleep(100);
    }
  }, 60_000);

  afterAll(async () => {
    if (cloud.exitCode === null) {
      const ended = new Promise((resolve) => cloud.once('close', resolve));
      cloud.kill('SIGINT');
      await ended;
    }
    rmSync(folder, { recursive: true, force: true });
  }, 30_000);

  it('every example works as it stands, in the order of the page', async () => {
    const blocks = [...readme.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => block ?? '');
    expect(blocks.length).toBeGreaterThan(6);
    const script = blocks.map((block, n) => `printf '== ${n}\\n'\n${block}`).join('\n');
    const { code, output } = await bash(script);
    const parts = output.split(/^== \d+$/m).slice(1);
    expect(code, output).toBe(0);
    const [, imported, registered, onboarded, joined, telemetry, problem, healed] = parts;
    expect(imported).toMatch(/"name":"plant-1"[\s\S]*-----BEGIN CERTIFICATE-----/);
    expect(registered).toContain('"deviceScope":"ms-azure-iot-edge://gateway-1-');
    expect(onboarded).toMatch(/"connectionString":"HostName=[^"]*;GatewayHostName=localhost/);
    expect(joined).toMatch(/joined: press-7 behind gateway gateway-1[\s\S]*1 message delivered/);
    expect(telemetry).toMatch(/"deviceId":"press-7".*"gatewayId":"gateway-1"/);
    expect(problem).toContain('"code":"gateway_not_found"');
    expect(healed).toContain('"id":"press-7"');
  }, 60_000);

  it('its table of the API is what the API says of itself', async () => {
    const { api } = JSON.parse(readFileSync(join(folder, '.gatepost/local.json'), 'utf8'));
    const { paths } = (await (await fetch(`${api}/api/v1/openapi.json`)).json()) as { paths: Record<string, object> };
    const methods = ['get', 'head', 'put', 'post', 'delete'];
    const described = Object.entries(paths).flatMap(([path, item]) =>
      Object.keys(item)
        .filter((method) => methods.includes(method))
        .map((method) => `${method.toUpperCase()} ${path.replace(/^\/?api\/v1/, '')}`),
    );
    const listed = [...readme.matchAll(/^\| `([A-Z,]+) (\/\S*)` \|/gm)].flatMap(([, verbs = '', path]) =>
      verbs.split(',').map((verb) => `${verb} ${path}`),
    );
    expect(listed.sort()).toEqual(described.sort());
  });

  function bash(script: string): Promise<{ code: number | null; output: string }> {
    const child = spawn('bash', ['-euo', 'pipefail'], { cwd: folder });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => (output += text));
    child.stdin.end(script);
    return new Promise((resolve) => child.once('close', (code) => resolve({ code, output })));
  }
});
