import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { issue, selfSigned } from '../../../local/kit/certificates.ts';
import { onboardingDocument, trustedRoot } from '../support.ts';
import { act, alpineMachine, newRoot } from './machines.ts';

const folder = 'usr/local/share/ca-certificates';
const bundle = 'etc/ssl/certs/ca-certificates.crt';

function fileOf(pem: string): string {
  return `gatepost-${trustedRoot(pem).sha256.slice(0, 16)}.crt`;
}

test('a root is installed where everybody may read it, and read back from the bundle', async () => {
  const machine = alpineMachine();
  const pem = await newRoot('Contoso root');
  const said = await act('install', machine, { root: machine.write('root.pem', pem) });
  expect(said.code).toBe(0);
  expect(said.out).toContain(`installed "CN=Contoso root", sha256 ${trustedRoot(pem).sha256}`);
  expect(said.out).toContain(`verified: ${join(machine.root, bundle)} holds it`);
  expect(readdirSync(join(machine.root, folder))).toEqual([fileOf(pem)]);
  expect(statSync(join(machine.root, folder, fileOf(pem))).mode & 0o777).toBe(0o644);
  expect(machine.read(bundle)).toContain(pem.trim());
});

test('a second install changes nothing, calls nothing and says so', async () => {
  const machine = alpineMachine();
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  await act('install', machine, { root });
  const before = statSync(join(machine.root, folder, readdirSync(join(machine.root, folder))[0] ?? '')).mtimeMs;
  const { out } = await act('install', machine, { root });
  expect(out).toContain('nothing had to be changed');
  expect(machine.calls()).toEqual(['update-ca-certificates']);
  const after = statSync(join(machine.root, folder, readdirSync(join(machine.root, folder))[0] ?? '')).mtimeMs;
  expect(after).toBe(before);
});

test('what --dry-run prints, pasted into a shell, does what install does', async () => {
  const [pasted, installed] = [alpineMachine(), alpineMachine()];
  const pem = await newRoot("Contoso's root");
  const { out } = await act('install', pasted, { root: pasted.write('root.pem', pem) }, { dryRun: true });
  execFileSync('/bin/sh', ['-e'], { input: out.join('\n'), env: pasted.environment });
  await act('install', installed, { root: installed.write('root.pem', pem) });
  expect(readdirSync(join(pasted.root, folder))).toEqual([fileOf(pem)]);
  for (const path of [`${folder}/${fileOf(pem)}`, bundle]) expect(pasted.read(path)).toBe(installed.read(path));
  expect((await act('install', pasted, { root: join(pasted.root, 'root.pem') })).out).toContain(
    'nothing had to be changed',
  );
});

test('a tool that reports success and does nothing is not believed', async () => {
  const machine = alpineMachine();
  machine.program('update-ca-certificates', 'exit 0\n');
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  await expect(act('install', machine, { root })).rejects.toMatchObject({
    code: 'trust_unverified',
    exitCode: 19,
    message: expect.stringMatching(/^Every step reported success, but \S+ does not hold "CN=Contoso root"/),
  });
  const { code, err } = await act('status', machine, { root });
  expect(code).toBe(19);
  expect(err).toEqual([expect.stringContaining('[trust_unverified]')]);
});

test('a tool that fails leaves a report of what is done and what is not, and a retry heals it', async () => {
  const machine = alpineMachine();
  const good = machine.read('programs/update-ca-certificates');
  machine.program('update-ca-certificates', 'echo "cannot create /etc/ssl/certs/bundleXXXXXX" >&2\nexit 1\n');
  const pems = [await newRoot('Contoso root'), await newRoot('Contoso root 2')];
  const file = machine.write('bundle.pem', pems.join(''));
  const failed = act('install', machine, { bundle: file });
  await expect(failed).rejects.toMatchObject({ code: 'trust_incomplete', exitCode: 19 });
  const { message } = (await failed.catch((error: unknown) => error)) as Error;
  expect(message).toMatch(
    /^update-ca-certificates failed: update-ca-certificates ended with 1: cannot create .*\. Done: write \S+\.crt; write \S+\.crt\./,
  );
  machine.write('programs/update-ca-certificates', good);
  chmodSync(join(machine.root, 'programs/update-ca-certificates'), 0o755);
  const { out } = await act('install', machine, { bundle: file });
  expect(out.filter((line) => line.startsWith('installed'))).toHaveLength(2);
  for (const pem of pems) expect(machine.read(bundle)).toContain(pem.trim());
});

