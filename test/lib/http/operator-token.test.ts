import { generateKeyPairSync } from 'node:crypto';
import type { Agent } from 'node:https';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { azureAgent } from '../../../lib/azure/transport.ts';
import { jsonReader } from '../../../lib/http/get-json.ts';
import { type OperatorTokens, operatorTokens } from '../../../lib/http/operator-token.ts';
import type { Role } from '../../../lib/http/route.ts';
import { createLog } from '../../../lib/telemetry.ts';
import { type Entra, startEntra } from '../../../local/entra/entra.ts';
import { developmentCa, issue } from '../../../local/kit/certificates.ts';
import { FaultSwitch } from '../../../local/kit/faults.ts';

const faults = new FaultSwitch();
const log = createLog(() => {});
let entra: Entra;
let agent: Agent;
let verify: OperatorTokens;
let clock = 0;

beforeAll(async () => {
  const ca = await developmentCa(undefined);
  const certificate = await issue(ca, { commonName: 'localhost', names: ['localhost'] });
  entra = await startEntra({ faults, tls: { cert: certificate.chain, key: certificate.privateKey } });
  agent = azureAgent({ local: { endpoints: {}, ca: ca.certificate } });
});

afterAll(async () => {
  agent.destroy();
  await entra.close();
});

beforeEach(() => {
  faults.clear();
  faults.resetCalls();
  clock = Date.now();
  verify = newVerifier();
});

function newVerifier(timeoutMs = 1000): OperatorTokens {
  return operatorTokens({
    issuer: entra.issuer,
    audiences: [entra.audience, 'aaaaaaaa-1111-4222-8333-444455556666'],
    getJson: jsonReader(agent, timeoutMs),
    clock: () => new Date(clock),
  });
}

function caller(
  token: string | undefined,
  roles: readonly Role[] = ['Trust.Read'],
  others: Record<string, string> = {},
) {
  const headers = new Headers({ ...others, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) });
  return verify(roles, { headers, params: {}, log });
}

const good = () => entra.issue({ aud: entra.audience, roles: ['Trust.Read'], oid: 'object-1', appid: 'app-1' });

describe('an operator token', () => {
  it('proves its bearer and the roles', async () => {
    expect(await caller(await good())).toEqual({
      plane: 'operator',
      objectId: 'object-1',
      name: 'app-1',
      roles: ['Trust.Read'],
    });
  });

  it('is taken for any of the audiences by which the API is known', async () => {
    const token = await entra.issue({ aud: 'aaaaaaaa-1111-4222-8333-444455556666', roles: ['Trust.Read'] });
    await expect(caller(token)).resolves.toMatchObject({ plane: 'operator' });
  });

  it('is asked for where there is none', async () => {
    await expect(caller(undefined)).rejects.toMatchObject({ code: 'token_missing', status: 401 });
    await expect(
      caller(undefined, ['Trust.Read'], { authorization: 'SharedAccessSignature sr=a' }),
    ).rejects.toMatchObject({ code: 'token_missing' });
  });

  it('is never replaced by x-ms-client-principal, which anybody can send', async () => {
    const principal = Buffer.from(JSON.stringify({ claims: [{ typ: 'roles', val: 'Trust.Manage' }] })).toString(
      'base64',
    );
    await expect(
      caller(undefined, ['Trust.Manage'], { 'x-ms-client-principal': principal, 'x-ms-client-principal-id': 'me' }),
    ).rejects.toMatchObject({ code: 'token_missing' });
    await expect(caller(await good(), ['Trust.Manage'], { 'x-ms-client-principal': principal })).rejects.toMatchObject({
      code: 'role_missing',
    });
  });

  it('is told to be renewed where it has expired, with a minute of skew', async () => {
    const token = (expiresInSeconds: number) =>
      entra.issue({
        aud: entra.audience,
        roles: ['Trust.Read'],
        expiresInSeconds,
        notBefore: Math.floor(clock / 1000) - 7200,
      });
    await expect(caller(await token(-30))).resolves.toMatchObject({ plane: 'operator' });
    await expect(caller(await token(-90))).rejects.toMatchObject({ code: 'token_expired', status: 401 });
  });

  it('is refused for a foreign audience, a foreign issuer, or a time to come', async () => {
    const claims = { aud: entra.audience, roles: ['Trust.Read'] };
    const tokens = [
      await entra.issue({ ...claims, aud: 'api://another' }),
      await entra.issue({ ...claims, issuer: 'https://login.microsoftonline.com/other/v2.0' }),
      await entra.issue({ ...claims, notBefore: Math.floor(clock / 1000) + 600 }),
    ];
    for (const token of tokens)
      await expect(caller(token)).rejects.toMatchObject({ code: 'token_invalid', status: 401 });
  });

  it('is refused unsigned (alg none), signed with a secret, or by another key of the same id', async () => {
    const payload = { roles: ['Trust.Read'] };
    const claims = (builder: SignJWT) =>
      builder.setIssuer(entra.issuer).setAudience(entra.audience).setExpirationTime('1h').setIssuedAt();
    const [{ kid }] = (entra.jwks() as { keys: [{ kid: string }] }).keys;
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const [header, body] = (await good()).split('.');
    const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'JWT' })).toString('base64url');
    const tokens = [
      `${none}.${body}.`,
      `${header}.${body}.`,
      await claims(new SignJWT(payload)).setProtectedHeader({ alg: 'HS256', kid }).sign(new Uint8Array(32)),
      await claims(new SignJWT(payload)).setProtectedHeader({ alg: 'RS256', kid }).sign(privateKey),
      await claims(new SignJWT(payload)).setProtectedHeader({ alg: 'PS256', kid }).sign(privateKey),
      await claims(new SignJWT(payload)).setProtectedHeader({ alg: 'RS256', kid: 'unknown' }).sign(privateKey),
      'not-a-token',
      'a.b.c',
    ];
    for (const token of tokens) await expect(caller(token)).rejects.toMatchObject({ code: 'token_invalid' });
  });

  it('is refused without a role that the route needs', async () => {
    await expect(caller(await good(), ['Trust.Manage'])).rejects.toMatchObject({ code: 'role_missing', status: 403 });
    const nobody = await entra.issue({ aud: entra.audience });
    await expect(caller(nobody)).rejects.toMatchObject({ code: 'role_missing' });
    await expect(caller(await good(), ['Trust.Manage', 'Trust.Read'])).resolves.toMatchObject({ plane: 'operator' });
  });
});

