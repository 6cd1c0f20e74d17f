import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { prepareFolder, readDocument, storeDocument } from '../../device/src/state.ts';
import { defaultStateFolder } from '../../device/src/state-folder.ts';
import { gatewayPki, onboardingDocument, temporaryFolder } from './support.ts';

const { root } = await gatewayPki();
const document = (sequence: number) => onboardingDocument({ roots: [root.certificate], port: 8883, sequence });
const origin = { api: 'https://gatepost.example/', rootSha256: 'ab', joinedAt: '2026-01-01T00:00:00.000Z' };
const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);

test('what is stored is read back, and only its owner can read it', async () => {
  const folder = join(temporaryFolder(), 'a', 'b');
  await storeDocument(folder, { document: document(7), origin });
  expect(await readDocument(folder)).toEqual(document(7));
  expect(mode(folder)).toBe('700');
  expect(readdirSync(folder).sort()).toEqual(['document.json', 'origin.json', 'roots.pem']);
  for (const file of readdirSync(folder)) expect(mode(join(folder, file))).toBe('600');
  expect(readFileSync(join(folder, 'roots.pem'), 'utf8').trim()).toBe(root.certificate.trim());
  expect(JSON.parse(readFileSync(join(folder, 'origin.json'), 'utf8'))).toEqual(origin);
});

test('a folder and files that were open to others are closed to them', async () => {
  const folder = temporaryFolder();
  chmodSync(folder, 0o777);
  writeFileSync(join(folder, 'roots.pem'), 'old', { mode: 0o666 });
  await storeDocument(folder, { document: document(7), origin });
  expect(mode(folder)).toBe('700');
  expect(mode(join(folder, 'roots.pem'))).toBe('600');
});

test('an older bundle is refused and changes nothing; the same and a newer one replace it', async () => {
  const folder = temporaryFolder();
  await storeDocument(folder, { document: document(7), origin });
  const before = readFileSync(join(folder, 'document.json'));
  const older = storeDocument(folder, { document: document(6), origin });
  await expect(older).rejects.toMatchObject({ code: 'sequence_lower', exitCode: 12 });
  expect(readFileSync(join(folder, 'document.json'))).toEqual(before);
  await storeDocument(folder, { document: document(7), origin });
  await storeDocument(folder, { document: document(8), origin });
  expect((await readDocument(folder)).trust.sequence).toBe(8);
});

test('a write that fails half-way leaves the stored document whole and no draft behind', async () => {
  const folder = temporaryFolder();
  await storeDocument(folder, { document: document(7), origin });
  // A rename cannot replace a folder.
  rmSync(join(folder, 'origin.json'));
  mkdirSync(join(folder, 'origin.json'));
  const failing = storeDocument(folder, { document: document(8), origin });
  await expect(failing).rejects.toMatchObject({ code: 'state_unwritable' });
  expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  expect((await readDocument(folder)).trust.sequence).toBe(7);
});

test('a folder that was never filled says what to do', async () => {
  const missing = readDocument(join(temporaryFolder(), 'nothing'));
  await expect(missing).rejects.toMatchObject({ code: 'state_missing', message: expect.stringMatching(/join/) });
});

test('a damaged document is named as such, and joining again heals it', async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'document.json'), '{"device":', { mode: 0o600 });
  await expect(readDocument(folder)).rejects.toMatchObject({ code: 'state_invalid', exitCode: 3 });
  await storeDocument(folder, { document: document(1), origin });
  expect((await readDocument(folder)).trust.sequence).toBe(1);
});

test('a document that others may read is not used', async () => {
  const folder = temporaryFolder();
  await storeDocument(folder, { document: document(7), origin });
  chmodSync(join(folder, 'document.json'), 0o644);
  await expect(readDocument(folder)).rejects.toMatchObject({
    code: 'state_invalid',
    message: expect.stringMatching(/644/),
  });
});

test('a folder that cannot be made says so before anything else is done', async () => {
  const file = join(temporaryFolder(), 'file');
  writeFileSync(file, '');
  await expect(prepareFolder(join(file, 'state'))).rejects.toMatchObject({ code: 'state_unwritable' });
});

test('the folder is the environment’s, where it says', () => {
  expect(defaultStateFolder({ GATEPOST_STATE: '/somewhere' })).toBe('/somewhere');
});
