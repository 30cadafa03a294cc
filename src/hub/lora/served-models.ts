import type { Backend, ServedModel } from '../../frontend/backend.ts';
import type { ServedLora } from './lora-desk.ts';

/** What the API serves: the models, then the LoRA adapters that are there now, each as a model with the one it belongs to as its parent. */
export function servedModels(
  models: readonly ServedModel[],
  adapters: () => readonly ServedLora[],
  backend: (base: ServedModel, adapter: ServedLora) => Backend,
): () => readonly ServedModel[] {
  // As long as an adapter is the same one, so is its model.
  let known = new Map<ServedLora, ServedModel>();
  return () => {
    const now = new Map<ServedLora, ServedModel>();
    for (const adapter of adapters()) {
      const base = models.find(({ name }) => name === adapter.base);
      if (base === undefined) continue;
      const fresh = () => ({
        ...base,
        name: adapter.name,
        parent: base.name,
        created: Math.floor(Date.now() / 1000),
        backend: backend(base, adapter),
      });
      now.set(adapter, known.get(adapter) ?? fresh());
    }
    known = now;
    return [...models, ...now.values()];
  };
}
