import { defineConfig } from '@playwright/test';

/** Tests drive the browser themselves (test/e2e/fixture.ts): a hub each, and headless nodes on a software adapter. */
export default defineConfig({
  testDir: 'test/e2e',
  globalSetup: './scripts/e2e-setup.ts',
  workers: 1,
  retries: 0,
  forbidOnly: true,
  reporter: [['list'], ['json', { outputFile: 'test-results/e2e.json' }]],
  outputDir: 'test-results/e2e',
  timeout: 240_000,
  expect: { timeout: 60_000 },
});
