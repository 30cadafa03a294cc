/** Entry of the SharedWorker that all pages of one origin and browser profile share. */
import { Broker } from './broker.ts';

const broker = new Broker(crypto.randomUUID());

addEventListener('connect', (event) => {
  const [port] = (event as MessageEvent).ports;
  if (port) broker.connect(port);
});
