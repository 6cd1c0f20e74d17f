import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { VaultRole } from '../../../local/vault/vault.ts';
import { refusal, type TestVault, testVault } from './support.ts';

let cloud: TestVault;
const aud = 'https://vault.azure.net';

beforeAll(async () => {
  cloud = await testVault();
  await cloud.as('Key Vault Administrator').secrets.setSecret('present', 'value');
});
afterAll(() => cloud.close());

describe('the challenge', () => {
  it('answers a request without a token with the tenant and the resource to ask a token for', async () => {
    const answer = await cloud.call('GET', '/secrets/present/', { authorization: null });
    expect(answer.status).toBe(401);
    expect(answer.headers['www-authenticate']).toBe(
      `Bearer authorization="https://login.microsoftonline.com/${cloud.entra.tenantId}", resource="https://vault.azure.net"`,
    );
    expect(answer.error).toEqual({
      code: 'Unauthorized',
      message: 'AKV10000: Request is missing a Bearer or PoP token.',
    });
  });

  it('comes before everything else: body, api-version, name and path are not looked at', async () => {
    for (const path of ['/secrets/present?api-version=none', '/secrets/under_score', '/no/such/path']) {
      expect((await cloud.call('PUT', path, { authorization: null })).status).toBe(401);
    }
  });

  it('costs the real client one request of two, the first without a body', async () => {
    const clients = cloud.as('Key Vault Administrator');
    cloud.faults.resetCalls();
    await clients.secrets.setSecret('counted', 'value');
    await clients.secrets.setSecret('counted', 'value');
    expect(cloud.faults.calls().vault).toEqual({ 'PUT /secrets/{name}': 3 });
  });
});

describe('a token is refused', () => {
  it.each([
    [
      'for another audience',
      { aud: 'https://iothubs.azure.net' },
      'AKV10022: Invalid audience. Expected https://vault.azure.net, found: https://iothubs.azure.net.',
    ],
    ['for the vault’s own URL', { aud: 'https://gatepost.vault.azure.net' }, 'AKV10022: Invalid audience'],
    [
      'of another tenant',
      { aud, issuer: 'https://sts.windows.net/other/' },
      'AKV10032: Invalid issuer. Expected one of https://sts.windows.net/',
    ],
    ['that has expired', { aud, expiresInSeconds: -600 }, '[TokenExpired]'],
    ['that is not valid yet', { aud, notBefore: Math.floor(Date.now() / 1000) + 900 }, '[TokenNotYetValid]'],
  ])('%s', async (_case, claims, message) => {
    const answer = await cloud.call('GET', '/secrets/present/', {
      authorization: `Bearer ${await cloud.entra.issue(claims)}`,
    });
    expect(answer).toMatchObject({ status: 401, error: { code: 'Unauthorized' } });
    expect(answer.error.message).toContain(message);
    expect(answer.headers['www-authenticate']).toContain('resource="https://vault.azure.net"');
  });

  it('that another key signed, that was changed, or that is none', async () => {
    const token = await cloud.token('Key Vault Administrator');
    const [header, payload] = token.split('.');
    const none = Buffer.from('{"alg":"none"}').toString('base64url');
    for (const forged of [`${header}.${payload}.AAAA`, `${none}.${payload}.`, 'noise']) {
      const answer = await cloud.call('GET', '/secrets/present/', { authorization: `Bearer ${forged}` });
      expect(answer.status).toBe(401);
    }
    expect((await cloud.call('GET', '/secrets/present/', { authorization: `Basic ${token}` })).status).toBe(401);
  });
});

describe('the api-version', () => {
  it.each([
    '/secrets/present/?api-version=none',
    '/secrets/present/?api-version=',
    '/secrets/present/?api-version=1.0',
  ])('is needed, and must be one that there is: %s', async (path) => {
    expect(await cloud.call('GET', path)).toMatchObject({ status: 400, error: { code: 'BadParameter' } });
  });

  it('may be an old one, a new one or a preview', async () => {
    for (const version of ['7.0', '7.6-preview.2', '2025-07-01', '2026-04-01']) {
      expect((await cloud.call('GET', `/secrets/present/?api-version=${version}`)).status).toBe(200);
    }
  });
});

it('what the vault does not speak is a 404 with a code', async () => {
  expect(await cloud.call('POST', '/secrets/present/backup')).toMatchObject({
    status: 404,
    error: { code: 'ResourceNotFound' },
  });
});

