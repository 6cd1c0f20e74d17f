import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Clients, collect, refusal, type TestVault, testVault } from './support.ts';

let cloud: TestVault;
let admin: Clients;

beforeAll(async () => {
  cloud = await testVault();
  admin = cloud.as('Key Vault Administrator');
});
afterAll(() => cloud.close());

describe('a secret', () => {
  it('is set and read with the real client, over the URL that Azure has', async () => {
    const expiresOn = new Date('2031-02-03T04:05:06Z');
    const set = await admin.secrets.setSecret('root-one', '-----BEGIN CERTIFICATE-----\n', {
      contentType: 'application/x-pem-file',
      tags: { sha256: 'abc' },
      expiresOn,
    });
    expect(set.properties.id).toMatch(/^https:\/\/gatepost\.vault\.azure\.net\/secrets\/root-one\/[0-9a-f]{32}$/);
    const got = await admin.secrets.getSecret('root-one');
    expect(got).toMatchObject({ name: 'root-one', value: '-----BEGIN CERTIFICATE-----\n' });
    expect(got.properties).toMatchObject({
      enabled: true,
      contentType: 'application/x-pem-file',
      tags: { sha256: 'abc' },
      expiresOn,
      recoveryLevel: 'Recoverable+Purgeable',
      recoverableDays: 90,
    });
    expect(got.properties.managed).toBeUndefined();
    expect(Date.now() - Number(got.properties.createdOn)).toBeLessThan(60_000);
  });

  it('keeps its versions, and the latest is what is read without a version', async () => {
    const first = await admin.secrets.setSecret('versions', 'one');
    await admin.secrets.setSecret('versions', 'two');
    expect((await admin.secrets.getSecret('versions')).value).toBe('two');
    const version = first.properties.version ?? '';
    expect((await admin.secrets.getSecret('versions', { version })).value).toBe('one');
    const versions = await collect(admin.secrets.listPropertiesOfSecretVersions('versions'));
    expect(versions).toHaveLength(2);
    expect(versions.map((item) => item.version)).toContain(version);
    expect(versions).toEqual([...versions].sort((a, b) => ((a.version ?? '') < (b.version ?? '') ? -1 : 1)));
  });

  it('is read by a path that ends in a slash, and by the percent-encoded query key that the SDKs send', async () => {
    await admin.secrets.setSecret('slash', 'value');
    const answer = await cloud.call('GET', '/secrets/slash/?api%2Dversion=7.4');
    expect(answer.body.value).toBe('value');
  });

  it('is changed without a new version', async () => {
    const { properties } = await admin.secrets.setSecret('changed', 'value', { tags: { a: '1' } });
    const version = properties.version ?? '';
    const after = await admin.secrets.updateSecretProperties('changed', version, {
      contentType: 'text/plain',
      tags: { b: '2' },
    });
    expect(after).toMatchObject({ version, contentType: 'text/plain', tags: { b: '2' } });
    expect(await collect(admin.secrets.listPropertiesOfSecretVersions('changed'))).toHaveLength(1);
  });

  it('that is disabled cannot be read, and can be enabled again', async () => {
    const { properties } = await admin.secrets.setSecret('disabled', 'value', { enabled: false });
    const refused = await refusal(admin.secrets.getSecret('disabled'));
    expect(refused).toMatchObject({ statusCode: 403, code: 'Forbidden' });
    expect(refused.message).toBe('Operation get is not allowed on a disabled secret.');
    const raw = await cloud.call('GET', '/secrets/disabled/');
    expect(raw.error.innererror?.code).toBe('SecretDisabled');
    await admin.secrets.updateSecretProperties('disabled', properties.version ?? '', { enabled: true });
    expect((await admin.secrets.getSecret('disabled')).value).toBe('value');
  });

  it('is read after its expiry and before its start, as in Azure', async () => {
    await admin.secrets.setSecret('expired', 'value', { expiresOn: new Date(Date.now() - 86_400_000) });
    await admin.secrets.setSecret('early', 'value', { notBefore: new Date(Date.now() + 86_400_000) });
    expect((await admin.secrets.getSecret('expired')).value).toBe('value');
    expect((await admin.secrets.getSecret('early')).value).toBe('value');
  });

  it('keeps its name’s case, and is found in any', async () => {
    await admin.secrets.setSecret('Mixed-Case', 'value');
    expect((await admin.secrets.getSecret('mixed-case')).properties.id).toContain('/secrets/Mixed-Case/');
  });
});

