import { accessSync, constants, statSync } from 'node:fs';
import { chromium } from 'playwright';
import type { Machine } from './find-chromium.ts';

/** The machine that this process runs on. */
export const thisMachine: Machine = {
  env: process.env,
  platform: process.platform,
  isExecutable(file) {
    try {
      accessSync(file, constants.X_OK);
      return statSync(file).isFile();
    } catch {
      return false;
    }
  },
  playwrightPath: () => chromium.executablePath(),
};

/** Chromium's sandbox does not work for root, and only then is it switched off. */
export const isRoot: boolean = process.getuid?.() === 0;
