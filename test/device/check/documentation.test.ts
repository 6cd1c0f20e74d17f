import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checkCodes, codesByCheck } from '../../../device/src/check/codes.ts';
import { checkNames } from '../../../device/src/check/context.ts';
import { checkHelp } from '../../../device/src/check/help.ts';
import { deviceDocs } from '../../../scripts/device-docs.ts';

test.each(Object.entries(deviceDocs()))('%s is what "node scripts/device-docs.ts" makes of the codes', (path, text) => {
  expect(readFileSync(path, 'utf8')).toBe(text);
});

test('no two checks share a code', () => {
  const all = Object.values(codesByCheck).flatMap((codes) => Object.keys(codes));
  expect(all).toHaveLength(Object.keys(checkCodes).length);
});

test('every code is one sentence of cause, one of cure, and a command', () => {
  for (const [code, { cause, cure, command }] of Object.entries(checkCodes)) {
    expect(code).toMatch(/^[a-z0-9]+(_[a-z0-9]+)+$/);
    for (const sentence of [cause, cure]) {
      expect(sentence).toMatch(/[.}]$/);
      // A full stop within a name or a number ends no sentence.
      expect(sentence.slice(0, -1)).not.toMatch(/\. [A-Z]/);
    }
    expect(command).not.toBe('');
  }
});

test('every code is named by a test that breaks what it is about', () => {
  const folder = join('test', 'device', 'check');
  const files = readdirSync(folder).filter((file) => file.endsWith('.test.ts') && file !== 'documentation.test.ts');
  const tests = files.map((file) => readFileSync(join(folder, file), 'utf8')).join('\n');
  const unproven = Object.keys(checkCodes).filter((code) => !tests.includes(`'${code}'`));
  expect(unproven).toEqual([]);
});

test('the help names every check, and is no wider than a terminal', () => {
  const help = checkHelp('/var/lib/gatepost-device');
  for (const name of checkNames) expect(help).toMatch(new RegExp(`^  ${name} `, 'm'));
  expect(help.split('\n').filter((line) => line.length > 80)).toEqual([]);
});
