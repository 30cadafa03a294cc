import { useEffect, useRef } from 'preact/hooks';
import type { Controller } from './controller.ts';
import { pickedFrom, pickedFromDrop } from './picked-files.ts';
import { canOpen, dragged, openProblem } from './state.ts';

/** Opens a model of files of this device: dropped anywhere on the page, or chosen. */
export function OpenModel({ controller }: { controller: Controller }) {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  useEffect(() => listenForDrops(controller), [controller]);
  useEffect(() => folder.current?.setAttribute('webkitdirectory', ''), []);
  const chosen = ({ currentTarget: input }: { currentTarget: HTMLInputElement }) => {
    const picked = pickedFrom(input.files ?? []);
    // The same files may be chosen again, for another try.
    input.value = '';
    if (picked.files.length > 0) void controller.openModel(picked);
  };
  return (
    <section
      class="open-model"
      aria-labelledby="open-title"
      data-testid="open-model"
      data-state={dragged.value}
      hidden={!canOpen.value && openProblem.value === null}
    >
      <h3 id="open-title">A model of your own</h3>
      {openProblem.value !== null && (
        <p class="warn" role="alert" data-testid="open-problem">
          {openProblem.value}
        </p>
      )}
      {canOpen.value && (
        <>
          <p class="quiet">
            Drop the folder of a model onto this page (config.json, tokenizer.json, *.safetensors) or a GGUF file, or
            choose it. It runs here, for this page alone; nothing of it is sent anywhere.
          </p>
          <p class="choices">
            <button type="button" class="small" onClick={() => files.current?.click()}>
              Choose files …
            </button>
            {'webkitdirectory' in HTMLInputElement.prototype && (
              <button type="button" class="small" onClick={() => folder.current?.click()}>
                Choose a folder …
              </button>
            )}
          </p>
        </>
      )}
      <input ref={files} type="file" multiple hidden data-testid="model-files" onChange={chosen} />
      <input ref={folder} type="file" multiple hidden data-testid="model-folder" onChange={chosen} />
    </section>
  );
}

/** The whole page takes drops: a file that misses a small target would be opened in its place. Returns how to end it. */
function listenForDrops(controller: Controller): () => void {
  const hasFiles = (event: DragEvent) => event.dataTransfer?.types.includes('Files') ?? false;
  const over = (event: DragEvent) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    dragged.value = true;
  };
  const leave = (event: DragEvent) => {
    if (event.relatedTarget === null) dragged.value = false;
  };
  const drop = (event: DragEvent) => {
    if (!hasFiles(event) || event.dataTransfer === null) return;
    event.preventDefault();
    dragged.value = false;
    pickedFromDrop(event.dataTransfer).then(
      (picked) => controller.openModel(picked),
      (error: unknown) => controller.refuseModel(error instanceof Error ? error.message : String(error)),
    );
  };
  const ending = new AbortController();
  window.addEventListener('dragover', over, ending);
  window.addEventListener('dragleave', leave, ending);
  window.addEventListener('drop', drop, ending);
  return () => ending.abort();
}