test('a removal that fails puts the files back, so that a retry knows what is left to do', async () => {
  const machine = alpineMachine();
  const pem = await newRoot('Contoso root');
  const root = machine.write('root.pem', pem);
  await act('install', machine, { root });
  const good = machine.read('programs/update-ca-certificates');
  machine.program('update-ca-certificates', 'exit 3\n');
  await expect(act('remove', machine, { root }, { all: true })).rejects.toMatchObject({
    code: 'trust_incomplete',
    message: expect.stringMatching(/Nothing was changed\. Put back: the deleted file/),
  });
  expect(machine.read(`${folder}/${fileOf(pem)}`)).toContain(pem.trim());
  machine.write('programs/update-ca-certificates', good);
  chmodSync(join(machine.root, 'programs/update-ca-certificates'), 0o755);
  expect((await act('remove', machine, { root }, { all: true })).out).toContain(
    `removed "CN=Contoso root", sha256 ${trustedRoot(pem).sha256}`,
  );
  expect(machine.read(bundle)).not.toContain(pem.trim());
});

test('remove takes away what has left the bundle, keeps what is in it, and never touches what others installed', async () => {
  const machine = alpineMachine();
  const [old, current, others] = [await newRoot('Old root'), await newRoot('New root'), await newRoot('IT department')];
  machine.write(`${folder}/it-department.crt`, others);
  await act('install', machine, { bundle: machine.write('both.pem', `${old}${current}`) });
  const now = machine.write('now.pem', current);
  const later = await act('install', machine, { bundle: now });
  expect(later.out).toContain("1 root of Gatepost's left the bundle: gatepost-device trust remove");
  const { out } = await act('remove', machine, { bundle: now });
  expect(out).toEqual([
    `removed "CN=Old root", sha256 ${trustedRoot(old).sha256}`,
    `kept "CN=New root", sha256 ${trustedRoot(current).sha256}: it is in the bundle`,
    expect.stringMatching(/^verified: \S+ does not hold it any more$/),
  ]);
  expect(readdirSync(join(machine.root, folder)).sort()).toEqual([fileOf(current), 'it-department.crt']);
  await act('remove', machine, {}, { all: true });
  expect(readdirSync(join(machine.root, folder))).toEqual(['it-department.crt']);
  expect(machine.read(bundle)).toContain(others.trim());
  expect((await act('remove', machine, {}, { all: true })).out).toEqual(['nothing had to be removed']);
});

test('a root that somebody else installed is left alone, by install and by remove', async () => {
  const machine = alpineMachine();
  const pem = await newRoot('Contoso root');
  machine.write(`${folder}/azure-iot-test-only.root.ca.cert.pem.crt`, pem);
  execFileSync(join(machine.root, 'programs/update-ca-certificates'), { env: machine.environment });
  const root = machine.write('root.pem', pem);
  const { out } = await act('install', machine, { root });
  expect(out).toContain(`unchanged "CN=Contoso root", sha256 ${trustedRoot(pem).sha256}; somebody else installed it`);
  await act('remove', machine, { root }, { all: true });
  expect(readdirSync(join(machine.root, folder))).toEqual(['azure-iot-test-only.root.ca.cert.pem.crt']);
  const { out: status } = await act('status', machine, { root }, { json: true });
  expect(JSON.parse(status.join(''))).toMatchObject({
    inEffect: true,
    roots: [{ mark: null, trusted: true, warnings: ['trusted, but not installed by Gatepost'] }],
  });
});

test('a root whose other copy stays trusted is reported as such after its removal', async () => {
  const machine = alpineMachine();
  const pem = await newRoot('Contoso root');
  const root = machine.write('root.pem', pem);
  await act('install', machine, { root });
  machine.write(`${folder}/copy.crt`, pem);
  await expect(act('remove', machine, {}, { all: true })).rejects.toMatchObject({
    code: 'trust_unverified',
    message: expect.stringMatching(/still holds "CN=Contoso root".*somebody else installed it as well/),
  });
});

test('a damaged file of Gatepost is seen and healed', async () => {
  const machine = alpineMachine();
  const pem = await newRoot('Contoso root');
  const root = machine.write('root.pem', pem);
  await act('install', machine, { root });
  machine.write(`${folder}/${fileOf(pem)}`, 'garbage\n');
  execFileSync(join(machine.root, 'programs/update-ca-certificates'), { env: machine.environment });
  const status = await act('status', machine, { root });
  expect(status.code).toBe(19);
  expect(status.out.join('\n')).toMatch(/!! .*damaged: it is not the certificate that its name says/s);
  await act('install', machine, { root });
  expect((await act('status', machine, { root })).code).toBe(0);
  expect(machine.read(bundle)).toContain(pem.trim());
});

