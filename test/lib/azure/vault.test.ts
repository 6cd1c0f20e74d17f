import { X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { probeVault, vaultRootStore } from '../../../lib/azure/vault.ts';
import { Redacted } from '../../../lib/redacted.ts';
import type { RootKind, RootStore } from '../../../lib/trust/root-store.ts';
import { goodRoot, pfxOf, rsaRoot } from '../../support/certificates.ts';
import { type Doubles, startDoubles } from '../../support/doubles.ts';

let doubles: Doubles;
let store: RootStore;
let count = 0;

beforeAll(async () => {
  doubles = await startDoubles();
  store = vaultRootStore(doubles);
});
afterEach(() => doubles.faults.clear());
afterAll(() => doubles.close());

function newName(): string {
  count += 1;
  return `root-test-${count}`;
}

const tagsOf = (name: string) => ({
  name,
  sha256: `sha-of-${name}`,
  notAfter: '2036-01-01T00:00:00.000Z',
  state: 'active',
});

const der = (pem: string | undefined) => new X509Certificate(pem ?? '').raw.toString('base64');

async function newMaterials() {
  const [root, rsa] = [await goodRoot(), await rsaRoot(2048, 'SHA-256')];
  const pemAuthority = { format: 'pem', content: new Redacted(`${root.certificate}${root.privateKey}`) } as const;
  const password = new Redacted('pass');
  const pfxAuthority = { format: 'pfx', content: new Redacted(pfxOf(rsa, 'pass')), password } as const;
  return {
    'a public root': { kind: 'public' as RootKind, pem: root.certificate, authority: undefined },
    'a CA in PEM': { kind: 'authority' as RootKind, pem: root.certificate, authority: pemAuthority },
    'a CA in PFX': { kind: 'authority' as RootKind, pem: rsa.certificate, authority: pfxAuthority },
  };
}

describe.each(['a public root', 'a CA in PEM', 'a CA in PFX'] as const)('%s in Key Vault', (what) => {
  it('is read back as it was written', async () => {
    const { [what]: material } = await newMaterials();
    const objectName = newName();
    const version = await store.put(objectName, material, tagsOf(objectName));
    expect(der(await store.read({ kind: material.kind, objectName, version }))).toBe(der(material.pem));
  });

  it('is written once, however often it is put', async () => {
    const { [what]: material } = await newMaterials();
    const objectName = newName();
    const version = await store.put(objectName, material, tagsOf(objectName));
    doubles.faults.resetCalls();
    expect(await store.put(objectName, material, tagsOf(objectName))).toBe(version);
    expect(Object.keys(doubles.faults.calls().vault).filter((call) => !call.startsWith('GET'))).toEqual([]);
  });

  it('comes back from the bin when it is put again, and is deleted twice without harm', async () => {
    const { [what]: material } = await newMaterials();
    const { kind } = material;
    const objectName = newName();
    const version = await store.put(objectName, material, tagsOf(objectName));
    await store.remove({ kind, objectName });
    await store.remove({ kind, objectName });
    expect(await store.read({ kind, objectName, version })).toBeUndefined();
    const again = await store.put(objectName, material, tagsOf(objectName));
    expect(der(await store.read({ kind, objectName, version: again }))).toBe(der(material.pem));
  });

  it('is written all the same where the connection is cut after the work was done', async () => {
    const { [what]: material } = await newMaterials();
    const objectName = newName();
    const method = material.kind === 'public' ? 'PUT' : 'POST';
    doubles.faults.add({ target: 'vault', match: { method }, fault: { cut: 'after' }, times: 1 });
    const version = await store.put(objectName, material, tagsOf(objectName));
    expect(der(await store.read({ kind: material.kind, objectName, version }))).toBe(der(material.pem));
  });
});

describe('a CA in Key Vault', () => {
  it('does not give its key away', async () => {
    const { 'a CA in PEM': material } = await newMaterials();
    const objectName = newName();
    await store.put(objectName, material, tagsOf(objectName));
    const { SecretClient } = await import('@azure/keyvault-secrets');
    const { CertificateClient } = await import('@azure/keyvault-certificates');
    const options = { agent: doubles.agent } as object;
    const policy = await new CertificateClient(doubles.vault.url, doubles.credential, options).getCertificatePolicy(
      objectName,
    );
    expect(policy.exportable).toBe(false);
    const secret = await new SecretClient(doubles.vault.url, doubles.credential, options).getSecret(objectName);
    expect(secret.value).not.toContain('PRIVATE KEY');
  });
});

describe('Key Vault that fails', () => {
  const read = () => store.read({ kind: 'public', objectName: 'root-none', version: '0'.repeat(32) });

  it('twice is asked a third time', async () => {
    doubles.faults.add({ target: 'vault', fault: { status: 503 }, times: 2 });
    expect(await read()).toBeUndefined();
  });

  it('for longer is a clear 503, and hanging a 504', async () => {
    doubles.faults.add({ target: 'vault', fault: { status: 503 } });
    await expect(read()).rejects.toMatchObject({ code: 'upstream_unavailable', status: 503 });
    doubles.faults.clear();
    doubles.faults.add({ target: 'vault', fault: { hang: true } });
    await expect(read()).rejects.toMatchObject({ code: 'upstream_timeout', status: 504 });
  });

  it('is given the time it asks for, and not more than ten seconds of it', async () => {
    doubles.faults.add({ target: 'vault', fault: { status: 429, retryAfter: 1 }, times: 1 });
    const started = performance.now();
    expect(await read()).toBeUndefined();
    expect(performance.now() - started).toBeGreaterThan(950);
    doubles.faults.add({ target: 'vault', fault: { status: 429, retryAfter: 60 } });
    await expect(read()).rejects.toMatchObject({ code: 'upstream_throttled', retryAfterSeconds: 60 });
  });

  it('is told of by the probe', async () => {
    await expect(probeVault(doubles)).resolves.toBeUndefined();
    doubles.faults.add({ target: 'vault', fault: { status: 503 } });
    await expect(probeVault(doubles)).rejects.toMatchObject({ code: 'upstream_unavailable' });
  });
});
