import 'reflect-metadata';
import { webcrypto, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { IdentityService } from '../../../local/identity-service/identity-service.ts';
import { selfSigned } from '../../../local/kit/certificates.ts';
import { ask, Host } from './support.ts';

const v = 'api-version=2020-09-01';
let host: Host;
let services: IdentityService;
let ca: Awaited<ReturnType<typeof selfSigned>>;

beforeAll(async () => {
  host = await Host.open();
  ca = await selfSigned({ commonName: 'Local CA', notAfter: new Date(Date.now() + 10 * 86_400_000) });
  services = await host.services({
    provisioning: { source: 'none' },
    certificates: { 'aziot-edged-trust-bundle': ca.certificate },
    issuance: { short: { ...ca, expiryDays: 1 }, long: { ...ca, expiryDays: 90 } },
    grants: [{ uid: 4242, certs: ['mine*'] }],
  });
});

afterAll(() => host?.close());

const call = (path: string, body?: object, uid = 0, method?: string) =>
  ask(services.sockets(uid), 'certd', `${path}?${v}`, {
    ...(body === undefined ? {} : { body }),
    ...(method === undefined ? {} : { method }),
  });

async function newCsr(name: string): Promise<string> {
  const keys = await webcrypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name,
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: [new x509.ExtendedKeyUsageExtension(['1.3.6.1.5.5.7.3.2'])],
  });
  return request.toString('pem');
}

test('reading needs nothing but the socket, writing a grant', async () => {
  const read = await call('/certificates/aziot-edged-trust-bundle', undefined, 4242);
  expect(read).toMatchObject({ status: 200, contentType: 'application/json', body: { pem: ca.certificate } });
  expect(await call('/certificates/foo', { pem: 'x' }, 4242, 'PUT')).toMatchObject({
    status: 401,
    body: { message: 'user 4242 is not authorized to modify the cert foo' },
  });
  expect(await call('/certificates/mine-1', { pem: 'x' }, 4242, 'PUT')).toMatchObject({
    status: 201,
    body: { pem: 'x' },
  });
  expect(await call('/certificates/nothing')).toMatchObject({
    status: 400,
    body: { message: 'parameter "id" has an invalid value\ncaused by: not found' },
  });
});

test('an id may hold a slash, escaped, and deleting twice is well', async () => {
  const id = encodeURIComponent('aziot-edged/module/edgeHub:1:server');
  await call(`/certificates/${id}`, { pem: 'server' }, 0, 'PUT');
  expect((await call(`/certificates/${id}`)).body).toEqual({ pem: 'server' });
  expect((await call('/certificates/aziot-edged/module/edgeHub:1:server')).status).toBe(404);
  for (let count = 0; count < 2; count += 1) {
    expect((await call(`/certificates/${id}`, undefined, 0, 'DELETE')).status).toBe(204);
  }
  expect((await call(`/certificates/${id}`)).status).toBe(400);
});

test('issues what a request asks for, answers 201 with the chain, and keeps it', async () => {
  const csr = await newCsr('CN=short');
  const { status, body } = await call('/certificates', { certId: 'short', csr });
  expect(status).toBe(201);
  const certificate = new X509Certificate(body.pem);
  expect(certificate.subject).toBe('CN=short');
  expect(certificate.verify(new X509Certificate(ca.certificate).publicKey)).toBe(true);
  expect(certificate.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
  const days = (Date.parse(certificate.validTo) - Date.now()) / 86_400_000;
  expect(days).toBeGreaterThan(0.9);
  expect(days).toBeLessThan(1.1);
  expect(body.pem).toContain(ca.certificate.trim());
  expect((await call('/certificates/short')).body).toEqual(body);
});

test('a certificate does not outlive its issuer', async () => {
  const { body } = await call('/certificates', { certId: 'long', csr: await newCsr('CN=long') });
  expect(new X509Certificate(body.pem).validTo).toBe(new X509Certificate(ca.certificate).validTo);
});

test('signs with a certificate and key pair that the caller names', async () => {
  const keyd = (path: string, body: object) => ask(services.sockets(0), 'keyd', `${path}?${v}`, { body });
  const { keyHandle } = (await keyd('/keypair', { keyId: 'ca', preferredAlgorithms: 'ec-p256' })).body;
  const issuer = { certId: 'aziot-edged-trust-bundle', privateKeyHandle: keyHandle };
  const answer = await call('/certificates', { certId: 'by-issuer', csr: await newCsr('CN=x'), issuer });
  expect(answer.status).toBe(201);
  const other = { certId: 'nothing', privateKeyHandle: keyHandle };
  expect(await call('/certificates', { certId: 'by-issuer', csr: await newCsr('CN=x'), issuer: other })).toMatchObject({
    status: 400,
    body: { message: 'parameter "issuer.certId" has an invalid value\ncaused by: not found' },
  });
});

test('a request that is none is a 400, one that cannot be issued a 500 that does not say why', async () => {
  const bad = await call('/certificates', { certId: 'short', csr: 'bm90IGEgUEVN' });
  expect(bad.status).toBe(400);
  expect(bad.body.message).toMatch(/^parameter "csr" has an invalid value\ncaused by: /);
  const csr = await newCsr('CN=x');
  const forged = csr.replace(/\n[^\n]{10}/, (text) => `${text.slice(0, -1)}${text.endsWith('A') ? 'B' : 'A'}`);
  expect((await call('/certificates', { certId: 'short', csr: forged })).status).toBe(400);
  expect(await call('/certificates', { certId: 'unknown', csr })).toMatchObject({
    status: 500,
    body: { message: 'internal error' },
  });
});
