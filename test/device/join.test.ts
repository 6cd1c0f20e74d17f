import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, createServer } from 'node:net';
import { join as path } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { join, joinWithDocument } from '../../device/src/join.ts';
import { readDocument } from '../../device/src/state.ts';
import { gatewayPki, onboardingDocument, startApi, temporaryFolder, trustedRoot } from './support.ts';

const pki = await gatewayPki();
const stranger = await gatewayPki();
const pem = pki.root.certificate;
const pin = trustedRoot(pem).sha256;
const document = (sequence = 7, roots = [pem]) => onboardingDocument({ roots, port: 8883, sequence });
const quick = { timeoutMs: 2_000, sleep: async () => {} };

test('a device with the right pin and a fresh token stores its document', async () => {
  const api = await startApi({ roots: [stranger.root.certificate, pem], tokens: { 'token-1': document() } });
  const state = temporaryFolder();
  const joined = await join({ api: api.url, token: 'token-1', rootSha256: pin, state, ...quick });
  expect(joined).toEqual(document());
  expect(await readDocument(state)).toEqual(document());
  expect(api.requests).toEqual([
    `GET /api/v1/trust-bundle/roots/${pin}`,
    'GET /api/v1/trust-bundle?format=json',
    'POST /api/v1/join',
  ]);
  const origin = JSON.parse(readFileSync(path(state, 'origin.json'), 'utf8')) as object;
  expect(origin).toMatchObject({ api: `${api.url}/`, rootSha256: pin });
  for (const file of readdirSync(state)) expect(readFileSync(path(state, file), 'utf8')).not.toContain('token-1');
});

test('the pin reads as openssl prints it', async () => {
  const api = await startApi({ roots: [pem], tokens: { t: document() } });
  const rootSha256 = (pin.toUpperCase().match(/../g) ?? []).join(':');
  await join({ api: api.url, token: 't', rootSha256, state: temporaryFolder(), ...quick });
});

test('an API below a path is called there', async () => {
  const api = await startApi({ roots: [pem] });
  await join({ api: `${api.url}/below/`, token: 't', rootSha256: pin, state: temporaryFolder(), ...quick }).catch(
    () => {},
  );
  expect(api.requests[0]).toBe(`GET /below/api/v1/trust-bundle/roots/${pin}`);
});

test('a wrong pin trusts nothing, stores nothing and does not spend the token', async () => {
  const api = await startApi({ roots: [pem], tokens: { t: document() } });
  const state = path(temporaryFolder(), 'state');
  const wrong = '0'.repeat(64);
  const joining = join({ api: api.url, token: 't', rootSha256: wrong, state, ...quick });
  await expect(joining).rejects.toMatchObject({ code: 'pin_mismatch', exitCode: 4 });
  expect(api.requests).toEqual([`GET /api/v1/trust-bundle/roots/${wrong}`]);
  expect(existsSync(state)).toBe(false);
});

test('an API that serves another certificate under the pinned name is found out', async () => {
  const api = await startApi({ roots: [pem], tokens: { t: document() } });
  api.intercept = (request, response) => {
    if (!request.url?.includes('/roots/')) return false;
    response.end(stranger.root.certificate);
    return true;
  };
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state: temporaryFolder(), ...quick });
  await expect(joining).rejects.toMatchObject({ code: 'pin_mismatch' });
  expect(api.requests).toHaveLength(1);
});

test('a bundle without the pinned root is not installed, although the root itself was served', async () => {
  const api = await startApi({ roots: [pem], tokens: { t: document() } });
  api.intercept = (request, response) => {
    if (!request.url?.includes('format=json')) return false;
    response.end(
      JSON.stringify({ sequence: 7, refreshHintSeconds: 1, roots: [trustedRoot(stranger.root.certificate)] }),
    );
    return true;
  };
  const state = temporaryFolder();
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state, ...quick });
  await expect(joining).rejects.toMatchObject({ code: 'pin_mismatch' });
  expect(api.requests).not.toContain('POST /api/v1/join');
  expect(readdirSync(state)).toEqual([]);
});

test('a bundle whose fingerprints are not those of its certificates is refused before the token is spent', async () => {
  const api = await startApi({ roots: [pem], tokens: { t: document() } });
  api.intercept = (request, response) => {
    if (!request.url?.includes('format=json')) return false;
    const forged = { ...trustedRoot(stranger.root.certificate), sha256: pin };
    response.end(JSON.stringify({ sequence: 7, refreshHintSeconds: 1, roots: [forged] }));
    return true;
  };
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state: temporaryFolder(), ...quick });
  await expect(joining).rejects.toMatchObject({ code: 'bundle_invalid' });
  expect(api.requests).not.toContain('POST /api/v1/join');
});

