import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';

const found = spawnSync('bicep', ['--version'], { encoding: 'utf8' });
const version = found.error === undefined ? found.stdout.trim() : undefined;

// The compiler is no npm package: GitHub's machines have it, and `az bicep install` brings it.
describe.skipIf(version === undefined)(`the Bicep compiler (${version ?? 'not on this machine'})`, () => {
  it.each(['build', 'lint'])(
    'has nothing to say about the templates: %s',
    (command) => {
      const args = command === 'build' ? ['build', 'infra/main.bicep', '--stdout'] : ['lint', 'infra/main.bicep'];
      const { status, stderr } = spawnSync('bicep', args, { encoding: 'utf8' });
      expect({ status, stderr: stderr.trim() }).toEqual({ status: 0, stderr: '' });
    },
    120_000,
  );
});
