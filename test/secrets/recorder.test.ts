import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { findLeaks, type Secret } from './search.ts';

const recorder = pathToFileURL(join(import.meta.dirname, 'recorder.ts')).href;
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** Runs `body` in a process of its own, with a server that answers what `answer(request, body)` says, and reads the evidence. */
function record(answer: string, body: string) {
  const folder = mkdtempSync(join(tmpdir(), 'gatepost-recorder-'));
  folders.push(folder);
  const script = join(folder, 'script.mjs');
  writeFileSync(
    script,
    `import { createServer } from 'node:http';
     import { spawn } from 'node:child_process';
     import { once } from 'node:events';
     const answer = ${answer};
     const server = createServer(async (request, response) => {
       const chunks = [];
       for await (const chunk of request) chunks.push(chunk);
       const { status = 200, type = 'application/json', body } = answer(request, Buffer.concat(chunks).toString());
       response.writeHead(status, { 'content-type': type });
       response.write(body.slice(0, 3));
       response.end(body.slice(3));
     }).listen(0, '127.0.0.1');
     await once(server, 'listening');
     const url = 'http://127.0.0.1:' + server.address().port;
     ${body}
     server.close();
     server.closeAllConnections();`,
  );
  const env = { ...process.env, GATEPOST_EVIDENCE: join(folder, 'evidence') };
  const { status, stderr } = spawnSync(process.execPath, ['--import', recorder, script], { env, encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  const read = (prefix: string) =>
    readdirSync(env.GATEPOST_EVIDENCE)
      .filter((name) => name.startsWith(prefix))
      .map((name) => ({ name, text: readFileSync(join(env.GATEPOST_EVIDENCE, name), 'latin1') }));
  const secrets = read('secrets.').flatMap(({ text }) =>
    text
      .split('\n')
      .filter(Boolean)
      .map((line): Secret => JSON.parse(line)),
  );
  return { secrets, written: read('written.') };
}

const key = () => randomBytes(32).toString('base64');

describe('the recorder learns a secret', () => {
  it.each([
    ['that a double answers', (secret: string) => `{ authentication: { symmetricKey: { primaryKey: '${secret}' } } }`],
    [
      'inside a connection string',
      (secret: string) => `{ connectionString: 'HostName=h;DeviceId=d;SharedAccessKey=${secret};GatewayHostName=g' }`,
    ],
    ['that is a join token', (secret: string) => `{ token: '${secret}' }`],
  ])('%s', (_what, json) => {
    const secret = key();
    const { secrets } = record(
      `() => ({ body: JSON.stringify(${json(secret)}) })`,
      `await (await fetch(url + '/x')).text();`,
    );
    expect(secrets.map(({ value }) => value)).toContain(secret);
  });

  it('in the credential of a caller and in a form', () => {
    const [token, secret] = [
      `eyJ${key().replace(/\W/g, '')}.${key().replace(/\W/g, '')}.${key().replace(/\W/g, '')}`,
      key(),
    ];
    const { secrets } = record(
      `() => ({ body: '{}' })`,
      `await fetch(url + '/token', { method: 'POST', headers: { authorization: 'Bearer ${token}' }, body: new URLSearchParams({ client_secret: '${secret}' }) });`,
    );
    expect(secrets.map(({ value }) => value).sort()).toEqual([token, secret].sort());
  });
});

describe('a leak is found', () => {
  it.each([
    [
      'in a row of storage',
      `await fetch(url + '/devstoreaccount1/Audit', { method: 'POST', body: JSON.stringify({ note: 'key KEY' }) });`,
    ],
    ['in a trace', `await fetch(url + '/v1/traces', { method: 'POST', body: JSON.stringify({ name: 'key KEY' }) });`],
    ['in a problem', `await fetch(url + '/api/v1/devices/refused');`],
    ['in an answer that is not meant to hold a credential', `await fetch(url + '/api/v1/devices/d1');`],
    ['in the output of a child', `await once(spawn(process.execPath, ['-e', 'console.log("using KEY")']), 'close');`],
    ['in the errors of a child', `await once(spawn(process.execPath, ['-e', 'console.error("using KEY")']), 'close');`],
    ['in the errors of a double', `process.stdout.write('using KEY');`],
  ])('%s', (_what, body) => {
    const secret = key();
    const answer = `(request) => request.url === '/api/v1/devices/refused'
      ? { status: 400, type: 'application/problem+json', body: '{"detail":"bad ${secret}"}' }
      : { body: '{"primaryKey":"${secret}"}' }`;
    const { secrets, written } = record(
      answer,
      `await (await fetch(url + '/hub')).text();\n${body.replace('KEY', secret)}`,
    );
    expect(findLeaks(written, secrets)).toEqual([expect.objectContaining({ kind: 'device key' })]);
  });

  it('and none where only the calls that hand out a credential answered one', () => {
    const secret = key();
    const { secrets, written } = record(
      `() => ({ body: '{"connectionString":"HostName=h;DeviceId=d;SharedAccessKey=${secret}"}' })`,
      `await fetch(url + '/api/v1/devices/d1/connection-string', { method: 'POST' });`,
    );
    expect(secrets).toHaveLength(1);
    expect(findLeaks(written, secrets)).toEqual([]);
  });
});
