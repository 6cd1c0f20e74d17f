import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goodRoot } from '../support/certificates.ts';
import { startTestCloud, type TestCloud } from '../support/cloud.ts';

const directory = mkdtempSync(join(tmpdir(), 'gatepost-identities-'));
const roots: string[] = [];
let withoutManager: TestCloud;

async function importBoth(test: TestCloud): Promise<void> {
  const [publicRoot, authority] = await Promise.all([goodRoot(), goodRoot()]);
  const { certificate: pem, privateKey: key } = authority;
  roots.push(publicRoot.certificate.trim(), pem.trim());
  expect(await test.outcome('POST', '/api/v1/roots', { json: { name: 'a', pem: publicRoot.certificate } })).toBe('201');
  expect(await test.outcome('POST', '/api/v1/roots', { json: { name: 'b', pem, key } })).toBe('201');
  expect(await test.outcome('DELETE', '/api/v1/roots/b')).toBe('204');
  expect(await test.outcome('POST', '/api/v1/roots', { json: { name: 'b', pem, key } })).toBe('201');
}

// The local vault knows for the app's own identity Key Vault Certificate User alone, for the second one the two officers.
beforeAll(async () => {
  const test = await startTestCloud({ directory });
  await importBoth(test).finally(() => test.close());
  withoutManager = await startTestCloud({ directory, apiEnv: { GATEPOST_TRUST_MANAGER_CLIENT_ID: '' } });
});
afterAll(async () => {
  await withoutManager?.close();
  rmSync(directory, { recursive: true, force: true });
});

describe('the identity that the app has for its own', () => {
  it('reads public roots and authorities out of the vault, which takes no more than Key Vault Certificate User', async () => {
    const { status, text } = await withoutManager.call('GET', '/api/v1/trust-bundle', { authorization: null });
    expect(status).toBe(200);
    for (const root of roots) expect(text).toContain(root);
  });

  it('cannot change what the vault holds: that takes the identity that manages trust', async () => {
    const { certificate: pem, privateKey: key } = await goodRoot();
    for (const json of [
      { name: 'c', pem },
      { name: 'c', pem, key },
    ]) {
      const refused = await withoutManager.call('POST', '/api/v1/roots', { json });
      expect(refused.json).toMatchObject({
        code: 'upstream_refused',
        detail: expect.stringMatching(/role assignments/),
      });
    }
  });
});

it('what devices are served does not need the identity that manages trust: it may be taken away', async () => {
  await withoutManager.close();
  const stranger = { GATEPOST_TRUST_MANAGER_CLIENT_ID: randomUUID() };
  const test = await startTestCloud({ directory, apiEnv: stranger });
  try {
    const { status, text } = await test.call('GET', '/api/v1/trust-bundle', { authorization: null });
    expect(status).toBe(200);
    for (const root of roots) expect(text).toContain(root);
    const { certificate: pem } = await goodRoot();
    const imported = await test.call('POST', '/api/v1/roots', { json: { name: 'd', pem } });
    expect([imported.status, imported.json.code]).toEqual([503, 'upstream_unavailable']);
  } finally {
    await test.close();
  }
});
