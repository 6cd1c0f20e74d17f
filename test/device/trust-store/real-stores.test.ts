import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { run, thisMachine } from '../../../device/src/trust-store/machine.ts';
import { gatewayPki, startBroker, temporaryFolder, trustedRoot } from '../support.ts';
import { act, newRoot, releases, type Scratch, scratch } from './machines.ts';

const isRoot = process.getuid?.() === 0;
const debianTool = '/usr/sbin/update-ca-certificates';
const isDebian = existsSync('/etc/debian_version') && existsSync(debianTool);
const openssl = spawnSync('openssl', ['version']).status === 0;
const trust = findTrust();

/**
 * Puts the real store of this machine back as it is now. A process of its own does it, as soon as the pipe from this one
 * closes: at the end of the test, and just as well when the test run is killed. Answers what waits until it is done.
 */
function keepStore(): () => Promise<void> {
  const copy = mkdtempSync(join(tmpdir(), 'gatepost-store-'));
  const folders = ['/etc/ssl/certs', '/usr/local/share/ca-certificates'];
  for (const folder of folders)
    execFileSync('sh', ['-c', 'mkdir -p "$1$2" && cp -a "$2/." "$1$2"', 'sh', copy, folder]);
  const restore = `cat > /dev/null; copy=$1; shift
    for folder do
      cd "$folder" || continue
      for name in * .[!.]*; do [ -e "$copy$folder/$name" ] || [ -L "$copy$folder/$name" ] || rm -rf "./$name"; done
      cp -a --remove-destination "$copy$folder/." "$folder"
    done
    rm -rf "$copy"`;
  const guardian = spawn('sh', ['-c', restore, 'sh', copy, ...folders], {
    stdio: ['pipe', 'ignore', 'inherit'],
    detached: true,
  });
  return async () => {
    guardian.stdin.end();
    if (guardian.exitCode === null) await once(guardian, 'exit');
  };
}

/** Names, link targets and contents below the folder; Java's store is made anew by each run of its hook. */
function picture(folder: string): string[] {
  return readdirSync(folder)
    .sort()
    .filter((name) => name !== 'java')
    .map((name) => {
      const path = join(folder, name);
      const kind = lstatSync(path);
      return `${name} ${kind.isSymbolicLink() ? 'link' : kind.mode.toString(8)} ${existsSync(path) ? trustText(path) : 'dangling'}`;
    });
}

function trustText(path: string): string {
  return lstatSync(path).isDirectory() ? 'folder' : readFileSync(path, 'utf8').slice(0, 200_000);
}

test.runIf(isRoot && isDebian && openssl)(
  'on Debian the real store takes the root, OpenSSL proves the gateway by it, and afterwards all is as before',
  async () => {
    const pki = await gatewayPki();
    const broker = await startBroker(pki);
    const root = join(temporaryFolder(), 'root.pem');
    writeFileSync(root, pki.root.certificate);
    const machine = thisMachine();
    const gateway = `localhost:${broker.port}`;
    const before = [picture('/etc/ssl/certs'), picture('/usr/local/share/ca-certificates')];
    onTestFinished(keepStore());
    const der = new X509Certificate(pki.root.certificate).raw;

    const { code, out } = await act('install', machine, { root, gateway });
    expect(code).toBe(0);
    expect(out).toContain('verified: /etc/ssl/certs/ca-certificates.crt holds it');
    expect(out).toContain(`proven: ${gateway} by openssl s_client with the trust of the system`);
    const mark = `gatepost-${trustedRoot(pki.root.certificate).sha256.slice(0, 16)}`;
    expect(existsSync(`/etc/ssl/certs/${mark}.pem`)).toBe(true);

    const again = await act('install', machine, { root, gateway });
    expect(again.out).toContain('nothing had to be changed');

    // Any program that uses the store: this one is not ours.
    const asks = ['s_client', '-connect', gateway, '-verify_hostname', 'localhost', '-verify_return_error', '-brief'];
    const ask = () => run(machine, 'openssl', asks, { timeoutMs: 15_000 });
    expect((await ask()).stderr).toContain('Verification: OK');

    const removed = await act('remove', machine, {}, { all: true });
    expect(removed.out.at(-1)).toMatch(/does not hold it any more$/);
    expect([picture('/etc/ssl/certs'), picture('/usr/local/share/ca-certificates')]).toEqual(before);
    expect(await ask()).toMatchObject({ code: 1, stderr: expect.stringContaining('verify error') });
    const java = '/etc/ssl/certs/java/cacerts';
    if (existsSync(java)) expect(readFileSync(java).includes(der)).toBe(false);
  },
  180_000,
);

test.skipIf(isRoot && isDebian && openssl)(
  'the real store of Debian was not changed: that needs root, update-ca-certificates and openssl',
  () => {},
);

/** The real program of Debian, working in the scratch root. */
function debianScratch(): Scratch {
  const machine = scratch('linux', releases.debian);
  machine.write('etc/ca-certificates.conf', '# nothing of the distribution\n');
  for (const folder of ['etc/ssl/certs', 'usr/local/share/ca-certificates', 'usr/share/ca-certificates', 'hooks']) {
    mkdirSync(join(machine.root, folder), { recursive: true });
  }
  const options = {
    certsconf: 'etc/ca-certificates.conf',
    certsdir: 'usr/share/ca-certificates',
    localcertsdir: 'usr/local/share/ca-certificates',
    etccertsdir: 'etc/ssl/certs',
    hooksdir: 'hooks',
  };
  const flags = Object.entries(options).map(([name, path]) => `--${name} "$ROOT/${path}"`);
  machine.program('update-ca-certificates', `exec ${debianTool} "$@" ${flags.join(' ')}\n`);
  return machine;
}

