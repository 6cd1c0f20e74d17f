import { X509Certificate } from 'node:crypto';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { trustedRoot } from '../support.ts';
import { act, newRoot } from './machines.ts';
import { macMachine } from './vendor-programs.ts';

const ledger = 'Library/Application Support/Gatepost/roots';
const sha1 = (pem: string) => new X509Certificate(pem).fingerprint.replaceAll(':', '');
const mutations = (calls: string[]) => calls.filter((call) => /add-|remove-|delete-/.test(call));
const isRoot = process.getuid?.() === 0;

test('on macOS --dry-run prints what security(1) documents, with quotes where a shell needs them', async () => {
  const machine = macMachine();
  const pem = await newRoot('Contoso root');
  const path = join(machine.root, ledger, `gatepost-${trustedRoot(pem).sha256.slice(0, 16)}.crt`);
  const { out } = await act('install', machine, { root: machine.write('root.pem', pem) }, { dryRun: true });
  expect(out).toContain(`cat > '${path}' <<'PEM'`);
  expect(out.at(-1)).toBe(`security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain '${path}'`);
  expect(mutations(machine.calls())).toEqual([]);
});

test.runIf(isRoot)('on macOS a root is installed, found again, and removed with its trust settings', async () => {
  const machine = macMachine();
  const pem = await newRoot('Contoso root');
  const root = machine.write('root.pem', pem);
  expect((await act('install', machine, { root })).code).toBe(0);
  expect(machine.store()).toMatchObject({ settings: [sha1(pem)] });
  expect((await act('install', machine, { root })).out).toContain('nothing had to be changed');
  expect(mutations(machine.calls())).toHaveLength(1);
  const { out } = await act('remove', machine, {}, { all: true });
  expect(out[0]).toBe(`removed "CN=Contoso root", sha256 ${trustedRoot(pem).sha256}`);
  expect(mutations(machine.calls()).slice(1)).toEqual([
    expect.stringMatching(/^security remove-trusted-cert -d .*\.crt$/),
    `security delete-certificate -Z ${sha1(pem)} /Library/Keychains/System.keychain`,
  ]);
  expect(machine.store()).toEqual({ certificates: [], settings: [] });
  expect(readdirSync(join(machine.root, ledger))).toEqual([]);
});

test.runIf(isRoot)('a root that is in the keychain but not trusted does not count as installed', async () => {
  const machine = macMachine();
  machine.write('deny', '');
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  await expect(act('install', machine, { root })).rejects.toMatchObject({
    code: 'trust_not_permitted',
    message: expect.stringMatching(/no user interaction was possible/),
  });
  expect(machine.store().certificates).toHaveLength(1);
  expect((await act('status', machine, { root })).code).toBe(19);
  rmSync(join(machine.root, 'deny'));
  await act('install', machine, { root });
  expect((await act('status', machine, { root })).code).toBe(0);
});

test.runIf(isRoot)('a tool that sets no trust although it reports success is not believed', async () => {
  const machine = macMachine();
  machine.write('lie', '');
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  await expect(act('install', machine, { root })).rejects.toMatchObject({ code: 'trust_unverified' });
});

test.runIf(isRoot)('a removal that stopped half way goes on where it stopped', async () => {
  const machine = macMachine();
  const pem = await newRoot('Contoso root');
  await act('install', machine, { root: machine.write('root.pem', pem) });
  machine.write('stuck', '');
  await expect(act('remove', machine, {}, { all: true })).rejects.toMatchObject({
    code: 'trust_incomplete',
    message: expect.stringMatching(/Operation timed out\]\. Done: security remove-trusted-cert.*Not done: delete /),
  });
  expect(machine.store()).toMatchObject({ settings: [] });
  rmSync(join(machine.root, 'stuck'));
  await act('remove', machine, {}, { all: true });
  expect(machine.store()).toEqual({ certificates: [], settings: [] });
  expect(mutations(machine.calls()).filter((call) => call.includes('remove-trusted-cert'))).toHaveLength(1);
});

test.skipIf(isRoot)('installing on macOS, which needs root, was not tested: this is not root', () => {});