test('status says how long each root is valid, and warns in time', async () => {
  const machine = alpineMachine();
  const notAfter = new Date('2031-01-31T12:00:00Z');
  const { certificate } = await selfSigned({ commonName: 'Contoso root', notAfter });
  const root = machine.write('root.pem', certificate);
  await act('install', machine, { root });
  const at = async (now: string) => {
    const { out } = await act('status', machine, { root }, { json: true, now: new Date(now) });
    const [first] = (JSON.parse(out.join('')) as { roots: { daysLeft: number; warnings: string[] }[] }).roots;
    return [first?.daysLeft, first?.warnings];
  };
  expect(await at('2030-12-31T12:00:00Z')).toEqual([31, []]);
  expect(await at('2031-01-30T11:00:00Z')).toEqual([1, [expect.stringMatching(/^expires in 1 day:/)]]);
  expect(await at('2031-02-01T12:00:00Z')).toEqual([-1, [expect.stringMatching(/^has expired/)]]);
});

test('without a bundle, remove does not guess what has left it', async () => {
  const machine = alpineMachine();
  await act('install', machine, { root: machine.write('root.pem', await newRoot('Contoso root')) });
  await expect(act('remove', machine, {})).rejects.toMatchObject({
    code: 'state_missing',
    message: expect.stringMatching(/--state or --bundle.*--all/),
  });
  expect(readdirSync(join(machine.root, folder))).toHaveLength(1);
});

test('the roots come from the state folder when no file is named', async () => {
  const machine = alpineMachine();
  const pem = await newRoot('Contoso root');
  const document = onboardingDocument({ roots: [pem], port: 1 });
  chmodSync(machine.write('state/document.json', JSON.stringify(document)), 0o600);
  const state = join(machine.root, 'state');
  const { code, out, err } = await act('install', machine, { state });
  expect(code).toBe(0);
  expect(out[0]).toBe(`Alpine Linux v3.20: 1 root of trust bundle 7 in ${state}`);
  // In a factory the gateway is far away: its root is installed all the same, and nothing is claimed.
  expect(err).toEqual([
    expect.stringMatching(/^gatepost-device: warning: not proven with the gateway: .*gateway_unre/),
  ]);
  expect(out.join('\n')).not.toContain('proven: ');
});

test.each<[string, () => Promise<string | Buffer>, string, RegExp]>([
  [
    'an intermediate',
    async () => (await issue(await selfSigned({ commonName: 'Root' }), { commonName: 'Edge CA', ca: 0 })).certificate,
    'root_not_anchor',
    /holds "CN=Edge CA", which is not a self-signed root CA/,
  ],
  [
    'a certificate that is no CA',
    async () => (await selfSigned({ commonName: 'server', ca: false as never })).certificate,
    'root_not_anchor',
    /not a self-signed root CA/,
  ],
  ['no certificate', async () => 'hello', 'usage', /does not read/],
  ['a PEM of something else', async () => '-----BEGIN PUBLIC KEY-----\n', 'usage', /holds no certificate/],
  [
    'two certificates where one is named',
    async () => `${await newRoot('a')}${await newRoot('b')}`,
    'usage',
    /name it with --bundle/,
  ],
])('%s is refused before anything is touched', async (_name, content, code, message) => {
  const machine = alpineMachine();
  const root = machine.write('root.pem', (await content()) as string);
  await expect(act('install', machine, { root })).rejects.toMatchObject({
    code,
    message: expect.stringMatching(message),
  });
  expect(machine.calls()).toEqual([]);
  expect(machine.has(folder)).toBe(false);
});

test('a bundle as the API serves it as JSON is checked against its own fingerprints', async () => {
  const machine = alpineMachine();
  const root = trustedRoot(await newRoot('Contoso root'));
  const served = { sequence: 3, refreshHintSeconds: 60, roots: [root] };
  const good = machine.write('bundle.json', JSON.stringify(served));
  expect((await act('install', machine, { bundle: good })).code).toBe(0);
  rmSync(join(machine.root, folder), { recursive: true });
  const forged = { ...served, roots: [{ ...root, sha256: '0'.repeat(64) }] };
  const bad = machine.write('forged.json', JSON.stringify(forged));
  await expect(act('install', machine, { bundle: bad })).rejects.toMatchObject({ code: 'bundle_invalid' });
  expect(machine.has(folder)).toBe(false);
});

test('no draft is left, and none could be taken for a certificate by the tool while it is written', async () => {
  const machine = alpineMachine();
  machine.program(
    'update-ca-certificates',
    'ls -A "$ROOT"/usr/local/share/ca-certificates > "$ROOT/seen"\ncat "$ROOT"/usr/local/share/ca-certificates/* > "$ROOT/etc/ssl/certs/ca-certificates.crt"\n',
  );
  const pem = await newRoot('Contoso root');
  await act('install', machine, { root: machine.write('root.pem', pem) });
  expect(readFileSync(join(machine.root, 'seen'), 'utf8')).toBe(`${fileOf(pem)}\n`);
});
