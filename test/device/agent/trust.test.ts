import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { agentRoots } from '../../../device/src/agent/trust.ts';
import { readCertificates } from '../../../device/src/certificates.ts';
import { selfSigned } from '../../../local/kit/certificates.ts';
import { faultOf } from './support.ts';

async function pemFile(): Promise<{ path: string; pem: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'gatepost-trust-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const { certificate: pem } = await selfSigned({ commonName: 'Root' });
  const path = join(folder, 'roots.pem');
  writeFileSync(path, pem);
  return { path, pem };
}

test('a named file is what is trusted, and nothing else', async () => {
  const { path, pem } = await pemFile();
  expect(await agentRoots({ ca: path, environment: { SSL_CERT_FILE: '/nonexistent' } })).toBe(pem);
});

test('without one it is what OpenSSL takes by default, as identityd does', async () => {
  const { path, pem } = await pemFile();
  expect(await agentRoots({ environment: { SSL_CERT_FILE: path } })).toBe(pem);
  expect(readCertificates(await agentRoots({ environment: {} })).length).toBeGreaterThan(10);
});

test('a file that is not there, or holds no certificate, is said at once', async () => {
  expect(await faultOf(agentRoots({ ca: '/nonexistent/roots.pem' }))).toMatchObject({ code: 'usage' });
  const { path } = await pemFile();
  writeFileSync(path, 'nothing');
  expect((await faultOf(agentRoots({ ca: path }))).message).toContain('no PEM certificate');
});
