import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { installInSystem, removeFromSystem, showStatus } from '../../../device/src/trust-store/actions.ts';
import type { Machine } from '../../../device/src/trust-store/machine.ts';
import { selfSigned } from '../../../local/kit/certificates.ts';
import { temporaryFolder } from '../support.ts';

/** A folder that stands for the root of another system, with programs of its own first in the PATH. */
export interface Scratch extends Machine {
  write(path: string, content: string): string;
  read(path: string): string;
  has(path: string): boolean;
  /** A program of the system. `$ROOT` is the folder; each call is noted. */
  program(name: string, script: string): void;
  /** `name parameters` of each call of those programs, in order. */
  calls(): string[];
}

export function scratch(platform: NodeJS.Platform, osRelease?: string): Scratch {
  const root = temporaryFolder();
  const bin = join(root, 'programs');
  const log = join(root, 'calls.log');
  const machine: Scratch = {
    platform,
    root,
    environment: { ...process.env, PATH: `${bin}:${process.env.PATH}`, ROOT: root, TEMP: join(root, 'temp') },
    write(path, content) {
      const file = join(root, path);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, content);
      return file;
    },
    read: (path) => readFileSync(join(root, path), 'utf8'),
    has: (path) => existsSync(join(root, path)),
    program(name, script) {
      const interpreter = /^#!/.test(script) ? '' : '#!/bin/sh\n';
      const note = interpreter === '' ? '' : `echo "$(basename "$0") $*" >> ${log}\n`;
      const file = machine.write(`programs/${name}`, `${interpreter}${note}${script}`);
      chmodSync(file, 0o755);
    },
    calls: () => (existsSync(log) ? readFileSync(log, 'utf8').trim().split(/\s*\n/) : []),
  };
  if (osRelease !== undefined) machine.write('etc/os-release', osRelease);
  return machine;
}

export interface Said {
  code: number;
  out: string[];
  err: string[];
}

type Sources = { root?: string; bundle?: string; state?: string; gateway?: string };

/** Runs an action as the command does, and answers what it said. */
export async function act(
  action: 'install' | 'remove' | 'status',
  machine: Machine,
  sources: Sources,
  flags: { dryRun?: boolean; all?: boolean; json?: boolean; now?: Date } = {},
): Promise<Said> {
  const said: Said = { code: 0, out: [], err: [] };
  const common = {
    machine,
    state: sources.state ?? join(machine.root, 'no-state'),
    bundle: sources.bundle,
    roots: sources.root === undefined ? [] : [sources.root],
    gateway: sources.gateway,
    now: flags.now ?? new Date(),
    print: (line: string) => void said.out.push(line),
    warn: (line: string) => void said.err.push(line),
  };
  const { dryRun = false, all = false, json = false } = flags;
  if (action === 'install') said.code = await installInSystem({ ...common, dryRun });
  else if (action === 'remove') said.code = await removeFromSystem({ ...common, dryRun, all });
  else said.code = await showStatus({ ...common, json });
  return said;
}

/** A new root as PEM. */
export async function newRoot(commonName: string): Promise<string> {
  return (await selfSigned({ commonName })).certificate;
}

export const releases = {
  debian: 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nID=debian\n',
  alpine: 'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME="Alpine Linux v3.20"\n',
  fedora: 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=41\nPRETTY_NAME="Fedora Linux 41"\n',
  suse: 'NAME="openSUSE Leap"\nID="opensuse-leap"\nID_LIKE="suse opensuse"\nPRETTY_NAME="openSUSE Leap 15.6"\n',
};

/** Alpine's program joins every file that has no dot in front, as it is (update-ca.c of alpinelinux/ca-certificates). */
export function alpineMachine(): Scratch {
  const machine = scratch('linux', releases.alpine);
  machine.write('etc/ssl/certs/ca-certificates.crt', '');
  machine.program(
    'update-ca-certificates',
    'cat /dev/null "$ROOT"/usr/local/share/ca-certificates/* > "$ROOT/etc/ssl/certs/ca-certificates.crt" 2>/dev/null || true\n',
  );
  return machine;
}
