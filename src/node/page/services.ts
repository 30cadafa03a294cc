import { transfer } from 'comlink';
import { systemClock } from '../../protocol/clock.ts';
import type { PageServices } from '../worker-api.ts';
import { Peers } from './peers.ts';

/** What this page does for its worker. */
export const pageServices: PageServices = {
  openBroker() {
    if (typeof SharedWorker === 'undefined') return null;
    const { port } = new SharedWorker(new URL('./broker-worker.ts', import.meta.url), {
      type: 'module',
      name: 'quire',
    });
    return transfer(port, [port]);
  },
  openPeers() {
    if (typeof RTCPeerConnection === 'undefined') return null;
    const { port1, port2 } = new MessageChannel();
    new Peers(port1, systemClock);
    return transfer(port2, [port2]);
  },
};
