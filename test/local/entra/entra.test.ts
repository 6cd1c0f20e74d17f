import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { request as plainRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ClientSecretCredential, ManagedIdentityCredential } from '@azure/identity';
import { createLocalJWKSet, createRemoteJWKSet, customFetch, decodeJwt, decodeProtectedHeader, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startEntra } from '../../../local/entra/entra.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';
import { call, clientNamed, form, type TestEntra, testEntra } from './support.ts';

let cloud: TestEntra;

beforeAll(async () => {
  cloud = await testEntra();
});
afterAll(() => cloud.entra.close());

/** jose fetches with the global fetch, which takes no CA: this gives it the test's own. */
function remoteKeys(url: string) {
  return createRemoteJWKSet(new URL(url), {
    [customFetch]: async (address) => {
      const answer = await call(String(address), cloud.ca);
      return new Response(answer.text, { status: answer.status });
    },
  });
}

function credential(name: string, overrides: { tenantId?: string; clientId?: string; secret?: string } = {}) {
  const client = clientNamed(cloud.entra, name);
  return new ClientSecretCredential(
    overrides.tenantId ?? cloud.entra.tenantId,
    overrides.clientId ?? client.clientId,
    overrides.secret ?? client.clientSecret,
    {
      authorityHost: `https://localhost:${cloud.entra.port}`,
      disableInstanceDiscovery: true,
      tlsOptions: { ca: cloud.ca },
      retryOptions: { maxRetries: 0 },
    },
  );
}

describe('a client with its secret', () => {
  it('gets a token through @azure/identity that jose verifies with nothing but the issuer', async () => {
    const got = await credential('operator').getToken(`${cloud.entra.audience}/.default`);
    const metadata = await call(`${cloud.entra.issuer}/.well-known/openid-configuration`, cloud.ca);
    const { jwks_uri: keys, issuer } = metadata.json() as { jwks_uri: string; issuer: string };
    const { payload, protectedHeader } = await jwtVerify(got?.token ?? '', remoteKeys(keys), {
      issuer,
      audience: cloud.entra.audience,
      algorithms: ['RS256'],
    });
    const operator = clientNamed(cloud.entra, 'operator');
    expect(protectedHeader).toMatchObject({ alg: 'RS256', typ: 'JWT' });
    expect(payload).toMatchObject({
      ver: '2.0',
      tid: cloud.entra.tenantId,
      azp: operator.clientId,
      azpacr: '1',
      oid: operator.objectId,
      sub: operator.objectId,
      roles: ['Trust.Read', 'Trust.Manage', 'Fleet.Read', 'Fleet.Provision', 'Credential.Issue', 'Audit.Read'],
    });
    expect(payload.uti).toMatch(/^[\w-]{22}$/);
    // Entra ID dates tokens back by five minutes and gives them an hour from now.
    expect(Number(payload.exp) - Number(payload.iat)).toBe(3900);
    expect(Number(got?.expiresOnTimestamp) / 1000).toBeCloseTo(Number(payload.exp), -1);
  });

  it.each([
    ['factory', ['Fleet.Read', 'Fleet.Provision', 'Credential.Issue', 'Trust.Read']],
    ['reader', ['Fleet.Read', 'Trust.Read']],
    ['nobody', undefined],
  ])('%s holds exactly its roles', async (name, roles) => {
    const got = await credential(name).getToken(`${cloud.entra.audience}/.default`);
    expect(decodeJwt(got?.token ?? '').roles).toEqual(roles);
  });

  it.each(['https://iothubs.azure.net', 'https://vault.azure.net', 'https://storage.azure.com'])(
    'gets a v1.0 token without the API roles for %s',
    async (resource) => {
      const got = await credential('operator').getToken(`${resource}/.default`);
      const claims = decodeJwt(got?.token ?? '');
      expect(claims).toMatchObject({
        aud: resource,
        ver: '1.0',
        iss: `https://sts.windows.net/${cloud.entra.tenantId}/`,
        appid: clientNamed(cloud.entra, 'operator').clientId,
        appidacr: '1',
        idtyp: 'app',
      });
      expect(claims.roles).toBeUndefined();
      expect(await cloud.entra.verify(got?.token ?? '', resource)).toEqual({
        oid: clientNamed(cloud.entra, 'operator').objectId,
        aud: resource,
      });
    },
  );

  it('may send its secret as Basic, form-encoded', async () => {
    const { clientId, clientSecret } = clientNamed(cloud.entra, 'reader');
    const { method, headers, body } = form({ grant_type: 'client_credentials', scope: 'api://gatepost/.default' });
    const encoded = Buffer.from(`${encodeURIComponent(clientId)}:${encodeURIComponent(clientSecret)}`).toString(
      'base64',
    );
    const answer = await call(cloud.entra.tokenUrl, cloud.ca, {
      method,
      headers: { ...headers, authorization: `Basic ${encoded}` },
      body,
    });
    expect(answer.status).toBe(200);
    expect(answer.headers['cache-control']).toContain('no-store');
    expect(answer.json()).toMatchObject({ token_type: 'Bearer', expires_in: 3599, ext_expires_in: 3599 });
  });

  it('is answered with the client id as audience where the API is set up for it', async () => {
    const audience = '9f2c1a7e-4b8d-4f5e-8a6b-3c1d2e4f5a6b';
    const other = await testEntra({ audience });
    try {
      const { clientId, clientSecret } = clientNamed(other.entra, 'reader');
      const fields = { grant_type: 'client_credentials', client_id: clientId, client_secret: clientSecret };
      const answer = await call(other.entra.tokenUrl, other.ca, form({ ...fields, scope: `${audience}/.default` }));
      expect(decodeJwt(String(answer.json().access_token)).aud).toBe(audience);
    } finally {
      await other.entra.close();
    }
  });
});