test('a document whose trust lacks the pinned root is not stored', async () => {
  const api = await startApi({ roots: [pem], tokens: { t: document(7, [stranger.root.certificate]) } });
  const state = temporaryFolder();
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state, ...quick });
  await expect(joining).rejects.toMatchObject({ code: 'pin_mismatch' });
  expect(readdirSync(state)).toEqual([]);
});

test('a document from an instance that has not seen the newest bundle is stored with the newest bundle', async () => {
  const both = [pem, stranger.root.certificate];
  const api = await startApi({ roots: both, sequence: 8, tokens: { t: document(7) } });
  const state = temporaryFolder();
  await join({ api: api.url, token: 't', rootSha256: pin, state, ...quick });
  const { trust } = await readDocument(state);
  expect([trust.sequence, trust.roots.length]).toEqual([8, 2]);
});

test('a token that was used is refused with what to do next', async () => {
  const api = await startApi({ roots: [pem], tokens: { t: document() } });
  const options = { api: api.url, token: 't', rootSha256: pin, state: temporaryFolder(), ...quick };
  await join(options);
  await expect(join(options)).rejects.toMatchObject({
    code: 'join_token_refused',
    exitCode: 11,
    message: expect.stringMatching(/used already.*Ask for a new one/),
  });
});

test('an older bundle than the stored one is refused, and the token is kept', async () => {
  const state = temporaryFolder();
  await joinWithDocument({ document: JSON.stringify(document(9)), state });
  const api = await startApi({ roots: [pem], sequence: 8, tokens: { t: document(8) } });
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state, ...quick });
  await expect(joining).rejects.toMatchObject({ code: 'sequence_lower', exitCode: 12 });
  expect(api.requests).not.toContain('POST /api/v1/join');
});

test('a state folder that cannot be written is found before the token is spent', async () => {
  const file = path(temporaryFolder(), 'file');
  writeFileSync(file, '');
  const api = await startApi({ roots: [pem], tokens: { t: document() } });
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state: path(file, 'x'), ...quick });
  await expect(joining).rejects.toMatchObject({ code: 'state_unwritable', exitCode: 3 });
  expect(api.requests).not.toContain('POST /api/v1/join');
});

test('two 503s are waited out as long as the API asks, and a GET is tried again', async () => {
  const api = await startApi({ roots: [pem], tokens: { t: document() } });
  let failures = 2;
  api.intercept = (_request, response) => {
    if (failures === 0) return false;
    failures -= 1;
    response.writeHead(503, { 'retry-after': '4' }).end();
    return true;
  };
  const waits: number[] = [];
  const sleep = async (ms: number) => void waits.push(ms);
  await join({ api: api.url, token: 't', rootSha256: pin, state: temporaryFolder(), timeoutMs: 2_000, sleep });
  expect(waits).toEqual([4_000, 4_000]);
});

test('the token is sent once only, also when the answer is lost, and the reader is told that it may be spent', async () => {
  const api = await startApi({ roots: [pem], tokens: { t: document() } });
  api.intercept = (request) => {
    if (request.method !== 'POST') return false;
    request.socket.destroy();
    return true;
  };
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state: temporaryFolder(), ...quick });
  await expect(joining).rejects.toMatchObject({
    code: 'api_unreachable',
    message: expect.stringMatching(/may be spent/),
  });
  expect(api.requests.filter((each) => each.startsWith('POST'))).toHaveLength(1);
});

test('an answer of the API that is no success is named with its code and detail', async () => {
  const api = await startApi({ roots: [pem], tokens: { t: document() } });
  api.intercept = (request, response) => {
    if (request.method !== 'POST') return false;
    response.writeHead(504, { 'retry-after': '7' });
    response.end(JSON.stringify({ code: 'upstream_timeout', detail: 'The hub did not answer.\nSorry.' }));
    return true;
  };
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state: temporaryFolder(), ...quick });
  await expect(joining).rejects.toMatchObject({
    code: 'api_failed',
    message: expect.stringMatching(/504. upstream_timeout: The hub did not answer. Sorry. Try again in 7 s./),
  });
});

