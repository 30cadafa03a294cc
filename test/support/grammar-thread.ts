import { Worker } from 'node:worker_threads';
import type { GrammarReply, StartGrammarThread } from '../../src/node/grammar/messages.ts';

/** Matches grammars in a thread of Node's, as a page does in a worker. */
export const startGrammarThread: StartGrammarThread = (reply, broken) => {
  const worker = new Worker(new URL('./grammar-thread-entry.mjs', import.meta.url), { execArgv: [] });
  worker.unref();
  worker.on('message', (message: GrammarReply) => reply(message));
  worker.on('error', (error) => broken(error.message));
  return { post: (request) => worker.postMessage(request), end: () => void worker.terminate() };
};