describe('a list of secrets', () => {
  it('comes in pages of 25 without values, and the link to the next page is followed as it stands', async () => {
    const other = await testVault();
    try {
      const clients = other.as('Key Vault Administrator');
      const names = Array.from({ length: 53 }, (_, index) => `secret-${String(index).padStart(2, '0')}`);
      for (const name of names) await clients.secrets.setSecret(name, 'hidden');
      const pages: string[][] = [];
      for await (const page of clients.secrets.listPropertiesOfSecrets().byPage())
        pages.push(page.map((item) => item.name));
      expect(pages.map((page) => page.length)).toEqual([25, 25, 3]);
      expect(pages.flat()).toEqual(names);
      const raw = await other.call('GET', '/secrets?maxresults=2');
      expect(JSON.stringify(raw.body)).not.toContain('hidden');
      expect((raw.body.value as { id: string }[])[0]?.id).toBe('https://gatepost.vault.azure.net/secrets/secret-00');
      expect(raw.body.nextLink).toContain('api-version=2025-07-01');
    } finally {
      await other.close();
    }
  });

  it.each(['0', '26', 'many'])('of %s at a time is refused', async (size) => {
    expect(await cloud.call('GET', `/secrets?maxresults=${size}`)).toMatchObject({
      status: 400,
      error: { code: 'BadParameter' },
    });
  });

  it('with a forged link is refused', async () => {
    expect((await cloud.call('GET', '/secrets?$skiptoken=noise')).status).toBe(400);
  });
});

describe('a secret is refused', () => {
  it.each([
    ['without a value', {}],
    ['whose value is no text', { value: 7 }],
    ['whose tag is no text', { value: 'v', tags: { a: 1 } }],
    ['with a tag of 257 characters', { value: 'v', tags: { a: 'x'.repeat(257) } }],
    ['with 16 tags', { value: 'v', tags: Object.fromEntries(Array.from({ length: 16 }, (_, i) => [`t${i}`, 'x'])) }],
    ['with a content type of 256 characters', { value: 'v', contentType: 'x'.repeat(256) }],
    ['whose expiry is no number', { value: 'v', attributes: { exp: 'soon' } }],
    ['whose enabled is no flag', { value: 'v', attributes: { enabled: 'yes' } }],
  ])('%s', async (_case, body) => {
    const answer = await cloud.call('PUT', '/secrets/refused', { body });
    expect(answer).toMatchObject({ status: 400, error: { code: 'BadParameter' } });
    expect((await cloud.call('GET', '/secrets/refused/')).status).toBe(404);
  });

  it('above 25,600 characters, with the service’s own words', async () => {
    await admin.secrets.setSecret('largest', 'x'.repeat(25_600), { contentType: 'x'.repeat(255) });
    const refused = await refusal(admin.secrets.setSecret('larger', 'x'.repeat(25_601)));
    expect(refused).toMatchObject({ statusCode: 400, code: 'BadParameter' });
    expect(refused.message).toBe('Secret is beyond the maximum permitted length of 25600 characters.');
  });

  it.each(['under_score', 'dot.ted', 'sp ace', 'x'.repeat(128), 'ümlaut'])('under the name %s', async (name) => {
    const answer = await cloud.call('PUT', `/secrets/${encodeURIComponent(name)}`, { body: { value: 'v' } });
    expect(answer).toMatchObject({ status: 400, error: { code: 'BadParameter' } });
    expect(answer.error.message).toBe(`The request URI contains an invalid name: ${name}`);
  });

  it('as a body that is not JSON, or not an object', async () => {
    for (const text of ['{', '[]', '"text"', 'null']) {
      expect((await cloud.call('PUT', '/secrets/refused', { text })).error.code).toBe('BadParameter');
    }
  });

  it('that does not exist, by name and by version', async () => {
    const refused = await refusal(admin.secrets.getSecret('missing'));
    expect(refused).toMatchObject({ statusCode: 404, code: 'SecretNotFound' });
    expect(refused.message).toContain('A secret with (name/id) missing was not found in this key vault.');
    await admin.secrets.setSecret('present', 'value');
    const version = '0'.repeat(32);
    expect(await refusal(admin.secrets.getSecret('present', { version }))).toMatchObject({ statusCode: 404 });
  });
});

