import type { Page } from '@playwright/test';
import { changedPage } from './changed-page.ts';

/** Keeps the devices that the page's worker opens within a test's reach. */
const KEEP_DEVICES = `const request = GPUAdapter.prototype.requestDevice;
globalThis.devices = [];
GPUAdapter.prototype.requestDevice = async function (...args) {
  const device = await request.apply(this, args);
  devices.push(device);
  return device;
};`;

/** The built page, whose device `loseDevice` can take away. */
export const losablePage = (folder: string): Promise<string> =>
  changedPage(folder, (script) => `${KEEP_DEVICES}\n${script}`);

/** Destroys the device that the page's worker opened last. */
export const loseDevice = (page: Page): Promise<void> =>
  page.workers()[0]!.evaluate(() => (globalThis as unknown as { devices: GPUDevice[] }).devices.at(-1)!.destroy());
