import { readdir, readFile } from 'node:fs/promises';
import { GatepostDeviceError } from '../errors.ts';
import { alpine } from './alpine.ts';
import { debian } from './debian.ts';
import { at, hasProgram, type Machine } from './machine.ts';
import { macos } from './macos.ts';
import { redHat } from './red-hat.ts';
import type { TrustStore } from './store.ts';
import { suse } from './suse.ts';
import { windows } from './windows.ts';

type LinuxFamily = (machine: Machine, system: string, id: string) => TrustStore;

/** By ID, else by the first of ID_LIKE that is known: Ubuntu says `debian` there, Rocky `rhel centos fedora`. */
const families: Record<string, LinuxFamily> = {
  debian,
  ubuntu: debian,
  alpine,
  fedora: (machine, system) => redHat(machine, system, false),
  rhel: (machine, system) => redHat(machine, system, false),
  azurelinux: (machine, system) => redHat(machine, system, true),
  mariner: (machine, system) => redHat(machine, system, true),
  suse,
  opensuse: suse,
  sles: suse,
};

/** The trust store of this system. Throws `trust_store_unknown` where its vendor's way is not known here. */
export async function detectStore(machine: Machine): Promise<TrustStore> {
  if (machine.platform === 'win32') return windows(machine);
  if (machine.platform === 'darwin') return macos(machine);
  if (machine.platform !== 'linux') throw unknown(machine.platform);
  const release = await osRelease(machine);
  const ids = [release.ID ?? '', ...(release.ID_LIKE ?? '').split(/\s+/)];
  const system = release.PRETTY_NAME ?? release.NAME ?? release.ID ?? 'Linux';
  for (const id of ids) {
    // opensuse-leap, opensuse-tumbleweed, opensuse-microos
    const family = families[id] ?? families[id.split('-')[0] ?? ''];
    if (family !== undefined) return family(machine, system, id);
  }
  return byTools(machine, system);
}

/** Systems that name no relatives, such as those built with Yocto, mostly have one of the tools all the same. */
async function byTools(machine: Machine, system: string): Promise<TrustStore> {
  if (await hasProgram(machine, 'update-ca-trust')) {
    // Arch has a program of this name and another folder.
    if (await exists(at(machine, '/etc/pki/ca-trust/source/anchors'))) return redHat(machine, system, false);
  } else if (await hasProgram(machine, 'update-ca-certificates')) {
    return (await exists(at(machine, '/etc/pki/trust/anchors'))) ? suse(machine, system) : debian(machine, system);
  }
  throw unknown(system);
}

function unknown(system: string): GatepostDeviceError {
  return new GatepostDeviceError(
    'trust_store_unknown',
    `How ${system} keeps its trust is not known here; known are Debian, Ubuntu, RHEL, Fedora, Azure Linux, Alpine, openSUSE, Windows and macOS, and their relatives. ` +
      'For a program, gatepost-device trust install --app works everywhere.',
  );
}

/** os-release(5): assignments in the syntax of a shell; /usr/lib/os-release where /etc has none. */
async function osRelease(machine: Machine): Promise<Record<string, string>> {
  for (const path of ['/etc/os-release', '/usr/lib/os-release']) {
    try {
      const text = await readFile(at(machine, path), 'utf8');
      const lines = text.matchAll(/^([A-Z][A-Z0-9_]*)=(?:"([^"]*)"|'([^']*)'|(.*))$/gm);
      return Object.fromEntries([...lines].map(([, name, a, b, c]) => [name, a ?? b ?? c?.trim() ?? '']));
    } catch {
      // The next one.
    }
  }
  return {};
}

async function exists(path: string): Promise<boolean> {
  try {
    await readdir(path);
    return true;
  } catch {
    return false;
  }
}