describe('a token request is refused', () => {
  const good = () => {
    const { clientId, clientSecret } = clientNamed(cloud.entra, 'operator');
    return {
      grant_type: 'client_credentials',
      client_id: clientId,
      client_secret: clientSecret,
      scope: `${cloud.entra.audience}/.default`,
    };
  };
  const without = (name: string) => Object.fromEntries(Object.entries(good()).filter(([key]) => key !== name));

  it.each([
    [
      'for a client that the tenant does not know',
      () => ({ ...good(), client_id: 'a4a4a4a4-0000-4000-8000-000000000000' }),
      400,
      'unauthorized_client',
      700016,
    ],
    ['for a wrong secret', () => ({ ...good(), client_secret: 'wrong' }), 401, 'invalid_client', 7000215],
    ['without a secret', () => without('client_secret'), 401, 'invalid_client', 7000218],
    [
      'for a resource that the tenant does not know',
      () => ({ ...good(), scope: 'api://other/.default' }),
      400,
      'invalid_resource',
      500011,
    ],
    ['for another grant', () => ({ ...good(), grant_type: 'password' }), 400, 'unsupported_grant_type', 70003],
    ['without a grant', () => without('grant_type'), 400, 'invalid_request', 900144],
    ['without a client', () => without('client_id'), 400, 'invalid_request', 900144],
    ['without a scope', () => without('scope'), 400, 'invalid_request', 900144],
    [
      'for a scope that is not /.default',
      () => ({ ...good(), scope: 'api://gatepost/Fleet.Read' }),
      400,
      'invalid_scope',
      1002012,
    ],
    [
      'for several scopes',
      () => ({ ...good(), scope: 'api://gatepost/.default https://vault.azure.net/.default' }),
      400,
      'invalid_scope',
      70011,
    ],
  ])('%s', async (_case, fields, status, error, number) => {
    const sent = form(fields());
    const answer = await call(cloud.entra.tokenUrl, cloud.ca, {
      ...sent,
      headers: { ...sent.headers, 'client-request-id': '11111111-2222-4333-8444-555555555555' },
    });
    expect(answer.status).toBe(status);
    expect(answer.json()).toMatchObject({
      error,
      error_codes: [number],
      correlation_id: '11111111-2222-4333-8444-555555555555',
      error_uri: `https://login.microsoftonline.com/error?code=${number}`,
    });
    expect(String(answer.json().error_description)).toMatch(
      new RegExp(`^AADSTS${number}: .* Trace ID: \\S+ Correlation ID: 11111111-\\S+ Timestamp: .*Z$`),
    );
    expect(answer.text).not.toContain(good().client_secret);
  });

  it('when its body is JSON: the first parameter is missing', async () => {
    const answer = await call(cloud.entra.tokenUrl, cloud.ca, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(good()),
    });
    expect(answer.status).toBe(400);
    expect(answer.json().error_description).toContain("must contain the following parameter: 'grant_type'");
  });

  it('when it is a GET', async () => {
    const answer = await call(cloud.entra.tokenUrl, cloud.ca);
    expect(answer.json().error_codes).toEqual([900561]);
  });

  it('for another tenant, at every endpoint', async () => {
    const stranger = 'bbbbbbbb-0000-4000-8000-000000000000';
    for (const [url, sent] of [
      [cloud.entra.tokenUrl, form(good())],
      [`${cloud.entra.issuer}/.well-known/openid-configuration`, {}],
      [`https://localhost:${cloud.entra.port}/${cloud.entra.tenantId}/discovery/v2.0/keys`, {}],
    ] as const) {
      const answer = await call(url.replace(cloud.entra.tenantId, stranger), cloud.ca, sent);
      expect(answer.status).toBe(400);
      expect(answer.json().error_codes).toEqual([90002]);
    }
  });

  it('so that @azure/identity says which way the caller was wrong', async () => {
    await expect(credential('operator', { secret: 'wrong' }).getToken('api://gatepost/.default')).rejects.toThrow(
      /AADSTS7000215/,
    );
    const stranger = credential('operator', { clientId: 'a4a4a4a4-0000-4000-8000-000000000000' });
    await expect(stranger.getToken('api://gatepost/.default')).rejects.toThrow(/AADSTS700016/);
    await expect(credential('operator').getToken('api://other/.default')).rejects.toThrow(/AADSTS500011/);
  });
});

