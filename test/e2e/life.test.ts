import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { callerWith, expectStatus, register, sendTheDocumentedWay, startSite, telemetryFrom } from './support.ts';

const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function newSite(options: Parameters<typeof startSite>[0] = {}) {
  const site = await startSite(options);
  cleanups.push(() => site.cloud.close());
  return site;
}

describe('a device that moves', () => {
  it('gets through the new gateway at once; the old one lets it in for a while, but its messages go nowhere', async () => {
    const { cloud, operator, gateway: first } = await newSite();
    const second = await cloud.addGateway();
    await register(operator, second);
    const before = expectStatus(await operator('POST', '/devices/mover/onboard', { gateway: first.id }), 201).body;
    await sendTheDocumentedWay(before.connectionString, first.root, { n: 1 });

    expectStatus(await operator('PUT', '/devices/mover', { gateway: second.id }), 200);
    const after = expectStatus(await operator('POST', '/devices/mover/onboard', { gateway: second.id }), 200).body;
    expect(after.gateway.id).toBe(second.id);
    expect(after.trust.sequence).toBe(2);
    await sendTheDocumentedWay(after.connectionString, second.root, { n: 2 });

    // edgeHub keeps what it knows for up to an hour and acknowledges what it stores; the hub takes nothing by that way.
    await sendTheDocumentedWay(before.connectionString, first.root, { n: 3 });
    await first.refreshScope();
    await expect(sendTheDocumentedWay(before.connectionString, first.root, { n: 4 })).rejects.toThrow();
    expect((await telemetryFrom(cloud, 'mover', 2)).map(({ body, gatewayId }) => [body.n, gatewayId])).toEqual([
      [1, first.id],
      [2, second.id],
    ]);
  });
});

describe('a device that is disabled', () => {
  it('is refused a credential by the API, and by the gateway once that has heard of it', async () => {
    const { cloud, operator, gateway } = await newSite();
    const { connectionString } = expectStatus(
      await operator('POST', '/devices/off/onboard', { gateway: gateway.id }),
      201,
    ).body;
    await sendTheDocumentedWay(connectionString, gateway.root, { n: 1 });
    expectStatus(await operator('PUT', '/devices/off', { gateway: gateway.id, enabled: false }), 200);
    const issued = await operator('POST', '/devices/off/connection-string', { credential: 'key' });
    expect([issued.status, issued.body.code]).toEqual([409, 'device_disabled']);
    await gateway.refreshScope();
    await expect(sendTheDocumentedWay(connectionString, gateway.root, { n: 2 })).rejects.toThrow();

    expectStatus(await operator('PUT', '/devices/off', { gateway: gateway.id, enabled: true }), 200);
    await gateway.refreshScope();
    await sendTheDocumentedWay(connectionString, gateway.root, { n: 3 });
    expect((await telemetryFrom(cloud, 'off', 2)).map(({ body }) => body.n)).toEqual([1, 3]);
  });
});

describe('a restart', () => {
  it('of the whole cloud keeps roots, sequence, gateways, devices and keys', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-life-'));
    cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
    const first = await startSite({ directory });
    let document: { connectionString: string; trust: { roots: { pem: string }[] } };
    let bundle: unknown;
    try {
      const { operator, gateway } = first;
      document = expectStatus(await operator('POST', '/devices/keeper/onboard', { gateway: gateway.id }), 201).body;
      bundle = expectStatus(await operator('GET', '/trust-bundle?format=json'), 200).body;
    } finally {
      await first.cloud.close();
    }

    // As after any restart, the roots are in the bundle and the gateway is registered already.
    const { cloud, operator, gateway } = await newSite({ directory });
    expect(gateway.root).toBe(first.gateway.root);
    expect((await operator('GET', '/trust-bundle?format=json')).body).toEqual(bundle);
    expect((await operator('GET', '/devices/keeper')).body).toMatchObject({ id: 'keeper', gateway: gateway.id });
    const again = expectStatus(await operator('POST', '/devices/keeper/onboard', { gateway: gateway.id }), 200).body;
    expect(withoutPort(again.connectionString)).toBe(withoutPort(document.connectionString));
    await sendTheDocumentedWay(again.connectionString, document.trust.roots[0]?.pem ?? '', { after: 'restart' });
    expect(await telemetryFrom(cloud, 'keeper')).toEqual([
      { body: { after: 'restart' }, gatewayId: gateway.id, moduleId: null },
    ]);
  });

  it('of the API alone forgets nothing and needs no other token', async () => {
    const { cloud, operator, gateway } = await newSite();
    const before = expectStatus(await operator('POST', '/devices/api-1/onboard', { gateway: gateway.id }), 201).body;
    await cloud.restartApi();
    const after = expectStatus(await operator('POST', '/devices/api-1/onboard', { gateway: gateway.id }), 200).body;
    expect(after).toEqual(before);
  });

  it('of a gateway that renewed its certificate needs nothing new on the device', async () => {
    const { cloud, operator, gateway } = await newSite();
    const { connectionString } = expectStatus(
      await operator('POST', '/devices/renew-1/onboard', { gateway: gateway.id }),
      201,
    ).body;
    await sendTheDocumentedWay(connectionString, gateway.root, { n: 1 });
    await gateway.replaceServerCertificate();
    await sendTheDocumentedWay(connectionString, gateway.root, { n: 2 });
    expect(await telemetryFrom(cloud, 'renew-1', 2)).toHaveLength(2);
  });
});

describe('a join token', () => {
  it('lets one device in, once, however many ask', async () => {
    const { cloud, operator, gateway } = await newSite();
    expectStatus(await operator('POST', '/devices/join-1/onboard', { gateway: gateway.id }), 201);
    const { token } = expectStatus(await operator('POST', '/devices/join-1/join-token', {}), 201).body;
    const device = callerWith(cloud);
    const answers = await Promise.all(Array.from({ length: 20 }, () => device('POST', '/join', { token })));
    const won = answers.filter(({ status }) => status === 200);
    expect(won).toHaveLength(1);
    expect(new Set(answers.filter(({ status }) => status !== 200).map(({ body }) => body.code))).toEqual(
      new Set(['join_token_invalid']),
    );
    await sendTheDocumentedWay(won[0]?.body.connectionString, gateway.root, { n: 1 });
    expect(await telemetryFrom(cloud, 'join-1')).toHaveLength(1);
  });
});

function withoutPort(connectionString: string): string {
  return connectionString.replace(/(GatewayHostName=[^:;]+):\d+/, '$1');
}
