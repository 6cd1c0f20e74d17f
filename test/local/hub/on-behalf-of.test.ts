import { X509Certificate } from 'node:crypto';
import { request as open } from 'node:https';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { makeSasToken } from '../../../local/gateway/sas-token.ts';
import { issue, selfSigned } from '../../../local/kit/certificates.ts';
import { createDevice, createEdge, type HubUnderTest, request, startHubUnderTest } from './support.ts';

// What edgeHub asks as itself for a device behind it, and a device with a certificate for itself.
let under: HubUnderTest;
let edgeHubKey: string;
let deviceKey: string;

beforeAll(async () => {
  under = await startHubUnderTest();
  const edge = await createEdge(under.registry, 'edge');
  const leaf = await createDevice(under.registry, 'leaf', { deviceScope: edge.deviceScope });
  deviceKey = leaf.authentication.symmetricKey.primaryKey ?? '';
  await createDevice(under.registry, 'elsewhere');
  const module = (await under.registry.getModule('edge', '$edgeHub')).responseBody as unknown as typeof edge;
  edgeHubKey = module.authentication.symmetricKey.primaryKey ?? '';
});

afterAll(() => under?.stop());

const expiry = () => Math.floor(Date.now() / 1000) + 60;

function ask(question: string, body: object, headers: Record<string, string> = {}) {
  const authorization = makeSasToken(`${under.hub.hostname}/devices/edge/modules/$edgeHub`, edgeHubKey, expiry());
  const path = `/devices/edge/modules/$edgeHub/${question}?api-version=2020-06-30-preview`;
  return request(under, 'POST', path, { authorization, body, headers });
}

test('edgeHub makes, reads, lists and deletes modules of a child', async () => {
  const authChain = 'leaf;edge';
  const module = { deviceId: 'leaf', moduleId: 'agent' };
  const made = await ask('putModuleOnBehalfOf', { authChain, module });
  expect(made.json()).toMatchObject({ ...module, generationId: expect.any(String) });
  expect((await ask('putModuleOnBehalfOf', { authChain, module })).status).toBe(409);
  expect((await ask('putModuleOnBehalfOf', { authChain, module }, { 'if-match': '*' })).status).toBe(200);
  expect((await ask('getModuleOnBehalfOf', { authChain, moduleId: 'agent' })).json()).toMatchObject(module);
  expect((await ask('getModulesOnTargetDevice', { authChain })).json()).toMatchObject([module]);
  expect((await ask('deleteModuleOnBehalfOf', { authChain, moduleId: 'agent' })).status).toBe(204);
  expect((await ask('getModuleOnBehalfOf', { authChain, moduleId: 'agent' })).status).toBe(404);
});

test('edgeHub may not act for a device that is not its child, nor with a chain that does not end in itself', async () => {
  for (const authChain of ['elsewhere;edge', 'leaf;other', 'leaf', '']) {
    const refused = await ask('getModulesOnTargetDevice', { authChain });
    expect([authChain, refused.status]).toEqual([authChain, 401]);
  }
});

test('nobody but the $edgeHub of the gateway acts for others', async () => {
  const authorization = makeSasToken(`${under.hub.hostname}/devices/leaf`, deviceKey, expiry());
  const path = '/devices/edge/modules/$edgeHub/getModulesOnTargetDevice?api-version=2020-06-30-preview';
  const refused = await request(under, 'POST', path, { authorization, body: { authChain: 'leaf;edge' } });
  expect(refused.status).toBe(401);
});

test('a device reads its own modules with the certificate of its handshake, and another certificate is refused', async () => {
  const root = await selfSigned({ commonName: 'Device CA' });
  const own = await issue(root, { commonName: 'x', usages: ['clientAuth'] });
  const primaryThumbprint = new X509Certificate(own.certificate).fingerprint256.replaceAll(':', '');
  const x509Thumbprint = { primaryThumbprint };
  await createDevice(under.registry, 'x', { authentication: { type: 'selfSigned', x509Thumbprint } });
  const status = ({ chain, privateKey }: typeof own, path: string) =>
    new Promise<number>((resolve, reject) => {
      const options = {
        host: '127.0.0.1',
        port: under.hub.port,
        servername: under.hub.hostname,
        agent: false as const,
      };
      const tls = { ca: under.ca.certificate, cert: chain, key: privateKey };
      open({ ...options, ...tls, path: `${path}?api-version=2017-11-08-preview` }, (answer) => {
        answer.resume();
        resolve(answer.statusCode ?? 0);
      })
        .once('error', reject)
        .end();
    });
  expect(await status(own, '/devices/x/modules')).toBe(200);
  expect(await status(own, '/devices/x')).toBe(401);
  expect(await status(own, '/devices/leaf/modules')).toBe(401);
  const stranger = await issue(root, { commonName: 'x', usages: ['clientAuth'] });
  expect(await status(stranger, '/devices/x/modules')).toBe(401);
});