describe('the metadata', () => {
  it('of v2.0 names this tenant’s issuer, keys and token endpoint', async () => {
    const metadata = (await call(`${cloud.entra.issuer}/.well-known/openid-configuration`, cloud.ca)).json();
    expect(metadata).toMatchObject({
      issuer: cloud.entra.issuer,
      token_endpoint: cloud.entra.tokenUrl,
      jwks_uri: `https://localhost:${cloud.entra.port}/${cloud.entra.tenantId}/discovery/v2.0/keys`,
    });
  });

  it('of v1.0 names the security token service as issuer', async () => {
    const url = `https://localhost:${cloud.entra.port}/${cloud.entra.tenantId}/.well-known/openid-configuration`;
    const metadata = (await call(url, cloud.ca)).json();
    expect(metadata.issuer).toBe(`https://sts.windows.net/${cloud.entra.tenantId}/`);
  });

  it('leads to keys that hold nothing private', async () => {
    const url = `https://localhost:${cloud.entra.port}/${cloud.entra.tenantId}/discovery/v2.0/keys`;
    const { keys } = (await call(url, cloud.ca)).json() as { keys: Record<string, unknown>[] };
    expect(keys).toHaveLength(1);
    expect(Object.keys(keys[0] ?? {}).sort()).toEqual(['e', 'issuer', 'kid', 'kty', 'n', 'use', 'x5c', 'x5t']);
    expect(keys[0]?.kid).toBe(keys[0]?.x5t);
  });
});

