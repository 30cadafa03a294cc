import { createRequire } from 'node:module';
import { tsImport } from 'tsx/esm/api';

// The Playwright that runs the test, not one that may lie beside this package: two in one process refuse each other.
const { expect, test: base } = createRequire(process.argv[1])('playwright/test');
// Quire runs from its sources, and Node leaves the types of installed packages in.
const { quireFixtures } = await tsImport('./fixtures.ts', import.meta.url);

export const test = base.extend(quireFixtures);
export { expect };
