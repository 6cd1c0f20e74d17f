import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Bundle, BundleRoot } from '../../../lib/trust/bundle.ts';
import { factsOf, fingerprint } from '../../../lib/trust/certificate.ts';
import { encode, negotiate } from '../../../lib/trust/encodings.ts';
import { goodRoot } from '../../support/certificates.ts';

const hasOpenssl = spawnSync('openssl', ['version']).status === 0;
let bundle: Bundle;

async function bundleRoot(): Promise<BundleRoot> {
  const { certificate } = await goodRoot();
  const { sha256, subject, notAfter } = factsOf(new X509Certificate(certificate));
  return { sha256, subject, notAfter, pem: new X509Certificate(certificate).toString() };
}

beforeAll(async () => {
  bundle = { sequence: 7, refreshHintSeconds: 60, roots: [await bundleRoot(), await bundleRoot()] };
});

describe('a bundle as PEM', () => {
  it('holds every root, and reads in Node as a list of CAs', async () => {
    const { body } = await encode(bundle, 'pem');
    const blocks = String(body).match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
    expect(blocks.map((block) => factsOf(new X509Certificate(block)).sha256)).toEqual(
      bundle.roots.map((root) => root.sha256),
    );
    expect(() => createSecureContext({ ca: String(body) })).not.toThrow();
  });

  it.skipIf(!hasOpenssl)('reads in OpenSSL (skipped without openssl on this machine)', async () => {
    const { body } = await encode(bundle, 'pem');
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-bundle-'));
    try {
      writeFileSync(join(directory, 'bundle.pem'), body);
      const { stdout } = spawnSync('openssl', ['storeutl', '-noout', '-certs', join(directory, 'bundle.pem')]);
      expect(String(stdout)).toContain('Total found: 2');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('of no roots is empty', async () => {
    expect((await encode({ ...bundle, roots: [] }, 'pem')).body).toBe('');
  });
});

describe('a bundle as PKCS#7', () => {
  it.skipIf(!hasOpenssl)('reads in OpenSSL (skipped without openssl on this machine)', async () => {
    const { body, contentType } = await encode(bundle, 'pkcs7');
    const args = ['pkcs7', '-inform', 'DER', '-print_certs'];
    const { stdout, stderr, status } = spawnSync('openssl', args, { input: body });
    expect([status, String(stderr)]).toEqual([0, '']);
    const found = String(stdout).match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
    const fingerprints = found.map((block) => factsOf(new X509Certificate(block)).sha256);
    expect(fingerprints.sort()).toEqual(bundle.roots.map((root) => root.sha256).sort());
    expect(contentType).toBe('application/pkcs7-mime; smime-type=certs-only');
  });
});

describe('a bundle as JSON', () => {
  it('says what it holds', async () => {
    const { body } = await encode(bundle, 'json');
    expect(JSON.parse(String(body))).toEqual(bundle);
  });
});

describe('the entity tag of a bundle', () => {
  it('differs by format, by sequence and by content', async () => {
    const tags = await Promise.all([
      encode(bundle, 'pem'),
      encode(bundle, 'json'),
      encode(bundle, 'pkcs7'),
      encode({ ...bundle, sequence: 8 }, 'pem'),
      encode({ ...bundle, roots: bundle.roots.slice(1) }, 'pem'),
    ]);
    expect(new Set(tags.map((each) => each.etag)).size).toBe(5);
    expect(tags[0]?.etag).toMatch(/^"7-pem-[0-9a-f]{16}"$/);
  });

  it('is the same for the same bundle read by another instance', async () => {
    expect((await encode({ ...bundle, roots: [...bundle.roots] }, 'pkcs7')).etag).toBe(
      (await encode(bundle, 'pkcs7')).etag,
    );
  });
});

describe('the format that is answered', () => {
  it.each([
    [undefined, 'pem'],
    ['', 'pem'],
    ['*/*', 'pem'],
    ['text/html,application/xhtml+xml,*/*;q=0.8', 'pem'],
    ['application/json', 'json'],
    ['Application/JSON; charset=utf-8', 'json'],
    ['application/pkcs7-mime', 'pkcs7'],
    ['application/*', 'pem'],
    ['application/json;q=0.5, application/pkcs7-mime;q=0.9', 'pkcs7'],
    ['application/pkcs7-mime, application/json', 'pkcs7'],
    ['application/json, */*', 'json'],
    ['application/json;q=0, */*;q=0.1', 'pem'],
    ['application/json, application/x-pem-file;q=0', 'json'],
    ['text/plain', 'pem'],
  ])('to Accept: %s is %s', (accept, format) => {
    expect(negotiate(accept)).toBe(format);
  });

  it.each(['image/png', 'application/json;q=0'])('to Accept: %s is none', (accept) => {
    expect(() => negotiate(accept)).toThrow(expect.objectContaining({ code: 'not_acceptable', status: 406 }));
  });
});

describe('a fingerprint', () => {
  it('reads in any case, with or without colons', () => {
    const digits = 'ab'.repeat(32);
    expect(fingerprint(digits.toUpperCase())).toBe(digits);
    expect(fingerprint(digits.toUpperCase().replace(/..(?=.)/g, '$&:'))).toBe(digits);
    expect(fingerprint(digits.slice(2))).toBeUndefined();
    expect(fingerprint(`${digits.slice(2)}zz`)).toBeUndefined();
  });
});
