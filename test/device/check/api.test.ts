import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkDevice } from '../../../device/src/check/check.ts';
import type { OnboardingDocument } from '../../../device/src/document.ts';
import { storeDocument } from '../../../device/src/state.ts';
import type { Gateway } from '../../../local/gateway/gateway.ts';
import { expectStatus, register, type Site, startSite } from '../../e2e/support.ts';
import { newId } from '../../support/cloud.ts';
import { codesOf, faultsOf, originOf, skippedBy, temporary } from './patient.ts';

// The real API in place of its double: what it answers to a device decides what the doctor can tell apart.
let site: Site;

beforeAll(async () => {
  site = await startSite();
  await registerAll(site.gateway);
});

afterAll(() => site?.cloud.close());

/** With every port that it listens on. */
async function registerAll(gateway: Gateway): Promise<void> {
  await register(site.operator, gateway);
  const { id, hostname, ports } = gateway;
  expectStatus(await site.operator('PUT', `/gateways/${id}`, { hostname, ports }), 200);
}

async function onboarded(): Promise<{ id: string; state: string; document: OnboardingDocument }> {
  const id = newId();
  const answer = await site.operator('POST', `/devices/${id}/onboard`, { gateway: site.gateway.id });
  const document = expectStatus(answer, 201).body as OnboardingDocument;
  const state = join(temporary(), 'state');
  await storeDocument(state, { document, origin: originOf(site.cloud.api) });
  return { id, state, document };
}

const check = (state: string) => checkDevice({ state, connect: 'always', timeoutMs: 10_000 });

test('a device that was just onboarded is well, by the API and by the gateway', async () => {
  const { state } = await onboarded();
  const report = await check(state);
  expect(faultsOf(report)).toEqual([]);
  expect(codesOf(report, 'ok')).toEqual(
    expect.arrayContaining(['clock_ok', 'identity_ok', 'connect_ok', 'agreement_ok']),
  );
});

test.each<[string, (id: string) => Promise<unknown>]>([
  [
    'whose keys were both rotated',
    async (id) => {
      expectStatus(await site.operator('POST', `/devices/${id}/keys/rotate`, { key: 'primary' }), 200);
      expectStatus(await site.operator('POST', `/devices/${id}/keys/rotate`, { key: 'secondary' }), 200);
    },
  ],
  ['that was deleted', async (id) => expectStatus(await site.operator('DELETE', `/devices/${id}`), 204)],
  [
    'that was disabled',
    async (id) => {
      expectStatus(await site.operator('PUT', `/devices/${id}`, { gateway: site.gateway.id, enabled: false }), 200);
    },
  ],
])(
  'a device %s is not accepted; the API tells nobody which it is, and neither does the doctor',
  async (_name, harm) => {
    const { id, state } = await onboarded();
    await harm(id);
    const report = await check(state);
    expect(faultsOf(report)).toEqual(['identity_not_accepted']);
    expect(skippedBy(report)).toEqual({ connect: 'identity_not_accepted' });
  },
);

test('a device that is disabled while the API still holds its key is told so', async () => {
  const { id, state } = await onboarded();
  expect(faultsOf(await check(state))).toEqual([]);
  expectStatus(await site.operator('PUT', `/devices/${id}`, { gateway: site.gateway.id, enabled: false }), 200);
  expect(faultsOf(await check(state))).toEqual(['identity_disabled']);
});

test('a device whose gateway was deleted stands behind none, and a wrong name is a second fault', async () => {
  const gateway = await site.cloud.addGateway({ id: newId('gateway') });
  await registerAll(gateway);
  const id = newId();
  const answer = await site.operator('POST', `/devices/${id}/onboard`, { gateway: gateway.id });
  const document = expectStatus(answer, 201).body as OnboardingDocument;
  const state = join(temporary(), 'state');
  await storeDocument(state, { document, origin: originOf(site.cloud.api) });
  expect(faultsOf(await check(state))).toEqual([]);
  expectStatus(await site.operator('DELETE', `/gateways/${gateway.id}?orphan=true`), 204);
  await gateway.serve({ server: { names: ['other'] } });
  expect(faultsOf(await check(state))).toEqual(['name_mismatch', 'identity_without_gateway']);
});

test('a device that was moved to another gateway is told where it stands now', async () => {
  const { id, state } = await onboarded();
  const other = await site.cloud.addGateway({ id: newId('gateway') });
  await registerAll(other);
  expectStatus(await site.operator('PUT', `/devices/${id}`, { gateway: other.id }), 200);
  const report = await check(state);
  expect(codesOf(report, 'error')).toEqual(['identity_behind_other_gateway']);
  expect(
    report.checks.flatMap(({ findings }) => findings).find(({ code }) => code === 'identity_behind_other_gateway')
      ?.cause,
  ).toContain(other.id);
});