describe('the keys of the tenant', () => {
  const reads = () => Object.values(faults.calls().entra).reduce((sum, count) => sum + count, 0);

  it('are found once, however many tokens are verified', async () => {
    const token = await good();
    await Promise.all(Array.from({ length: 10 }, () => caller(token)));
    await caller(token);
    expect(reads()).toBe(2);
  });

  it('are not asked for again and again by tokens of unknown keys', async () => {
    await caller(await good());
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    for (let count = 0; count < 5; count += 1) {
      const token = await new SignJWT({}).setProtectedHeader({ alg: 'RS256', kid: `new-${count}` }).sign(privateKey);
      await expect(caller(token)).rejects.toMatchObject({ code: 'token_invalid' });
    }
    expect(reads()).toBe(2);
  });

  it.each([
    ['fails', { status: 503 }],
    ['hangs', { hang: true }],
    ['cuts the connection', { cut: 'before' }],
  ])('leave a caller with a clear 503 where Entra ID %s', async (_how, fault) => {
    verify = newVerifier(300);
    faults.add({ target: 'entra', fault });
    await expect(caller(await good())).rejects.toMatchObject({ code: 'upstream_unavailable', status: 503 });
  });

  it('leave a caller with a 503, not a 401, where only the JWKS cannot be read', async () => {
    verify = newVerifier(300);
    faults.add({ target: 'entra', match: { path: 'keys' }, fault: { status: 500 } });
    await expect(caller(await good())).rejects.toMatchObject({ code: 'upstream_unavailable' });
  });

  it('are waited for by one caller only while Entra ID fails', async () => {
    faults.add({ target: 'entra', fault: { status: 503 } });
    const token = await good();
    for (let count = 0; count < 4; count += 1) {
      await expect(caller(token)).rejects.toMatchObject({ code: 'upstream_unavailable' });
    }
    expect(reads()).toBe(1);
    faults.clear();
    clock += 3_000;
    await expect(caller(token)).resolves.toMatchObject({ plane: 'operator' });
  });

  it('are still good for a day where Entra ID has gone away', async () => {
    const token = await entra.issue({ aud: entra.audience, roles: ['Trust.Read'], expiresInSeconds: 10 * 3600 });
    await caller(token);
    faults.add({ target: 'entra', fault: { status: 503 } });
    clock += 2 * 3600_000;
    await expect(caller(token)).resolves.toMatchObject({ plane: 'operator' });
  });
});
