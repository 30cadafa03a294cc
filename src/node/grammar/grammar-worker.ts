/** Entry of the worker that matches grammars for the engine of a page. */
import { Matching } from './matching.ts';
import type { GrammarRequest } from './messages.ts';

const scope = globalThis as unknown as DedicatedWorkerGlobalScope;
const matching = new Matching((reply, transfer) => scope.postMessage(reply, transfer));

scope.onmessage = ({ data }: MessageEvent<GrammarRequest>) => {
  matching.take(data).catch((error: unknown) => {
    // Uncaught, it tells the worker's owner.
    setTimeout(() => {
      throw error;
    });
  });
};