test('something that is no Gatepost API is named', async () => {
  const api = await startApi({ roots: [pem] });
  api.intercept = (request, response) => {
    response.end(request.url?.includes('/roots/') ? pem : '<html>');
    return true;
  };
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state: temporaryFolder(), ...quick });
  await expect(joining).rejects.toMatchObject({ code: 'api_failed', message: expect.stringMatching(/not JSON/) });
});

test('a redirect is not followed: the token must not travel elsewhere', async () => {
  const elsewhere = await startApi({ roots: [pem] });
  const api = await startApi({ roots: [pem] });
  api.intercept = (request, response) => {
    response.writeHead(307, { location: `${elsewhere.url}${request.url}` }).end();
    return true;
  };
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state: temporaryFolder(), ...quick });
  await expect(joining).rejects.toMatchObject({ code: 'api_failed' });
  expect(elsewhere.requests).toEqual([]);
});

test('an answer without end is cut off', async () => {
  const api = await startApi({ roots: [pem] });
  api.intercept = (_request, response) => {
    const timer = setInterval(() => response.write(Buffer.alloc(256 * 1024)), 1);
    response.on('close', () => clearInterval(timer));
    return true;
  };
  const joining = join({ api: api.url, token: 't', rootSha256: pin, state: temporaryFolder(), ...quick });
  await expect(joining).rejects.toMatchObject({
    code: 'api_unreachable',
    message: expect.stringMatching(/larger than/),
  });
});

test('an API that does not answer is given up', async () => {
  const api = await startApi({ roots: [pem] });
  api.intercept = () => true;
  const joining = join({
    api: api.url,
    token: 't',
    rootSha256: pin,
    state: temporaryFolder(),
    timeoutMs: 50,
    sleep: async () => {},
  });
  await expect(joining).rejects.toMatchObject({
    code: 'api_unreachable',
    message: expect.stringMatching(/no answer within/),
  });
});

test('nobody listening is said in one line', async () => {
  const listener = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => listener.once('listening', resolve));
  const { port } = listener.address() as AddressInfo;
  await new Promise((resolve) => listener.close(resolve));
  const joining = join({
    api: `http://127.0.0.1:${port}`,
    token: 't',
    rootSha256: pin,
    state: temporaryFolder(),
    ...quick,
  });
  await expect(joining).rejects.toMatchObject({
    code: 'api_unreachable',
    exitCode: 10,
    message: expect.stringMatching(/ECONNREFUSED/),
  });
});

test('an API whose own certificate is private says that this is the API’s and how to trust it', async () => {
  const { server } = await gatewayPki();
  const api = createTlsServer({ cert: server.chain, key: server.privateKey }, (_request, response) => response.end());
  await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void api.close());
  const { port } = api.address() as AddressInfo;
  const joining = join({
    api: `https://localhost:${port}`,
    token: 't',
    rootSha256: pin,
    state: temporaryFolder(),
    ...quick,
  });
  await expect(joining).rejects.toMatchObject({
    code: 'api_untrusted',
    exitCode: 10,
    message: expect.stringMatching(/NODE_EXTRA_CA_CERTS/),
  });
});

test.each([
  ['plain http to another machine', 'http://gatepost.example'],
  ['another scheme', 'ftp://127.0.0.1'],
  ['no URL', 'gatepost'],
])('%s is refused before anything is sent', async (_name, api) => {
  const joining = join({ api, token: 't', rootSha256: pin, state: temporaryFolder(), ...quick });
  await expect(joining).rejects.toMatchObject({ code: 'usage', exitCode: 2 });
});

test('a document that was carried over is stored, its pin checked where one is given', async () => {
  const state = temporaryFolder();
  const text = JSON.stringify(document());
  await joinWithDocument({ document: text, state });
  expect(await readDocument(state)).toEqual(document());
  await joinWithDocument({ document: text, rootSha256: pin, state });
  const wrong = joinWithDocument({ document: text, rootSha256: '1'.repeat(64), state });
  await expect(wrong).rejects.toMatchObject({ code: 'pin_mismatch' });
});

test('a carried document that is no JSON is not quoted: it may hold a key', async () => {
  const joining = joinWithDocument({ document: 'SharedAccessKey=geheim', state: temporaryFolder() });
  await expect(joining).rejects.toMatchObject({
    code: 'document_invalid',
    message: expect.not.stringMatching(/geheim/),
  });
});

test('a carried document with an intermediate only is refused', async () => {
  const text = JSON.stringify(document(7, [pki.edgeCa.certificate]));
  await expect(joinWithDocument({ document: text, state: temporaryFolder() })).rejects.toMatchObject({
    code: 'root_not_anchor',
    exitCode: 5,
  });
});
