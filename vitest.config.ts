import { defineConfig } from 'vitest/config';

/**
 * How long something awaited may take before it counts as failed: a machine with much else to do, or a slow one, takes its time, and no
 * test passes sooner for a shorter bound. vitest's own bounds are 1 and 10 seconds.
 */
const patient = { expect: { poll: { timeout: 60_000 } }, hookTimeout: 120_000, testTimeout: 120_000 };

export default defineConfig({
  test: {
    projects: [
      { test: { ...patient, name: 'unit', include: ['test/unit/**/*.test.ts'], environment: 'node' } },
      {
        test: {
          name: 'gpu',
          include: ['test/gpu/**/*.test.ts'],
          environment: 'node',
          pool: 'forks',
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'interop',
          include: ['test/interop/**/*.test.ts'],
          environment: 'node',
          pool: 'forks',
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      { test: { ...patient, name: 'cluster', include: ['test/cluster/**/*.test.ts'], environment: 'node' } },
    ],
  },
});
