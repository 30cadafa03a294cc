import type { GrammarReply, StartGrammarThread } from './messages.ts';

/** Matches grammars in a worker, whose script is loaded with its first start. */
export const startGrammarWorker: StartGrammarThread = (reply, broken) => {
  const worker = new Worker(new URL('./grammar-worker.ts', import.meta.url), { type: 'module', name: 'grammars' });
  worker.onmessage = ({ data }: MessageEvent<GrammarReply>) => reply(data);
  worker.onerror = ({ message }) => broken(message || 'its script could not be loaded');
  return { post: (request) => worker.postMessage(request), end: () => worker.terminate() };
};
