import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { tableClient } from '../../../lib/azure/tables.ts';
import { vaultRootStore } from '../../../lib/azure/vault.ts';
import { Redacted } from '../../../lib/redacted.ts';
import { tableLedger } from '../../../lib/trust/ledger.ts';
import { trustService } from '../../../lib/trust/service.ts';
import { goodRoot } from '../../support/certificates.ts';
import { type Doubles, startDoubles } from '../../support/doubles.ts';
import { uniqueTable } from '../../support/tables.ts';

let doubles: Doubles;

beforeAll(async () => {
  doubles = await startDoubles();
});
afterEach(() => {
  doubles.faults.clear();
});
afterAll(() => doubles.close());

/** A bundle of its own, and as many instances of the app over it as wanted. */
function newTrust() {
  const name = uniqueTable();
  const instance = () =>
    trustService({
      ledger: tableLedger({ table: tableClient(doubles)(name) }),
      store: vaultRootStore(doubles),
      refreshHintSeconds: 3600,
      checkSeconds: 30,
      clock: () => new Date(),
    });
  return { instance, ...instance() };
}

async function sequenceOf(trust: ReturnType<typeof newTrust>): Promise<number> {
  return (await trust.roots.list()).sequence;
}

describe('importing a root', () => {
  it('raises the sequence by one and puts the root into the bundle of this instance at once', async () => {
    const trust = newTrust();
    const { certificate } = await goodRoot();
    const { created, record } = await trust.roots.importRoot({ name: 'plant', pem: certificate });
    expect(created).toBe(true);
    expect(record).toMatchObject({ name: 'plant', kind: 'public', state: 'active' });
    const { bundle } = await trust.current();
    expect(bundle).toMatchObject({ sequence: 1, roots: [{ sha256: record.sha256, pem: certificate }] });
  });

  it('changes nothing when it is repeated', async () => {
    const trust = newTrust();
    const { certificate } = await goodRoot();
    await trust.roots.importRoot({ name: 'plant', pem: certificate });
    const { created } = await trust.roots.importRoot({ name: 'plant', pem: `\n${certificate}\n` });
    expect([created, await sequenceOf(trust)]).toEqual([false, 1]);
  });

  it('refuses another certificate under the name, and the certificate under another name', async () => {
    const trust = newTrust();
    const [one, other] = [await goodRoot(), await goodRoot()];
    await trust.roots.importRoot({ name: 'plant', pem: one.certificate });
    await expect(trust.roots.importRoot({ name: 'plant', pem: other.certificate })).rejects.toMatchObject({
      code: 'root_name_taken',
    });
    await expect(trust.roots.importRoot({ name: 'other', pem: one.certificate })).rejects.toMatchObject({
      code: 'root_already_trusted',
    });
    const key = new Redacted(one.privateKey);
    await expect(trust.roots.importRoot({ name: 'plant', pem: one.certificate, key })).rejects.toMatchObject({
      code: 'root_name_taken',
    });
    expect(await sequenceOf(trust)).toBe(1);
  });

  it('of twenty at once, on four instances, raises the sequence by twenty and loses none', async () => {
    const trust = newTrust();
    const instances = [trust, trust.instance(), trust.instance(), trust.instance()];
    const roots = await Promise.all(Array.from({ length: 20 }, () => goodRoot()));
    const outcomes = await Promise.all(
      roots.map(({ certificate }, index) =>
        instances[index % 4]?.roots.importRoot({ name: `root-${index}`, pem: certificate }),
      ),
    );
    expect(outcomes.every((outcome) => outcome?.created)).toBe(true);
    const { sequence, roots: listed } = await trust.roots.list();
    expect([sequence, new Set(listed.map((root) => root.name)).size]).toEqual([20, 20]);
  });

  it('of the same root twenty times at once raises the sequence by one', async () => {
    const trust = newTrust();
    const { certificate } = await goodRoot();
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, () => trust.roots.importRoot({ name: 'plant', pem: certificate })),
    );
    expect(outcomes.filter((outcome) => outcome.created)).toHaveLength(1);
    expect(await sequenceOf(trust)).toBe(1);
  });

  it('of two certificates under one name at once lets one of them win', async () => {
    const trust = newTrust();
    const roots = await Promise.all([goodRoot(), goodRoot()]);
    const outcomes = await Promise.allSettled(
      roots.map(({ certificate }) => trust.roots.importRoot({ name: 'plant', pem: certificate })),
    );
    expect(outcomes.map((outcome) => outcome.status).sort()).toEqual(['fulfilled', 'rejected']);
    const { bundle } = await trust.instance().current();
    expect(bundle).toMatchObject({ sequence: 1, roots: [{ pem: expect.stringContaining('BEGIN') }] });
  });

  it('that was cut off between the vault and the ledger is finished by a repeat', async () => {
    const trust = newTrust();
    const { certificate } = await goodRoot();
    // The first import makes the table, so that the ledger is written by one request.
    await trust.roots.importRoot({ name: 'first', pem: (await goodRoot()).certificate });
    doubles.faults.add({ target: 'storage', match: { method: 'PUT' }, fault: { cut: 'before' }, times: 1 });
    await expect(trust.roots.importRoot({ name: 'plant', pem: certificate })).rejects.toMatchObject({
      code: 'upstream_unavailable',
    });
    expect(await trust.roots.importRoot({ name: 'plant', pem: certificate })).toMatchObject({ created: true });
    expect(await sequenceOf(trust)).toBe(2);
  });

  it('whose answer was lost after the ledger was written is not done twice', async () => {
    const trust = newTrust();
    const { certificate } = await goodRoot();
    await trust.roots.importRoot({ name: 'first', pem: (await goodRoot()).certificate });
    doubles.faults.add({ target: 'storage', match: { method: 'PUT' }, fault: { cut: 'after' }, times: 1 });
    await expect(trust.roots.importRoot({ name: 'plant', pem: certificate })).rejects.toMatchObject({ status: 503 });
    expect(await trust.roots.importRoot({ name: 'plant', pem: certificate })).toMatchObject({ created: false });
    expect(await sequenceOf(trust)).toBe(2);
  });

  it('mends a root that was deleted from the vault by hand', async () => {
    const trust = newTrust();
    const { certificate } = await goodRoot();
    const { record } = await trust.roots.importRoot({ name: 'plant', pem: certificate });
    await vaultRootStore(doubles).remove(record);
    await expect(trust.instance().current()).rejects.toMatchObject({ code: 'upstream_unavailable' });
    await trust.roots.importRoot({ name: 'plant', pem: certificate });
    expect((await trust.instance().current()).bundle).toMatchObject({ sequence: 1, roots: [{ pem: certificate }] });
  });

  it('of a CA with its key serves its certificate like any other', async () => {
    const trust = newTrust();
    const { certificate, privateKey } = await goodRoot();
    const { record } = await trust.roots.importRoot({ name: 'ca', pem: certificate, key: new Redacted(privateKey) });
    expect(record.kind).toBe('authority');
    const { bundle } = await trust.instance().current();
    expect(bundle.roots).toMatchObject([{ sha256: record.sha256, pem: certificate }]);
  });
});

