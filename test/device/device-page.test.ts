import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import manifest from '../../device/package.json' with { type: 'json' };
import { execute } from './program.ts';

const page = readFileSync('docs/device.md', 'utf8');

/** Every call of the program on the page: the command and the options that follow it. */
function calls(): { command: string; options: string[] }[] {
  const text = page.replace(/\n(?=[a-z./-])/g, ' ');
  return [...text.matchAll(/gatepost-device (?:\n\s*)?([a-z]+)((?: [^`'\n|]*)?)/g)].map(
    ([, command = '', rest = '']) => ({
      command,
      options: rest.split(/ #/)[0]?.match(/--[a-z0-9-]+/g) ?? [],
    }),
  );
}

test('every command and option on the page for device engineers is one that the program has', async () => {
  const found = calls();
  const commands = [...new Set(found.map(({ command }) => command))];
  expect(commands).toEqual(expect.arrayContaining(['join', 'run', 'trust', 'check']));
  for (const name of commands) {
    const { code, stdout } = await execute([name, '--help']);
    expect([name, code]).toEqual([name, 0]);
    const options = found.filter(({ command }) => command === name).flatMap((call) => call.options);
    expect(options.filter((option) => !stdout.includes(option))).toEqual([]);
  }
});

test('the page names the package as it is, and links lead somewhere', () => {
  const packages = new Set(page.match(/gatepost-device-[\d.]+\.tgz/g));
  expect([...packages]).toEqual([`gatepost-device-${manifest.version}.tgz`]);
  for (const [, target = ''] of page.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) {
    expect([target, existsSync(join('docs', target))]).toEqual([target, true]);
  }
});
