import type { Page } from '@playwright/test';

/** Drops files (name, contents as base64) onto the page, as a person does from a file manager. */
export async function dropFiles(
  page: Page,
  files: readonly (readonly [name: string, base64: string])[],
): Promise<void> {
  await page.evaluate((given) => {
    const transfer = new DataTransfer();
    for (const [name, base64] of given)
      transfer.items.add(new File([Uint8Array.from(atob(base64), (c) => c.charCodeAt(0))], name));
    const target = document.querySelector('h1') ?? document.body;
    target.dispatchEvent(new DragEvent('dragover', { dataTransfer: transfer, bubbles: true, cancelable: true }));
    target.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }, files);
}
