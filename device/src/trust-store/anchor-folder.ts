import { constants } from 'node:fs';
import { access, readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GatepostDeviceError, systemCode } from '../errors.ts';
import { at, hasProgram, type Machine } from './machine.ts';
import type { Step } from './steps.ts';
import { bySha256, isMark, markedCertificate, markOf, type OwnRoot, type TrustStore, toPem } from './store.ts';

/** How every Linux does it: files in a folder, and a program that makes one bundle of them. */
export interface AnchorFolder {
  system: string;
  folder: string;
  /** The bundle that the program writes; the first of these that is there. */
  bundles: string[];
  refresh: string[];
  /** Where taking away needs another call than adding. */
  refreshAfterRemoval?: string[];
  /** What installs the program. */
  install: string;
}

export function anchorFolder(machine: Machine, options: AnchorFolder): TrustStore {
  const folder = at(machine, options.folder);
  const bundles = options.bundles.map((path) => at(machine, path));
  return {
    system: options.system,
    reads: bundles.join(' or '),
    shell: 'sh',
    ready: () => ready(machine, folder, options),
    ours: () => ours(folder),
    trusted: async () => bySha256(await firstOf(bundles)),
    add: async (roots) => [
      ...roots.map(
        (root): Step => ({ kind: 'write', path: join(folder, `${markOf(root)}.crt`), content: toPem(root) }),
      ),
      refresh(options.refresh),
    ],
    remove: async (roots) => [
      ...roots.map(({ mark }): Step => ({ kind: 'delete', path: mark })),
      refresh(options.refreshAfterRemoval ?? options.refresh),
    ],
  };
}

function refresh([command = '', ...parameters]: string[]): Step {
  return { kind: 'run', command, parameters };
}

async function ready(machine: Machine, folder: string, { system, refresh, install }: AnchorFolder): Promise<void> {
  const [program = ''] = refresh;
  if (!(await hasProgram(machine, program))) {
    throw new GatepostDeviceError(
      'trust_store_unknown',
      `${program} is not installed, so the store of ${system} cannot be changed: ${install}.`,
    );
  }
  if (await isWritable(folder)) return;
  throw new GatepostDeviceError(
    'trust_not_permitted',
    `${folder} may not be written by this user, nothing was changed: run it again as root (sudo). ` +
      'A program of your own needs no root: gatepost-device trust install --app.',
  );
}

/** Of a folder that is not there yet, the nearest one above it counts. */
async function isWritable(folder: string): Promise<boolean> {
  try {
    await access(folder, constants.W_OK | constants.X_OK);
    return true;
  } catch (error) {
    return systemCode(error) === 'ENOENT' && folder !== dirname(folder) ? isWritable(dirname(folder)) : false;
  }
}

async function ours(folder: string): Promise<OwnRoot[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
  const marked = names.filter((name) => name.endsWith('.crt') && isMark(name.slice(0, -4))).sort();
  return Promise.all(
    marked.map(async (name) => {
      const mark = join(folder, name);
      return { mark, certificate: markedCertificate(name.slice(0, -4), await readFile(mark, 'utf8')) };
    }),
  );
}

async function firstOf(paths: string[]): Promise<string> {
  for (const path of paths) {
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
  }
  // No bundle at all: nothing is trusted yet.
  return '';
}
