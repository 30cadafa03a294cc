import { parentPort, type TransferListItem } from 'node:worker_threads';
import { Matching } from '../../src/node/grammar/matching.ts';
import type { GrammarRequest } from '../../src/node/grammar/messages.ts';

const port = parentPort;
if (port === null) throw new Error('this is a thread');
const matching = new Matching((reply, transfer) => port.postMessage(reply, transfer as unknown as TransferListItem[]));
port.on('message', (request: GrammarRequest) => {
  matching.take(request).catch((error: unknown) => {
    setTimeout(() => {
      throw error;
    });
  });
});
