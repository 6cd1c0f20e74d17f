import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { tableClient } from '../../../lib/azure/tables.ts';
import { vaultRootStore } from '../../../lib/azure/vault.ts';
import { tableLedger } from '../../../lib/trust/ledger.ts';
import { trustService } from '../../../lib/trust/service.ts';
import { goodRoot } from '../../support/certificates.ts';
import { type Doubles, startDoubles } from '../../support/doubles.ts';
import { uniqueTable } from '../../support/tables.ts';

let doubles: Doubles;
let now = Date.now();

beforeAll(async () => {
  doubles = await startDoubles();
});
afterEach(() => {
  doubles.faults.clear();
  doubles.faults.resetCalls();
});
afterAll(() => doubles.close());

function newTrust() {
  const name = uniqueTable();
  const failures: unknown[] = [];
  const instance = () =>
    trustService({
      ledger: tableLedger({ table: tableClient(doubles)(name) }),
      store: vaultRootStore(doubles),
      refreshHintSeconds: 3600,
      checkSeconds: 30,
      clock: () => new Date(now),
      onFailure: (error) => void failures.push(error),
    });
  const table = tableClient(doubles)(name);
  return { instance, failures, table };
}

async function newTrustWithRoot() {
  const trust = newTrust();
  const operator = trust.instance();
  const { certificate } = await goodRoot();
  await operator.roots.importRoot({ name: 'first', pem: certificate });
  return { ...trust, operator, certificate };
}

const requests = (target: 'vault' | 'storage') =>
  Object.values(doubles.faults.calls()[target]).reduce((sum, count) => sum + count, 0);

