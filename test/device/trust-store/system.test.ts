import { expect, test } from 'vitest';
import { detectStore } from '../../../device/src/trust-store/system.ts';
import { act, newRoot, releases, scratch } from './machines.ts';

const debianFolder = '/usr/local/share/ca-certificates';
const redHatFolder = '/etc/pki/ca-trust/source/anchors';
const suseFolder = '/etc/pki/trust/anchors';

test.each<[string, string, string, string]>([
  ['Debian', releases.debian, debianFolder, 'update-ca-certificates'],
  ['Ubuntu', 'PRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\nID_LIKE=debian\n', debianFolder, 'update-ca-certificates'],
  ['Raspberry Pi OS of old', 'ID=raspbian\nID_LIKE=debian\n', debianFolder, 'update-ca-certificates'],
  ['Mint', 'ID=linuxmint\nID_LIKE="ubuntu debian"\n', debianFolder, 'update-ca-certificates'],
  ['Alpine', releases.alpine, debianFolder, 'update-ca-certificates'],
  ['postmarketOS', 'ID="postmarketos"\nID_LIKE="alpine"\n', debianFolder, 'update-ca-certificates'],
  ['Fedora', releases.fedora, redHatFolder, 'update-ca-trust extract'],
  ['RHEL', 'NAME="Red Hat Enterprise Linux"\nID="rhel"\nID_LIKE="fedora"\n', redHatFolder, 'update-ca-trust extract'],
  ['Rocky', 'ID="rocky"\nID_LIKE="rhel centos fedora"\n', redHatFolder, 'update-ca-trust extract'],
  ['Amazon Linux', "ID='amzn'\nID_LIKE='fedora'\n", redHatFolder, 'update-ca-trust extract'],
  ['Azure Linux', 'NAME="Microsoft Azure Linux"\nID=azurelinux\n', redHatFolder, 'update-ca-trust extract'],
  ['Mariner', 'NAME="Common Base Linux Mariner"\nID=mariner\n', redHatFolder, 'update-ca-trust extract'],
  ['openSUSE', releases.suse, suseFolder, 'update-ca-certificates'],
  ['Tumbleweed', 'ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n', suseFolder, 'update-ca-certificates'],
  ['SLES', 'ID="sles"\nID_LIKE="suse"\n', suseFolder, 'update-ca-certificates'],
  ['SLE Micro', 'ID="sle-micro"\nID_LIKE="suse"\n', suseFolder, 'update-ca-certificates'],
])('on %s the root goes where its vendor says, and its tool is called', async (_name, release, folder, command) => {
  const machine = scratch('linux', release);
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  const { out } = await act('install', machine, { root }, { dryRun: true });
  expect(out.filter((line) => line.startsWith('cat >'))).toEqual([
    expect.stringMatching(new RegExp(`^cat > \\S*${folder}/gatepost-[0-9a-f]{16}\\.crt <<'PEM'$`)),
  ]);
  expect(out.at(-1)).toBe(command);
  expect(machine.calls()).toEqual([]);
  expect(machine.has(folder)).toBe(false);
});

test('a system without os-release in /etc is known by the one in /usr/lib', async () => {
  const machine = scratch('linux');
  machine.write('usr/lib/os-release', releases.fedora);
  expect((await detectStore(machine)).system).toBe('Fedora Linux 41');
});

test('a system that names no relatives is known by its tools', async () => {
  const machine = scratch('linux', 'ID=poky\nPRETTY_NAME="Poky (Yocto)"\n');
  machine.program('update-ca-certificates', 'exit 0\n');
  machine.program('update-ca-trust', 'exit 0\n');
  machine.write(`${redHatFolder}/README`, '');
  const { reads } = await detectStore(machine);
  expect(reads).toContain('/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem');
});

test('a tool of the same name with another folder is not taken for the known one, as on Arch', async () => {
  const machine = scratch('linux', 'ID=arch\nPRETTY_NAME="Arch Linux"\n');
  machine.program('update-ca-trust', 'exit 0\n');
  await expect(detectStore(machine)).rejects.toMatchObject({
    code: 'trust_store_unknown',
    message: expect.stringMatching(/^How Arch Linux keeps its trust is not known.*--app works everywhere/),
  });
});

test('a platform without a known store is refused by its name', async () => {
  await expect(detectStore(scratch('freebsd'))).rejects.toThrow(/^How freebsd keeps/);
});

test.each([
  ['Azure Linux', 'ID=azurelinux\nPRETTY_NAME="Microsoft Azure Linux 3.0"\n', 'update-ca-trust', 'tdnf install'],
  ['Alpine with the bundle only', releases.alpine, 'update-ca-certificates', 'apk add ca-certificates'],
])('%s without the tool says which package brings it, and nothing is written', async (_name, release, tool, cure) => {
  const machine = scratch('linux', release);
  // The tools of the machine that the test runs on do not count.
  const environment = { ...machine.environment, PATH: `${machine.root}/programs` };
  const root = machine.write('root.pem', await newRoot('Contoso root'));
  await expect(act('install', { ...machine, environment }, { root })).rejects.toMatchObject({
    code: 'trust_store_unknown',
    message: expect.stringMatching(new RegExp(`^${tool} is not installed.*${cure}`)),
  });
  expect(machine.has('usr/local/share')).toBe(false);
});
