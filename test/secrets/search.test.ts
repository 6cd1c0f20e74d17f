import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { findLeaks } from './search.ts';

const key = randomBytes(32).toString('base64').replace(/^../, '+/');
const jwt = `eyJ${randomBytes(30).toString('base64url')}.${randomBytes(90).toString('base64url')}.${randomBytes(64).toString('base64url')}`;
const sig = encodeURIComponent(randomBytes(32).toString('base64'));
const sas = `SharedAccessSignature sr=hub%2Fdevices%2Fd1&sig=${sig}&se=1800000000`;
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = pair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
const rsaPair = generateKeyPairSync('rsa', { modulusLength: 2048 });
const rsaPem = rsaPair.privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
const der = pair.privateKey.export({ type: 'pkcs8', format: 'der' });
const jwk = pair.privateKey.export({ format: 'jwk' });
const noise = () => `${randomBytes(40).toString('base64')} {"event":"request","status":200} `;

function leaksIn(text: string, value: string) {
  return findLeaks([{ name: 'a log', text: `${noise()}${text}${noise()}` }], [{ kind: 'a secret', value }]);
}

describe('a planted secret is found', () => {
  const planted: [string, string, string][] = [
    ['a key as it is', key, `Using ${key} for d1`],
    ['a key at the very start of a line', key, `\n${key}`],
    ['a key in a URL', key, `?code=${encodeURIComponent(key)}&x=1`],
    [
      'a key in a URL in lower-case escapes',
      key,
      encodeURIComponent(key).toLowerCase() === key
        ? key
        : encodeURIComponent(key).replace(/%../g, (code) => code.toLowerCase()),
    ],
    ['a key in JSON within JSON', key, JSON.stringify(JSON.stringify({ connection: `SharedAccessKey=${key};X=1` }))],
    ['a key with escaped slashes', key, key.replaceAll('/', '\\/')],
    ['a key as base64url', key, Buffer.from(key, 'base64').toString('base64url')],
    ['the bytes of a key in hex', key, Buffer.from(key, 'base64').toString('hex')],
    ['the bytes of a key in upper-case hex', key, Buffer.from(key, 'base64').toString('hex').toUpperCase()],
    ['a key inside a base64 text, first alignment', key, Buffer.from(`abc${key}defg`).toString('base64')],
    ['a key inside a base64 text, second alignment', key, Buffer.from(`abcd${key}defg`).toString('base64')],
    ['a key inside a base64 text, third alignment', key, Buffer.from(`abcde${key}defg`).toString('base64')],
    ['an access token', jwt, `authorization: Bearer ${jwt}`],
    ['the signature of an access token alone', jwt, `sig ${jwt.split('.')[2]}`],
    ['a SAS token', sas, `authorization: ${sas}`],
    ['a SAS token whose fields were put in another order', sas, `SharedAccessSignature se=1&sig=${sig}&sr=hub`],
    ['the decoded signature of a SAS token', sas, decodeURIComponent(sig)],
    ['a private key', pem, pem],
    ['a private key in JSON', pem, JSON.stringify({ pem })],
    ['the line that holds most of a private key', pem, pem.split('\n')[2] ?? ''],
    ['a private key in DER and base64', pem, der.toString('base64')],
    ['the private number of a JWK', pem, JSON.stringify(jwk)],
    ['an RSA key', rsaPem, rsaPem],
    ['an RSA key as an older PEM', rsaPem, rsaPair.privateKey.export({ type: 'pkcs1', format: 'pem' }) as string],
    ['a private key within a base64 document', pem, Buffer.from(`{"pem":"${pem}"}`).toString('base64')],
  ];
  it.each(planted)('%s', (_what, secret, text) => {
    expect(leaksIn(text, secret)).not.toEqual([]);
  });
});

describe('what is no secret is not reported', () => {
  it('text without any secret', () => {
    expect(leaksIn('nothing here', key)).toEqual([]);
  });

  it('the first characters of a secret, shown so that a person can tell it from another', () => {
    expect(leaksIn(`${key.slice(0, 6)}…`, key)).toEqual([]);
    expect(leaksIn(`${jwt.split('.')[0]}…`, jwt)).toEqual([]);
  });

  it('the armour of a private key', () => {
    expect(leaksIn('-----BEGIN PRIVATE KEY-----', pem)).toEqual([]);
  });

  it('the public half of a key pair', () => {
    for (const [{ publicKey }, secret] of [
      [pair, pem],
      [rsaPair, rsaPem],
    ] as const) {
      const spki = publicKey.export({ type: 'spki', format: 'der' });
      const shown = [publicKey.export({ type: 'spki', format: 'pem' }), spki.toString('base64'), spki.toString('hex')];
      expect(leaksIn(shown.join('\n'), secret)).toEqual([]);
    }
  });
});

it('says where the secret stood and does not repeat it', () => {
  const [leak] = leaksIn(`onboarding d1 with ${key} now`, key);
  expect(leak).toMatchObject({ kind: 'a secret', form: 'as it is', where: 'a log' });
  expect(leak?.context).toContain('onboarding d1 with [a secret] now');
  expect(JSON.stringify(leak)).not.toContain(key);
});

it('reads a large text once, however many secrets there are', () => {
  const secrets = Array.from({ length: 5000 }, () => ({ kind: 'key', value: randomBytes(32).toString('base64') }));
  const text = randomBytes(15_000_000).toString('base64');
  const before = process.cpuUsage();
  expect(findLeaks([{ name: 'a log', text }], secrets)).toEqual([]);
  expect(process.cpuUsage(before).user / 1e6).toBeLessThan(10);
});
