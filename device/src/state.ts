import { chmod, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type OnboardingDocument, parseDocument, rootsPem } from './document.ts';
import { GatepostDeviceError, reasonOf, systemCode } from './errors.ts';

/** Where the trust came from, kept so that it can be refreshed from the same place. Holds no secret. */
export interface Origin {
  api: string | null;
  rootSha256: string | null;
  joinedAt: string;
  /** The trust bundle that stands, where it came after the join. */
  trust?: { sequence: number; installedAt: string };
}

export interface StoreOptions {
  document: OnboardingDocument;
  origin: Origin;
}

const documentFile = 'document.json';
const rootsFile = 'roots.pem';
const originFile = 'origin.json';

/** The PEM file that {@link storeDocument} writes beside the document, for SDKs that take a path. */
export function rootsPath(folder: string): string {
  return join(folder, rootsFile);
}

/**
 * Reads the onboarding document of a state folder and checks it as if it were new.
 * Throws `state_missing` where there is none and `state_invalid` where it is damaged or readable by others.
 */
export async function readDocument(folder: string): Promise<OnboardingDocument> {
  const path = join(folder, documentFile);
  let text: string;
  try {
    await checkOwnerOnly(path);
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof GatepostDeviceError) throw error;
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') {
      throw new GatepostDeviceError(
        'state_missing',
        `${folder} holds no onboarding document: run gatepost-device join.`,
      );
    }
    throw new GatepostDeviceError('state_invalid', `${path} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
  try {
    return parseDocument(JSON.parse(text));
  } catch (error) {
    const what = error instanceof SyntaxError ? 'it is not JSON' : reasonOf(error);
    throw new GatepostDeviceError('state_invalid', `${path} is damaged: ${what} Join again.`, { cause: error });
  }
}

/**
 * Makes the folder (0700) and proves that it can be written, so that a one-time token is not spent in vain.
 * Throws `state_unwritable`.
 */
export async function prepareFolder(folder: string): Promise<void> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await chmod(folder, 0o700);
    const probe = join(folder, `.probe.${process.pid}`);
    await (await open(probe, 'wx', 0o600)).close();
    await rm(probe);
  } catch (error) {
    throw new GatepostDeviceError('state_unwritable', `${folder} cannot be written: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * Stores a checked document, its roots as one PEM file, and where they came from: owner-only files, each written to a
 * draft, synced and renamed, the document last, since it is the one that is read back.
 * Throws `sequence_lower` where the stored document knows a newer bundle, and `state_unwritable`.
 */
export async function storeDocument(folder: string, { document, origin }: StoreOptions): Promise<void> {
  await refuseLowerSequence(folder, document.trust.sequence);
  await prepareFolder(folder);
  try {
    await writeAtomically(folder, rootsFile, rootsPem(document.trust));
    await writeAtomically(folder, originFile, `${JSON.stringify(origin, null, 2)}\n`);
    await writeAtomically(folder, documentFile, `${JSON.stringify(document, null, 2)}\n`);
  } catch (error) {
    throw new GatepostDeviceError('state_unwritable', `${folder} cannot be written: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/**
 * Stores a document over the one that is there, in the same order and as safely. `installedAt` says when its trust
 * bundle came, where that is another one. Throws `sequence_lower` and `state_unwritable`.
 */
export async function updateDocument(
  folder: string,
  document: OnboardingDocument,
  installedAt?: string,
): Promise<void> {
  const known = await readOrigin(folder);
  const origin = known ?? { api: null, rootSha256: null, joinedAt: new Date(0).toISOString() };
  const trust = installedAt === undefined ? {} : { trust: { sequence: document.trust.sequence, installedAt } };
  await storeDocument(folder, { document, origin: { ...origin, ...trust } });
}

/** Where the document of a state folder came from; undefined where that is not known. */
export async function readOrigin(folder: string): Promise<Origin | undefined> {
  try {
    const origin = JSON.parse(await readFile(join(folder, originFile), 'utf8')) as Partial<Origin> | null;
    if (typeof origin?.joinedAt !== 'string') return undefined;
    return { ...origin, api: origin.api ?? null, rootSha256: origin.rootSha256 ?? null, joinedAt: origin.joinedAt };
  } catch {
    return undefined;
  }
}

/** Throws `sequence_lower` where `folder` already holds a newer trust bundle than `sequence`: an old bundle is a replay. */
export async function refuseLowerSequence(folder: string, sequence: number): Promise<void> {
  const stored = await storedDocument(folder);
  if (stored === undefined || sequence >= stored.trust.sequence) return;
  throw new GatepostDeviceError(
    'sequence_lower',
    `The trust bundle has sequence ${sequence}, but ${folder} already holds ${stored.trust.sequence}: an older bundle is not installed. ` +
      'If the backend was set up anew, remove that folder and join again.',
  );
}

/** What is stored, or undefined where nothing usable is: a damaged document must not stop a device from joining again. */
export async function storedDocument(folder: string): Promise<OnboardingDocument | undefined> {
  try {
    return await readDocument(folder);
  } catch (error) {
    if (error instanceof GatepostDeviceError && error.code.startsWith('state_')) return undefined;
    throw error;
  }
}

/** POSIX modes only: Windows has access lists, and the folder inherits those of the user's profile. */
async function checkOwnerOnly(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const { mode } = await stat(path);
  if ((mode & 0o077) === 0) return;
  throw new GatepostDeviceError(
    'state_invalid',
    `${path} holds a credential and others may read it (mode ${(mode & 0o777).toString(8)}): chmod 600 it, or roll the key and join again.`,
  );
}

/** Writes an owner-only file by way of a draft: whoever reads sees the old content or the new. */
export async function writeAtomically(folder: string, name: string, content: string): Promise<void> {
  const path = join(folder, name);
  const draft = `${path}.${process.pid}.tmp`;
  try {
    const file = await open(draft, 'w', 0o600);
    try {
      await file.chmod(0o600);
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, path);
    await syncFolder(folder);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

/** Makes the rename itself durable; Windows cannot open a folder for that and does not need it. */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
