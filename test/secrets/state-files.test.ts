import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { expectStatus, startSite } from '../e2e/support.ts';
import { secretsIn } from './harvest.ts';
import { findLeaks, type Secret } from './search.ts';

const program = resolve(import.meta.dirname, '../../device/dist/gatepost-device.mjs');

/** Where a secret is meant to be: the doubles are the cloud that keeps it, the device keeps its own. */
const meant = ['cloud/hub.json', 'device/document.json'];

let folder: string;
let secrets: Secret[];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'gatepost-state-'));
  const { cloud, operator, gateway } = await startSite({
    directory: join(folder, 'cloud'),
    logFile: join(folder, 'api.log'),
  });
  try {
    const document = expectStatus(await operator('POST', '/devices/d-1/onboard', { gateway: gateway.id }), 201).body;
    const issued = expectStatus(await operator('POST', '/devices/d-1/connection-string', { credential: 'sas' }), 200);
    const { token } = expectStatus(await operator('POST', '/devices/d-1/join-token', {}), 201).body;
    const sha256 = document.trust.roots[0].sha256;
    const parameters = ['join', '--api', cloud.api, '--root-sha256', sha256, '--state', join(folder, 'device')];
    const env = { ...process.env, GATEPOST_JOIN_TOKEN: token };
    const [code] = await once(spawn(process.execPath, [program, ...parameters], { env }), 'close');
    expect(code).toBe(0);
    secrets = [document, issued.body, { token }, `Bearer ${cloud.operatorToken}`].flatMap((each) =>
      secretsIn(JSON.stringify(each)),
    );
  } finally {
    await cloud.close();
  }
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('of all files that a cloud and a device leave behind, only those that are meant to hold a secret', () => {
  expect(new Set(secrets.map(({ kind }) => kind))).toEqual(
    new Set(['device key', 'SAS token', 'join token', 'access token']),
  );
  const files = globSync('**/*', { cwd: folder }).filter((name) => statSync(join(folder, name)).isFile());
  expect(files).toEqual(expect.arrayContaining(['api.log', 'device/origin.json', 'device/roots.pem']));
  const written = files.map((name) => ({ name, text: readFileSync(join(folder, name), 'latin1') }));
  const holding = new Set(findLeaks(written, secrets).map(({ where }) => where));
  expect([...holding].sort()).toEqual(meant);
});

it.skipIf(process.platform === 'win32')('and nobody else may read those', () => {
  for (const name of meant) expect(statSync(join(folder, name)).mode & 0o077, name).toBe(0);
});
