import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, expect, it } from 'vitest';

const demo = resolve(import.meta.dirname, '../../local/demo.ts');
const recorder = pathToFileURL(resolve(import.meta.dirname, '../secrets/recorder.ts')).href;
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

interface Run {
  child: ChildProcess;
  /** Where it may put temporary files. */
  folder: string;
  /** In the environment of every process that it starts. */
  mark: string;
  ended: Promise<{ code: number | null; output: string; seconds: number }>;
}

function startDemo(environment: Record<string, string> = {}): Run {
  const folder = mkdtempSync(join(tmpdir(), 'gatepost-demo-test-'));
  folders.push(folder);
  const mark = randomUUID();
  const env = { ...process.env, TMPDIR: folder, GATEPOST_DEMO_MARK: mark, ...environment };
  // In a run of the whole suite, what the demonstration hands out and writes is searched too.
  const flags = process.env.GATEPOST_EVIDENCE === undefined ? [] : ['--import', recorder];
  const started = performance.now();
  const child = spawn(process.execPath, [...flags, demo], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  const ended = new Promise<Awaited<Run['ended']>>((resolve) => {
    child.once('close', (code) => resolve({ code, output, seconds: (performance.now() - started) / 1000 }));
  });
  return { child, folder, mark, ended };
}

/** The processes that carry the mark in their environment. Linux only; elsewhere nothing is seen. */
function processesOf(mark: string): string[] {
  if (process.platform !== 'linux') return [];
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/environ`, 'latin1').includes(mark);
      } catch {
        return false;
      }
    });
}

it('goes from nothing to telemetry and a move in under a minute, twice at once, and leaves nothing behind', async () => {
  const runs = [startDemo(), startDemo()];
  for (const run of runs) {
    const { code, output, seconds } = await run.ended;
    expect(output).toContain('Done in');
    expect(code).toBe(0);
    expect(seconds).toBeLessThan(60);
    expect(readdirSync(run.folder)).toEqual([]);
    expect(processesOf(run.mark)).toEqual([]);
  }
}, 130_000);

it('tells what happens on the wire, in 80 columns, without colour and without a secret', async () => {
  const { output } = await startDemo().ended;
  for (const told of [
    /-> POST \/api\/v1\/roots/,
    /<- 201 Created, \d+ ms/,
    /~> IoT Hub: .*PUT \/devices\/\{id\}/,
    /-> POST \/api\/v1\/devices\/press-7\/onboard/,
    /TLS +TLSv1\.3/,
    /peer +CN=localhost/,
    /signed by +CN=/,
    /joined: press-7 behind gateway gateway-1/,
    /~> gateway: CONNECT \{id\}, PUBLISH devices\/\{id\}\/messages\/events \(3x\)/,
    /IoT Hub received \{"temperature":21\.4\} from press-7 by way of gateway-1/,
    /-> PUT \/api\/v1\/devices\/press-7 \{"gateway":"gateway-2"\}/,
    /IoT Hub received \{"temperature":22\.3\} from press-7 by way of gateway-2/,
  ]) {
    expect(output).toMatch(told);
  }
  expect(output.split('\n').filter((line) => line.length > 80)).toEqual([]);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence is what must not be there
  expect(output).not.toMatch(/\u001b/);
  // A key is 44 characters of base64; every longer run of such characters here is a fingerprint in hex.
  const runs = output.replaceAll(/[0-9a-f]{64}/g, '').match(/[\w+/]{40,}={0,2}/g);
  expect(runs).toBeNull();
}, 130_000);

it('is coloured on request', async () => {
  const { output } = await startDemo({ FORCE_COLOR: '1' }).ended;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence is what must be there
  expect(output).toMatch(/\u001b\[/);
}, 130_000);

it('stops at Ctrl-C in the middle, says so, and leaves nothing behind', async () => {
  const run = startDemo();
  await new Promise<void>((resolve) => {
    run.child.stdout?.on('data', (text: string) => text.includes('onboard') && resolve());
  });
  run.child.kill('SIGINT');
  const { code, output } = await run.ended;
  expect(output).toContain('Interrupted');
  expect(code).toBe(130);
  expect(readdirSync(run.folder)).toEqual([]);
  expect(processesOf(run.mark)).toEqual([]);
}, 130_000);

it('says in one clear line what went wrong, and exits with 1', async () => {
  const { code, output } = await startDemo({ TMPDIR: '/nowhere/at/all' }).ended;
  expect(code).toBe(1);
  expect(output).toMatch(/^The demonstration failed: [\s\S]*\/nowhere\/at\/all/m);
  expect(output).not.toMatch(/^\s+at /m);
}, 130_000);