describe('Azure RBAC', () => {
  const all: (VaultRole | 'none')[] = [
    'Key Vault Administrator',
    'Key Vault Secrets Officer',
    'Key Vault Secrets User',
    'Key Vault Certificates Officer',
    'Key Vault Certificate User',
    'Key Vault Crypto Officer',
    'Key Vault Crypto User',
    'Key Vault Reader',
    'none',
  ];
  /** Who may; everybody else is refused. The path is of something that is not there, so that a yes changes nothing. */
  const rules: [string, string, string, (VaultRole | 'none')[]][] = [
    [
      'GET',
      '/secrets/absent/',
      'secrets/getSecret/action',
      ['Key Vault Administrator', 'Key Vault Secrets Officer', 'Key Vault Secrets User', 'Key Vault Certificate User'],
    ],
    [
      'GET',
      '/secrets/absent/versions',
      'secrets/readMetadata/action',
      [
        'Key Vault Administrator',
        'Key Vault Secrets Officer',
        'Key Vault Secrets User',
        'Key Vault Certificate User',
        'Key Vault Reader',
      ],
    ],
    ['PUT', '/secrets/absent', 'secrets/setSecret/action', ['Key Vault Administrator', 'Key Vault Secrets Officer']],
    ['PATCH', '/secrets/absent/0', 'secrets/update/action', ['Key Vault Administrator', 'Key Vault Secrets Officer']],
    ['DELETE', '/secrets/absent', 'secrets/delete', ['Key Vault Administrator', 'Key Vault Secrets Officer']],
    [
      'POST',
      '/deletedsecrets/absent/recover',
      'secrets/recover/action',
      ['Key Vault Administrator', 'Key Vault Secrets Officer'],
    ],
    [
      'DELETE',
      '/deletedsecrets/absent',
      'secrets/purge/action',
      ['Key Vault Administrator', 'Key Vault Secrets Officer'],
    ],
  ];

  it.each(rules)('%s %s needs %s', async (method, path, action, allowed) => {
    for (const role of all) {
      const answer = await cloud.call(method, path, {
        authorization: `Bearer ${await cloud.token(role)}`,
        ...(['GET', 'DELETE'].includes(method) ? {} : { body: {} }),
      });
      expect([role, answer.status === 403], role).toEqual([role, !allowed.includes(role)]);
      if (answer.status === 403)
        expect(answer.error.message).toContain(`Action: 'Microsoft.KeyVault/vaults/${action}'`);
    }
  });

  it('refuses in the service’s words, with caller, action and resource', async () => {
    const refused = await refusal(cloud.as('none').secrets.getSecret('present'));
    expect(refused).toMatchObject({ statusCode: 403, code: 'Forbidden' });
    const raw = await cloud.call('GET', '/secrets/present/', { authorization: `Bearer ${await cloud.token('none')}` });
    const { objectId, clientId } = cloud.entra.clients.find(({ name }) => name === 'none') ?? {};
    expect(raw.error.innererror?.code).toBe('ForbiddenByRbac');
    expect(raw.error.message.split('\r\n')).toEqual([
      'Caller is not authorized to perform action on resource.',
      'If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.',
      `Caller: appid=${clientId};oid=${objectId};iss=https://sts.windows.net/${cloud.entra.tenantId}/`,
      "Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'",
      "Resource: '/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/gatepost/providers/microsoft.keyvault/vaults/gatepost/secrets/present'",
      'Assignment: (not found)',
      'DenyAssignmentId: null',
      "DecisionReason: 'DeniedWithNoValidRBAC' ",
      'Vault: gatepost;location=local',
      '',
    ]);
  });
});

describe('faults', () => {
  it('carry an error document that the real client reads, and pass', async () => {
    const clients = cloud.as('Key Vault Administrator');
    cloud.faults.add({ target: 'vault', fault: { status: 503 }, times: 1 });
    expect(await refusal(clients.secrets.getSecret('present'))).toMatchObject({
      statusCode: 503,
      code: 'ServiceUnavailable',
    });
    expect((await clients.secrets.getSecret('present')).value).toBe('value');
  });

  it('can cut the answer off after the work was done', async () => {
    const clients = cloud.as('Key Vault Administrator');
    await clients.secrets.getSecret('present');
    cloud.faults.add({ target: 'vault', match: { method: 'PUT' }, fault: { cut: 'after' }, times: 1 });
    await refusal(clients.secrets.setSecret('cut', 'done'));
    expect((await clients.secrets.getSecret('cut')).value).toBe('done');
  });
});