describe('deleting a root', () => {
  it('raises the sequence by one, empties the bundle, and frees the name and the certificate', async () => {
    const trust = newTrust();
    const { certificate } = await goodRoot();
    await trust.roots.importRoot({ name: 'plant', pem: certificate });
    await trust.roots.deleteRoot('plant');
    expect((await trust.current()).bundle).toMatchObject({ sequence: 2, roots: [] });
    await expect(trust.roots.get('plant')).rejects.toMatchObject({ code: 'root_not_found' });
    await expect(trust.roots.deleteRoot('plant')).rejects.toMatchObject({ code: 'root_not_found', status: 404 });
    expect(await trust.roots.importRoot({ name: 'plant', pem: certificate })).toMatchObject({ created: true });
    expect((await trust.instance().current()).bundle).toMatchObject({ sequence: 3, roots: [{ pem: certificate }] });
  });

  it('that the vault did not do is finished by a repeat, without another sequence', async () => {
    const trust = newTrust();
    const { record } = await trust.roots.importRoot({ name: 'plant', pem: (await goodRoot()).certificate });
    doubles.faults.add({ target: 'vault', match: { method: 'DELETE' }, fault: { status: 503 }, times: 3 });
    await expect(trust.roots.deleteRoot('plant')).rejects.toMatchObject({ code: 'upstream_unavailable' });
    expect((await trust.current()).bundle.roots).toEqual([]);
    expect(await vaultRootStore(doubles).read(record)).toBeDefined();
    await trust.roots.deleteRoot('plant');
    expect(await vaultRootStore(doubles).read(record)).toBeUndefined();
    expect(await sequenceOf(trust)).toBe(2);
  });

  it('half done does not stand in the way of importing the same root again', async () => {
    const trust = newTrust();
    const { certificate } = await goodRoot();
    await trust.roots.importRoot({ name: 'plant', pem: certificate });
    doubles.faults.add({ target: 'vault', match: { method: 'DELETE' }, fault: { status: 503 }, times: 3 });
    await expect(trust.roots.deleteRoot('plant')).rejects.toMatchObject({ code: 'upstream_unavailable' });
    await trust.roots.importRoot({ name: 'plant', pem: certificate });
    expect((await trust.instance().current()).bundle).toMatchObject({ sequence: 3, roots: [{ pem: certificate }] });
    expect((await trust.roots.list()).removals).toEqual([]);
  });
});