/** Lets what runs behind the callers' backs come to its end. */
async function until(done: () => Promise<boolean>): Promise<void> {
  for (let count = 0; count < 500; count += 1) {
    if (await done()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('It did not happen');
}

describe('the bundle of an instance', () => {
  it('is empty, with sequence 0, before the first import', async () => {
    const { instance } = newTrust();
    expect(await instance().current()).toEqual({
      bundle: { sequence: 0, refreshHintSeconds: 3600, roots: [] },
      stale: false,
    });
  });

  it('is read once by callers who come all at once to a cold instance', async () => {
    const { instance, certificate } = await newTrustWithRoot();
    const cold = instance();
    await cold.current();
    doubles.faults.resetCalls();
    const colder = instance();
    const found = await Promise.all(Array.from({ length: 50 }, () => colder.current()));
    expect(found.every(({ bundle }) => bundle.roots[0]?.pem === certificate)).toBe(true);
    expect(requests('storage')).toBe(1);
    expect(doubles.faults.calls().vault['GET /secrets/{name}/{version}']).toBeLessThanOrEqual(2);
  });

  it('costs no request while it is young, and one read of the table when it is looked at again', async () => {
    const { instance } = await newTrustWithRoot();
    const trust = instance();
    await trust.current();
    doubles.faults.resetCalls();
    for (let count = 0; count < 20; count += 1) await trust.current();
    expect([requests('storage'), requests('vault')]).toEqual([0, 0]);
    now += 31_000;
    for (let count = 0; count < 20; count += 1) await trust.current();
    await until(async () => requests('storage') === 1);
    for (let count = 0; count < 20; count += 1) await trust.current();
    expect([requests('storage'), requests('vault')]).toEqual([1, 0]);
  });

  it('is answered at once as it was while a change is fetched, the vault read for the new root alone', async () => {
    const { instance, operator } = await newTrustWithRoot();
    const trust = instance();
    await trust.current();
    await operator.roots.importRoot({ name: 'second', pem: (await goodRoot()).certificate });
    expect((await trust.current()).bundle.sequence).toBe(1);
    now += 31_000;
    doubles.faults.resetCalls();
    expect((await trust.current()).bundle.sequence).toBe(1);
    await until(async () => (await trust.current()).bundle.sequence === 2);
    expect((await trust.current()).bundle.roots).toHaveLength(2);
    expect(doubles.faults.calls().vault).toEqual({ 'GET /secrets/{name}/{version}': 1 });
  });

  it('is not answered from another time by an instance that stood still', async () => {
    const { instance, operator } = await newTrustWithRoot();
    const trust = instance();
    await trust.current();
    await operator.roots.importRoot({ name: 'second', pem: (await goodRoot()).certificate });
    now += 3_600_000;
    expect((await trust.current()).bundle.sequence).toBe(2);
  });
});

describe('the bundle while a service is down', () => {
  it.each([
    ['storage', { status: 503 }],
    ['storage', { hang: true }],
    ['storage', { cut: 'before' }],
  ] as const)('(%s: %j) is served stale, and fresh again afterwards', async (target, fault) => {
    const { instance, failures } = await newTrustWithRoot();
    const trust = instance();
    await trust.current();
    doubles.faults.add({ target, fault });
    now += 31_000;
    expect(await trust.current()).toMatchObject({ stale: false });
    await until(async () => (await trust.current()).stale);
    expect((await trust.current()).bundle).toMatchObject({ sequence: 1, roots: [{}] });
    expect(failures).toHaveLength(1);
    doubles.faults.clear();
    now += 31_000;
    await trust.current();
    await until(async () => !(await trust.current()).stale);
  });

  it('is served stale where the vault cannot give a new root', async () => {
    const { instance, operator } = await newTrustWithRoot();
    const trust = instance();
    await trust.current();
    await operator.roots.importRoot({ name: 'second', pem: (await goodRoot()).certificate });
    doubles.faults.add({ target: 'vault', fault: { status: 503 } });
    now += 31_000;
    await trust.current();
    await until(async () => (await trust.current()).stale);
    expect((await trust.current()).bundle.sequence).toBe(1);
  });

  it.each(['storage', 'vault'] as const)(
    'is a 503 with a time to come back on a cold instance (%s)',
    async (target) => {
      const { instance } = await newTrustWithRoot();
      doubles.faults.add({ target, fault: { hang: true } });
      const cold = instance();
      await expect(cold.current()).rejects.toMatchObject({
        code: 'upstream_unavailable',
        status: 503,
        retryAfterSeconds: 5,
      });
      const struck = requests(target);
      await expect(cold.current()).rejects.toMatchObject({ code: 'upstream_unavailable' });
      expect(requests(target)).toBe(struck);
      doubles.faults.clear();
      now += 1_500;
      expect((await cold.current()).bundle.sequence).toBe(1);
    },
  );
});

describe('a ledger that went back', () => {
  it('is not believed by an instance that knows better', async () => {
    const { instance, operator, table, failures } = await newTrustWithRoot();
    await operator.roots.importRoot({ name: 'second', pem: (await goodRoot()).certificate });
    const trust = instance();
    await trust.current();
    await table.remove('trust', 'bundle');
    now += 31_000;
    await trust.current();
    await until(async () => (await trust.current()).stale);
    expect((await trust.current()).bundle).toMatchObject({ sequence: 2, roots: [{}, {}] });
    expect(failures).toMatchObject([{ name: 'SequenceWentBackError' }]);
  });
});

describe('a root that somebody changed in the vault', () => {
  it('is read in the version that was imported', async () => {
    const { instance, operator } = await newTrustWithRoot();
    const { record } = await operator.roots.importRoot({ name: 'second', pem: (await goodRoot()).certificate });
    const { SecretClient } = await import('@azure/keyvault-secrets');
    const client = new SecretClient(doubles.vault.url, doubles.credential, { agent: doubles.agent } as object);
    await client.setSecret(record.objectName, (await goodRoot()).certificate);
    expect((await instance().current()).bundle.roots.map((root) => root.sha256)).toContain(record.sha256);
  });

  it('is not handed out where the bytes are not those that were linted', async () => {
    const { instance, operator, table } = await newTrustWithRoot();
    const { record } = await operator.roots.importRoot({ name: 'second', pem: (await goodRoot()).certificate });
    const found = await table.get('trust', 'bundle');
    const forged = { ...record, sha256: '0'.repeat(64) };
    await table.replace(
      { ...found?.entity, partitionKey: 'trust', rowKey: 'bundle', root1: JSON.stringify(forged) },
      found?.etag ?? '',
    );
    await expect(instance().current()).rejects.toMatchObject({ code: 'upstream_unavailable' });
  });
});
