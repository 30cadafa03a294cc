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

/** Destroys the device that the page's node opened last. (A page has a worker for grammars too.) */
export async function loseDevice(page: Page): Promise<void> {
  const node = page.workers().find((worker) => /\/worker-[^/]*$/.test(worker.url()));
  if (node === undefined) throw new Error(`The page's node has no worker among ${page.workers().length}.`);
  await node.evaluate(() => (globalThis as unknown as { devices: GPUDevice[] }).devices.at(-1)!.destroy());
}
