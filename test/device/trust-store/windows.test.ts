import { X509Certificate } from 'node:crypto';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { trustedRoot } from '../support.ts';
import { act, newRoot } from './machines.ts';
import { windowsMachine } from './vendor-programs.ts';

const mark = (pem: string) => `gatepost-${trustedRoot(pem).sha256.slice(0, 16)}`;
const thumbprint = (pem: string) => new X509Certificate(pem).fingerprint.replaceAll(':', '');
const mutations = (calls: string[]) => calls.filter((call) => !call.includes('Get-ChildItem'));

test('on Windows certutil adds the root to the store of the machine, and its friendly name says whose it is', async () => {
  const machine = windowsMachine();
  const pem = await newRoot('Contoso root');
  const root = machine.write('root.pem', pem);
  const { code, out } = await act('install', machine, { root });
  expect(code).toBe(0);
  expect(out).toContain('verified: Cert:\\LocalMachine\\Root holds it');
  expect(mutations(machine.calls())).toEqual([
    `certutil -addstore -f Root ${join(machine.root, 'temp', `${mark(pem)}.crt`)}`,
    `powershell -NoProfile -NonInteractive -Command (Get-Item -LiteralPath 'Cert:\\LocalMachine\\Root\\${thumbprint(pem)}' -ErrorAction Stop).FriendlyName = '${mark(pem)}'`,
  ]);
  expect(machine.store().certificates).toEqual([
    { der: new X509Certificate(pem).raw.toString('base64'), name: mark(pem) },
  ]);
  expect(readdirSync(join(machine.root, 'temp'))).toEqual([]);
  const again = await act('install', machine, { root });
  expect(again.out).toContain('nothing had to be changed');
  expect(mutations(machine.calls())).toHaveLength(2);
});

test('certutil that reports success while the store lacks the root is not believed', async () => {
  const machine = windowsMachine();
  machine.write('lie', '');
  machine.program(
    'powershell',
    machine
      .read('programs/powershell')
      .replace("if (found === undefined) fail(1, 'Get-Item", "if (found === undefined) end(0, 'Get-Item"),
  );
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  await expect(act('install', machine, { root })).rejects.toMatchObject({
    code: 'trust_unverified',
    message: expect.stringMatching(/Cert:\\LocalMachine\\Root does not hold "CN=Contoso root"/),
  });
});

test('without an elevated prompt it says so and what was not done', async () => {
  const machine = windowsMachine();
  machine.write('deny', '');
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  await expect(act('install', machine, { root })).rejects.toMatchObject({
    code: 'trust_not_permitted',
    message: expect.stringMatching(/0x80070005|Access is denied.*elevated prompt/),
  });
  expect(machine.store().certificates).toEqual([]);
});

test('an install that cannot set the mark takes the root out again, and the next one heals it', async () => {
  const machine = windowsMachine();
  const good = machine.read('programs/powershell');
  machine.program('powershell', good.replace('if (denied) fail', 'if (true) fail'));
  const pem = await newRoot('Contoso root');
  const root = machine.write('root.pem', pem);
  await expect(act('install', machine, { root })).rejects.toMatchObject({ code: 'trust_not_permitted' });
  expect(machine.store().certificates).toEqual([]);
  machine.program('powershell', good);
  await act('install', machine, { root });
  expect(machine.store().certificates).toMatchObject([{ name: mark(pem) }]);
});

test('remove deletes by thumbprint what has the mark of Gatepost, and nothing else', async () => {
  const machine = windowsMachine();
  const [pem, current, others] = [await newRoot('Old'), await newRoot('New'), await newRoot('IT department')];
  await act('install', machine, { bundle: machine.write('bundle.pem', `${pem}${current}`) });
  const store = machine.store();
  store.certificates.push({ der: new X509Certificate(others).raw.toString('base64'), name: 'Corp | root' });
  machine.write('store.json', JSON.stringify(store));
  const bundle = machine.write('bundle.pem', current);
  const { out } = await act('remove', machine, { bundle });
  expect(out[0]).toBe(`removed "CN=Old", sha256 ${trustedRoot(pem).sha256}`);
  expect(mutations(machine.calls()).at(-1)).toBe(`certutil -delstore Root ${thumbprint(pem)}`);
  await act('remove', machine, {}, { all: true });
  expect(machine.store().certificates.map(({ name }) => name)).toEqual(['Corp | root']);
});

test('the name of Gatepost on the certificate of somebody else is no licence to delete it', async () => {
  const machine = windowsMachine();
  const others = new X509Certificate(await newRoot('IT department')).raw.toString('base64');
  machine.write(
    'store.json',
    JSON.stringify({ certificates: [{ der: others, name: `gatepost-${'0'.repeat(16)}` }], settings: [] }),
  );
  const { out } = await act('remove', machine, {}, { all: true, dryRun: true });
  expect(out.join('\n')).not.toContain('delstore');
  expect(out.at(-1)).toMatch(/FriendlyName -eq 'gatepost-0{16}'.*FriendlyName = ''/);
});

test('what --dry-run prints is for PowerShell and changes nothing', async () => {
  const machine = windowsMachine();
  const pem = await newRoot('Contoso root');
  const path = join(machine.root, 'temp', `${mark(pem)}.crt`);
  const { out } = await act('install', machine, { root: machine.write('root.pem', pem) }, { dryRun: true });
  expect(out).toEqual([
    expect.stringMatching(/^# Windows: 1 root/),
    `Set-Content -Encoding Ascii -LiteralPath ${path} -Value @'`,
    ...pem.trim().split('\n'),
    "'@",
    `certutil -addstore -f Root ${path}`,
    `(Get-Item -LiteralPath 'Cert:\\LocalMachine\\Root\\${thumbprint(pem)}' -ErrorAction Stop).FriendlyName = '${mark(pem)}'`,
    `Remove-Item -LiteralPath ${path}`,
  ]);
  expect(mutations(machine.calls())).toEqual([]);
});

test('a Windows whose PowerShell is missing or fails is reported, not taken for an empty store', async () => {
  const machine = windowsMachine();
  machine.program(
    'powershell',
    `#!${process.execPath}\nprocess.stderr.write('blocked by group policy\\n'); process.exit(1);`,
  );
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  await expect(act('install', machine, { root })).rejects.toMatchObject({
    code: 'trust_store_unknown',
    message: expect.stringContaining('blocked by group policy'),
  });
  rmSync(join(machine.root, 'programs/powershell'));
  await expect(act('status', machine, { root })).rejects.toMatchObject({ code: 'trust_store_unknown' });
});