describe('verify, for the other doubles', () => {
  const aud = 'https://vault.azure.net';

  it('takes a token that issue() made and answers who it is', async () => {
    const token = await cloud.entra.issue({ aud, oid: 'an-object' });
    expect(await cloud.entra.verify(token, aud)).toEqual({ oid: 'an-object', aud });
  });

  it.each([
    ['for another audience', { aud: 'https://iothubs.azure.net' }],
    ['that has expired', { aud, expiresInSeconds: -600 }],
    ['that is not valid yet', { aud, notBefore: Math.floor(Date.now() / 1000) + 900 }],
    ['of another issuer', { aud, issuer: 'https://sts.windows.net/other/' }],
  ])('refuses a token %s', async (_case, claims) => {
    expect(await cloud.entra.verify(await cloud.entra.issue(claims), aud)).toBeUndefined();
  });

  it('refuses a token of another tenant’s key, one that was changed, one without a signature, and noise', async () => {
    const other = await testEntra({ tenantId: cloud.entra.tenantId });
    const foreign = await other.entra.issue({ aud });
    await other.entra.close();
    const [header, , signature] = (await cloud.entra.issue({ aud })).split('.');
    const forged = Buffer.from(JSON.stringify({ ...decodeJwt(foreign), oid: 'me' })).toString('base64url');
    const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'JWT' })).toString('base64url');
    for (const token of [foreign, `${header}.${forged}.${signature}`, `${none}.${forged}.`, 'noise', '']) {
      expect(await cloud.entra.verify(token, aud)).toBeUndefined();
    }
  });
});

describe('the managed identity', () => {
  function appService<T>(act: () => Promise<T>): Promise<T> {
    const before = { endpoint: process.env.IDENTITY_ENDPOINT, header: process.env.IDENTITY_HEADER };
    process.env.IDENTITY_ENDPOINT = cloud.entra.managedIdentity.endpoint;
    process.env.IDENTITY_HEADER = cloud.entra.managedIdentity.header;
    return act().finally(() => {
      for (const [name, value] of [
        ['IDENTITY_ENDPOINT', before.endpoint],
        ['IDENTITY_HEADER', before.header],
      ] as const) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    });
  }

  function ask(
    query: Record<string, string>,
    headers: Record<string, string>,
  ): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const url = `${cloud.entra.managedIdentity.endpoint}?${new URLSearchParams(query)}`;
      const sent = plainRequest(url, { headers }, (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += String(chunk);
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      });
      sent.on('error', reject);
      sent.end();
    });
  }

  it.each(['https://iothubs.azure.net', 'https://vault.azure.net', 'https://storage.azure.com'])(
    'gets a token for %s through @azure/identity',
    async (resource) => {
      const { clientId, objectId } = cloud.entra.managedIdentity;
      const got = await appService(() => new ManagedIdentityCredential({ clientId }).getToken(`${resource}/.default`));
      expect(decodeJwt(got.token)).toMatchObject({ aud: resource, oid: objectId, appid: clientId, appidacr: '2' });
      expect(decodeProtectedHeader(got.token).kid).toBeDefined();
      expect(await cloud.entra.verify(got.token, resource)).toEqual({ oid: objectId, aud: resource });
      expect(got.expiresOnTimestamp).toBeGreaterThan(Date.now() + 3_500_000);
    },
  );

  it('is one of two that the app has, each asked for by its own id', async () => {
    const { managedIdentity: own, trustManager } = cloud.entra;
    const scope = 'https://vault.azure.net/.default';
    for (const { clientId, objectId } of [own, trustManager]) {
      const got = await appService(() => new ManagedIdentityCredential({ clientId }).getToken(scope));
      expect(decodeJwt(got.token)).toMatchObject({ oid: objectId, appid: clientId });
    }
    expect(trustManager.clientId).not.toBe(own.clientId);
    const query = {
      'api-version': '2019-08-01',
      resource: 'https://vault.azure.net',
      object_id: trustManager.objectId,
    };
    const answer = JSON.parse((await ask(query, { 'x-identity-header': own.header })).text) as Record<string, unknown>;
    expect(answer.client_id).toBe(trustManager.clientId);
  });

  it('answers as App Service does: expires_on is a string of seconds', async () => {
    const { clientId, header } = cloud.entra.managedIdentity;
    const query = { 'api-version': '2019-08-01', resource: 'https://vault.azure.net', client_id: clientId };
    const answer = JSON.parse((await ask(query, { 'x-identity-header': header })).text) as Record<string, unknown>;
    expect(answer).toMatchObject({ resource: 'https://vault.azure.net', token_type: 'Bearer', client_id: clientId });
    expect(answer.expires_on).toMatch(/^\d{10}$/);
  });

  it('is refused to a request without the header, and to one with a wrong one', async () => {
    const query = { 'api-version': '2019-08-01', resource: 'https://vault.azure.net' };
    expect((await ask(query, {})).status).toBe(401);
    expect((await ask(query, { 'x-identity-header': 'guess' })).status).toBe(401);
  });

  it('is refused for another api-version, without a resource, and for an unknown resource', async () => {
    const { clientId, header } = cloud.entra.managedIdentity;
    const headers = { 'x-identity-header': header };
    const good = { 'api-version': '2019-08-01', resource: 'https://vault.azure.net', client_id: clientId };
    expect((await ask(good, headers)).status).toBe(200);
    expect((await ask({ ...good, 'api-version': '2017-09-01' }, headers)).status).toBe(400);
    expect((await ask({ ...good, resource: '' }, headers)).status).toBe(400);
    expect((await ask({ ...good, resource: 'https://graph.example' }, headers)).status).toBe(400);
  });

  it('is refused to an app that asks for a system-assigned identity or for a stranger’s', async () => {
    const scope = 'https://vault.azure.net/.default';
    const ofSystem = appService(() => new ManagedIdentityCredential().getToken(scope));
    await expect(ofSystem).rejects.toThrow(/No User Assigned or Delegated Managed Identity found/);
    const clientId = 'a4a4a4a4-0000-4000-8000-000000000000';
    const ofStranger = appService(() => new ManagedIdentityCredential({ clientId }).getToken(scope));
    await expect(ofStranger).rejects.toThrow(/No User Assigned or Delegated Managed Identity found/);
  });
});

