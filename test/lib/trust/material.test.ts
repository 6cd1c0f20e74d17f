import { randomBytes, X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { GatepostError } from '../../../lib/errors.ts';
import { Redacted } from '../../../lib/redacted.ts';
import { toPem } from '../../../lib/trust/certificate.ts';
import { type RootInput, readRoot } from '../../../lib/trust/material.ts';
import { selfSigned } from '../../../local/kit/certificates.ts';
import { badRoots, goodRoot, pfxOf, rsaRoot, uniqueName } from '../../support/certificates.ts';

const now = () => new Date();
const read = (input: Record<string, unknown>) => readRoot({ name: 'root', ...input } as RootInput, now());
const pem = (text: string, key?: string) =>
  read({ pem: text, ...(key === undefined ? {} : { key: new Redacted(key) }) });
const pfx = (text: string, password?: string) =>
  read({ pfx: new Redacted(text), ...(password === undefined ? {} : { password: new Redacted(password) }) });

async function codes(attempt: Promise<unknown>): Promise<(string | undefined)[]> {
  const error = (await attempt.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )) as GatepostError | undefined;
  return error === undefined ? [] : [error.code, ...(error.errors ?? []).map((each) => each.code)];
}

describe('a public root', () => {
  it.each(['ec-p256', 'ec-p384', 'rsa-2048'] as const)('with a key %s passes', async (keyType) => {
    const { certificate } = await selfSigned({ commonName: uniqueName(), keyType });
    await expect(pem(certificate)).resolves.toMatchObject({ authority: undefined });
  });

  it('may have text around its block, and line ends of Windows', async () => {
    const { certificate } = await goodRoot();
    const text = `Certificate:\n    Data: ...\n${certificate}\n`.replaceAll('\n', '\r\n');
    await expect(pem(text)).resolves.toMatchObject({ authority: undefined });
  });

  it.each(Object.entries(badRoots))('is refused as %s', async (code, make) => {
    const { certificate } = await make();
    expect(await codes(pem(certificate))).toEqual([code, code]);
  });

  it('signed over SHA-1 is refused', async () => {
    const { certificate } = await rsaRoot(2048, 'SHA-1');
    expect(await codes(pem(certificate))).toEqual(['root_weak_algorithm', 'root_weak_algorithm']);
  });

  it('that breaks several rules is told all of them', async () => {
    const { certificate } = await selfSigned({
      commonName: uniqueName(),
      ca: false,
      notBefore: new Date(Date.now() - 2e9),
      notAfter: new Date(Date.now() - 1e9),
    });
    expect(await codes(pem(certificate))).toEqual(['root_not_ca', 'root_not_ca', 'root_expired']);
  });

  it('among several certificates is refused', async () => {
    const [one, other] = [await goodRoot(), await goodRoot()];
    expect(await codes(pem(one.certificate + other.certificate))).toEqual([
      'root_several_certificates',
      'root_several_certificates',
    ]);
  });

  it('that carries its private key is refused, and is told where a key belongs', async () => {
    const { certificate, privateKey } = await goodRoot();
    await expect(pem(privateKey + certificate)).rejects.toMatchObject({
      code: 'root_private_key_present',
      detail: expect.stringContaining('field key'),
    });
    expect(await codes(pem(certificate + privateKey.replaceAll('PRIVATE KEY', 'EC PRIVATE KEY')))).toContain(
      'root_private_key_present',
    );
  });

  it.each([
    ['noise', () => randomBytes(60_000).toString('base64')],
    ['nothing', () => ' '],
    [
      'a block of noise',
      () => `-----BEGIN CERTIFICATE-----\n${randomBytes(600).toString('base64')}\n-----END CERTIFICATE-----`,
    ],
    ['a block without an end', () => '-----BEGIN CERTIFICATE-----\nMIIB'],
    ['a request', () => '-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----'],
  ])('that is %s is refused', async (_what, make) => {
    expect((await codes(pem(make())))[0]).toBe('root_not_pem');
  });
});

describe('a damaged certificate', () => {
  it('is refused with a code, whichever of its bytes is wrong', async () => {
    for (const { certificate } of [await goodRoot(), await rsaRoot(2048, 'SHA-256')]) {
      const { raw } = new X509Certificate(certificate);
      for (let at = 0; at < raw.byteLength; at += 1) {
        const damaged = Buffer.from(raw);
        damaged[at] = (damaged[at] ?? 0) ^ 0x41;
        const [code] = await codes(pem(toPem(damaged)));
        expect(code, `byte ${at}`).toMatch(/^root_/);
      }
    }
  });
});

describe('a CA with its key', () => {
  it('passes as PEM, its key turned into PKCS#8', async () => {
    const { certificate, privateKey } = await goodRoot();
    const { authority } = await pem(certificate, privateKey);
    expect(authority?.format).toBe('pem');
    expect(authority?.content.reveal()).toMatch(/END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----/);
  });

  it('is refused with the key of another, and with what is no key', async () => {
    const [one, other] = [await goodRoot(), await goodRoot()];
    expect((await codes(pem(one.certificate, other.privateKey)))[0]).toBe('root_key_mismatch');
    await expect(pem(one.certificate, 'no key')).rejects.toMatchObject({
      code: 'invalid_request',
      errors: [{ pointer: '/key' }],
    });
  });

  it('is linted like a public root', async () => {
    const { certificate, privateKey } = await badRoots.root_expired();
    expect((await codes(pem(certificate, privateKey)))[0]).toBe('root_expired');
  });
});

describe('a PFX', () => {
  it('passes with its password, and without one where it has none', async () => {
    const root = await rsaRoot(2048, 'SHA-256');
    for (const password of ['pass word', '']) {
      const { certificate, authority } = await pfx(pfxOf(root, password), password);
      expect(certificate.subject).toBe(`CN=${root.commonName}`);
      expect(authority).toMatchObject({ format: 'pfx' });
    }
  });

  it('as an older Windows exports it passes', async () => {
    const root = await rsaRoot(2048, 'SHA-256');
    await expect(pfx(pfxOf(root, 'x', '3des'), 'x')).resolves.toMatchObject({ authority: { format: 'pfx' } });
  });

  it('is refused with a wrong password', async () => {
    const root = await rsaRoot(2048, 'SHA-256');
    await expect(pfx(pfxOf(root, 'right'), 'wrong')).rejects.toMatchObject({
      code: 'root_not_pfx',
      detail: expect.stringContaining('password'),
    });
  });

  it('is refused without a certificate, or where it is noise', async () => {
    const root = await rsaRoot(2048, 'SHA-256');
    expect(await codes(pfx(pfxOf({ privateKey: root.privateKey }, ''), ''))).toEqual(['root_not_pfx']);
    expect(await codes(pfx(randomBytes(900).toString('base64')))).toEqual(['root_not_pfx']);
  });

  it('is linted like a public root', async () => {
    const root = await rsaRoot(1024, 'SHA-256');
    expect((await codes(pfx(pfxOf(root, 'x'), 'x')))[0]).toBe('root_weak_algorithm');
  });
});