describe('a deleted secret', () => {
  it('is gone, is found among the deleted, and its name cannot be used until it is recovered', async () => {
    await admin.secrets.setSecret('deleted', 'value');
    const poller = await admin.secrets.beginDeleteSecret('deleted', { intervalInMs: 1 });
    const deleted = await poller.pollUntilDone();
    expect(deleted.recoveryId).toBe('https://gatepost.vault.azure.net/deletedsecrets/deleted');
    const days = (Number(deleted.scheduledPurgeDate) - Number(deleted.deletedOn)) / 86_400_000;
    expect(days).toBe(90);
    expect(await refusal(admin.secrets.getSecret('deleted'))).toMatchObject({
      statusCode: 404,
      code: 'SecretNotFound',
    });
    const conflict = await refusal(admin.secrets.setSecret('deleted', 'again'));
    expect(conflict).toMatchObject({ statusCode: 409, code: 'Conflict' });
    expect(conflict.message).toBe(
      'Secret deleted is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged.',
    );
    const raw = await cloud.call('PUT', '/secrets/deleted', { body: { value: 'again' } });
    expect(raw.error.innererror?.code).toBe('ObjectIsDeletedButRecoverable');
    const listed = await collect(admin.secrets.listDeletedSecrets());
    expect(listed.map((item) => item.name)).toContain('deleted');

    const recovery = await admin.secrets.beginRecoverDeletedSecret('deleted', { intervalInMs: 1 });
    await recovery.pollUntilDone();
    expect((await admin.secrets.getSecret('deleted')).value).toBe('value');
    expect(await refusal(admin.secrets.getDeletedSecret('deleted'))).toMatchObject({ statusCode: 404 });
  });

  it('that is purged is gone for good, and its name is free', async () => {
    await admin.secrets.setSecret('purged', 'value');
    await (await admin.secrets.beginDeleteSecret('purged', { intervalInMs: 1 })).pollUntilDone();
    await admin.secrets.purgeDeletedSecret('purged');
    expect(await refusal(admin.secrets.getDeletedSecret('purged'))).toMatchObject({ statusCode: 404 });
    expect((await admin.secrets.setSecret('purged', 'anew')).value).toBe('anew');
    expect(await collect(admin.secrets.listPropertiesOfSecretVersions('purged'))).toHaveLength(1);
  });

  it('is purged by the vault when its retention is over', async () => {
    const other = await testVault({ softDeleteSeconds: 1 });
    try {
      const clients = other.as('Key Vault Administrator');
      await clients.secrets.setSecret('short', 'value');
      await clients.secrets.beginDeleteSecret('short', { intervalInMs: 1 });
      await expect
        .poll(async () => (await other.call('GET', '/deletedsecrets/short')).status, { timeout: 5000, interval: 100 })
        .toBe(404);
      expect((await clients.secrets.setSecret('short', 'anew')).value).toBe('anew');
    } finally {
      await other.close();
    }
  });

  it('cannot be purged where purge protection is on', async () => {
    const other = await testVault({ purgeProtection: true, softDeleteSeconds: 7 * 86_400 });
    try {
      const clients = other.as('Key Vault Administrator');
      const { properties } = await clients.secrets.setSecret('kept', 'value');
      expect(properties).toMatchObject({ recoveryLevel: 'CustomizedRecoverable', recoverableDays: 7 });
      await (await clients.secrets.beginDeleteSecret('kept', { intervalInMs: 1 })).pollUntilDone();
      const refused = await refusal(clients.secrets.purgeDeletedSecret('kept'));
      expect(refused).toMatchObject({ statusCode: 403, code: 'Forbidden' });
      expect(refused.message).toContain(
        'Operation "purge" is not allowed because purge protection is enabled for this vault.',
      );
      expect((await clients.secrets.getDeletedSecret('kept')).name).toBe('kept');
    } finally {
      await other.close();
    }
  });

  it('that never was cannot be recovered or purged', async () => {
    expect(await cloud.call('DELETE', '/deletedsecrets/never')).toMatchObject({
      status: 404,
      error: { code: 'SecretNotFound', message: 'Deleted Secret not found: never' },
    });
    expect(await cloud.call('POST', '/deletedsecrets/never/recover')).toMatchObject({
      status: 404,
      error: {
        code: 'SecretNotFound',
        message: expect.stringContaining('A secret with (name/id) never was not found'),
      },
    });
    expect((await cloud.call('DELETE', '/secrets/never')).status).toBe(404);
  });
});

describe('a restart', () => {
  it('keeps every version and every deleted secret', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-vault-'));
    const other = await testVault({ stateFile: join(directory, 'vault.json') });
    try {
      const before = other.as('Key Vault Administrator');
      await before.secrets.setSecret('kept', 'one', { tags: { a: 'b' } });
      const { properties } = await before.secrets.setSecret('kept', 'two');
      await before.secrets.setSecret('deleted', 'value');
      await (await before.secrets.beginDeleteSecret('deleted', { intervalInMs: 1 })).pollUntilDone();
      await other.restart();
      const after = other.as('Key Vault Administrator');
      const got = await after.secrets.getSecret('kept');
      expect(got).toMatchObject({ value: 'two', properties: { version: properties.version } });
      expect(await collect(after.secrets.listPropertiesOfSecretVersions('kept'))).toHaveLength(2);
      expect((await after.secrets.getDeletedSecret('deleted')).name).toBe('deleted');
      expect(readFileSync(join(directory, 'vault.json'), 'utf8')).toContain('two');
    } finally {
      await other.close();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