describe('a restart', () => {
  it('keeps the key, the tenant, its clients and the identity, so that a token from before is still good', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'gatepost-entra-'));
    const stateFile = join(directory, 'entra.json');
    try {
      const first = await testEntra({ stateFile });
      const token = await first.entra.issue({ aud: 'https://vault.azure.net', oid: 'an-object' });
      await first.entra.close();
      expect(statSync(stateFile).mode & 0o777).toBe(0o600);
      const second = await startEntra({ faults: new FaultSwitch(), tls: first.tls, stateFile });
      try {
        expect(await second.verify(token, 'https://vault.azure.net')).toMatchObject({ oid: 'an-object' });
        expect(second.tenantId).toBe(first.entra.tenantId);
        expect(second.clients).toEqual(first.entra.clients);
        expect(second.managedIdentity.clientId).toBe(first.entra.managedIdentity.clientId);
      } finally {
        await second.close();
      }
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe('faults', () => {
  it('strike the token endpoint, and its calls are counted by template', async () => {
    const other = await testEntra();
    try {
      other.faults.add({
        target: 'entra',
        match: { path: '/oauth2/v2.0/token' },
        fault: { status: 503, retryAfter: 7 },
        times: 1,
      });
      const answer = await call(other.entra.tokenUrl, other.ca, form({}));
      expect([answer.status, answer.headers['retry-after']]).toEqual([503, '7']);
      expect((await call(other.entra.tokenUrl, other.ca, form({}))).status).toBe(400);
      expect(other.faults.calls().entra).toEqual({ 'POST /{tenant}/oauth2/v2.0/token': 2 });
    } finally {
      await other.entra.close();
    }
  });

  it('leave the public keys at hand without a request', async () => {
    const keys = createLocalJWKSet(cloud.entra.jwks() as { keys: [] });
    const token = await cloud.entra.issue({ aud: cloud.entra.audience, roles: ['Fleet.Read'] });
    const { payload } = await jwtVerify(token, keys, { audience: cloud.entra.audience, issuer: cloud.entra.issuer });
    expect(payload.roles).toEqual(['Fleet.Read']);
  });
});