test.runIf(isDebian && openssl)(
  'Debian’s real tool in a scratch root leaves no link behind after a removal',
  async () => {
    const machine = debianScratch();
    const [pem, others] = [await newRoot('Contoso root'), await newRoot('IT department')];
    machine.write('usr/local/share/ca-certificates/it-department.crt', others);
    await act('install', machine, { root: machine.write('root.pem', pem) });
    expect(machine.read('etc/ssl/certs/ca-certificates.crt')).toContain(pem.trim());
    await act('remove', machine, {}, { all: true });
    const links = readdirSync(join(machine.root, 'etc/ssl/certs')).filter((name) => /\.(pem|0)$/.test(name));
    expect(links).toContain('it-department.pem');
    expect(links.filter((name) => !existsSync(join(machine.root, 'etc/ssl/certs', name)))).toEqual([]);
    expect(machine.calls()).toEqual(['update-ca-certificates', 'update-ca-certificates --fresh']);
  },
);

/** Where `trust` of p11-kit and its module are: what update-ca-trust and openSUSE's hooks are made of. */
function findTrust(): { program: string; module: string } | undefined {
  const { status, stdout } = spawnSync('which', ['trust'], { encoding: 'utf8' });
  if (status !== 0) return undefined;
  const program = stdout.trim();
  const libraries = resolve(dirname(program), '../lib');
  const folders = [libraries, `${libraries}64`].filter((each) => existsSync(each));
  const modules = folders.flatMap((folder) =>
    [folder, ...readdirSync(folder).map((name) => join(folder, name))].map((each) =>
      join(each, 'pkcs11/p11-kit-trust.so'),
    ),
  );
  const module = modules.find((each) => existsSync(each));
  return module === undefined ? undefined : { program, module };
}

/** A scratch root in which `trust` runs with chroot, configured with the folder that the system compiles in. */
function p11Scratch(release: string, sources: string, tool: string, bundle: string): Scratch {
  if (trust === undefined) throw new Error('trust is not there');
  const machine = scratch('linux', release);
  const into = (from: string, path = from) => {
    mkdirSync(dirname(join(machine.root, path)), { recursive: true });
    copyFileSync(from, join(machine.root, path));
  };
  into(trust.program, '/usr/bin/trust');
  into(trust.module, '/usr/lib/pkcs11/p11-kit-trust.so');
  chmodSync(join(machine.root, 'usr/bin/trust'), 0o755);
  const linked = execFileSync('ldd', [trust.program, trust.module], { encoding: 'utf8' });
  for (const [path] of linked.matchAll(/\/\S+\.so\S*/g)) if (existsSync(path) && !path.endsWith(':')) into(path);
  const config = `module: /usr/lib/pkcs11/p11-kit-trust.so\ntrust-policy: yes\nx-trust-lookup: pkcs11:library-description=PKCS%2311%20Kit%20Trust%20Module\nx-init-reserved: paths='${sources}'\n`;
  for (const folder of ['usr/share/p11-kit/modules', 'etc/pkcs11/modules']) {
    machine.write(`${folder}/p11-kit-trust.module`, config);
  }
  mkdirSync(join(machine.root, sources, 'anchors'), { recursive: true });
  mkdirSync(dirname(join(machine.root, bundle)), { recursive: true });
  // The options are those of Fedora's update-ca-trust and of openSUSE's certbundle.run.
  const filter = '--format=pem-bundle --filter=ca-anchors --overwrite --purpose=server-auth';
  machine.program(
    basename(tool),
    `exec chroot "$ROOT" /usr/bin/trust extract ${filter} ${bundle.startsWith('/') ? bundle : `/${bundle}`}\n`,
  );
  return machine;
}

test.runIf(isRoot && trust !== undefined).each([
  [
    'Fedora',
    releases.fedora,
    '/etc/pki/ca-trust/source',
    'update-ca-trust',
    '/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem',
  ],
  ['openSUSE', releases.suse, '/etc/pki/trust', 'update-ca-certificates', '/var/lib/ca-certificates/ca-bundle.pem'],
])('the real trust of p11-kit takes and drops the root in a scratch root of %s', async (_name, ...places) => {
  const machine = p11Scratch(...places);
  const [release, sources, , bundle] = places;
  expect(release).toBeTruthy();
  const [pem, others] = [await newRoot('Contoso root'), await newRoot('IT department')];
  machine.write(`${sources}/anchors/it-department.pem`, others);
  const root = machine.write('root.pem', pem);
  expect((await act('install', machine, { root })).code).toBe(0);
  expect(machine.read(bundle)).toContain(pem.trim().split('\n')[1]);
  expect((await act('install', machine, { root })).out).toContain('nothing had to be changed');
  await act('remove', machine, {}, { all: true });
  expect(machine.read(bundle)).not.toContain(pem.trim().split('\n')[1]);
  expect(machine.read(bundle)).toContain(others.trim().split('\n')[1]);
});

test.skipIf(isRoot && trust !== undefined)(
  'the tool of Fedora and openSUSE was not run: that needs root and trust of p11-kit',
  () => {},
);
