import { defineConfig } from 'vitest/config';

const last = 'test/secrets/whole-suite.test.ts';

export default defineConfig({
  test: {
    pool: 'forks',
    // Each integration test brings up a cloud of its own: more than the cores at once only makes them slow.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    globalSetup: ['test/secrets/global-setup.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'suite',
          include: ['test/**/*.test.ts'],
          exclude: [last],
          setupFiles: ['test/secrets/recorder.ts'],
        },
      },
      // Searches what all the others wrote.
      { extends: true, test: { name: 'secrets', include: [last], sequence: { groupOrder: 1 } } },
    ],
  },
});
