import { expect, test } from 'vitest';
import type { TransferMessage } from '../../../../src/node/link.ts';
import { Broker } from '../../../../src/node/page/broker.ts';
import { type TransferPlace, transfersIn } from '../../../../src/node/transfer/open-transfers.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { WELCOME } from '../fake-socket.ts';

const QUERY = 'disaggregation-mode=decode';

async function opened(browser: Partial<TransferPlace>) {
  const sent: TransferMessage[] = [];
  const hellos: (string | Uint8Array)[] = [];
  const clock = new FakeClock();
  const place: TransferPlace = {
    query: QUERY,
    clock,
    random: () => 0,
    bulk: (listener) => {
      queueMicrotask(() => listener.opened());
      return { bufferedAmount: 0, send: (message) => hellos.push(message), close: () => {} };
    },
    openBroker: async () => null,
    openPeers: async () => null,
    ...browser,
  };
  const opening = transfersIn(place)(WELCOME, { sendTransfer: (message) => sent.push(message) }, () => {});
  return { opening, hellos, clock, sent };
}

function broker(): MessagePort {
  const { port1, port2 } = new MessageChannel();
  new Broker('scope-1').connect(port2);
  return port1;
}

test('X13: a browser without SharedWorker and WebRTC offers the relay alone', async () => {
  const { opening, hellos } = await opened({});
  const { transports } = await opening;
  expect(transports).toMatchObject({ role: 'decode', names: ['relay'], localScope: null });
  transports.attach(WELCOME);
  await Promise.resolve();
  expect(hellos).toEqual(['{"type":"bulk","node":"node-1","token":"secret"}']);
  transports.close();
});

test('X13, X14: a browser that has both offers all, with the scope of its broker; signals go through the link', async () => {
  const { port1, port2 } = new MessageChannel();
  const { opening, sent } = await opened({ openBroker: async () => broker(), openPeers: async () => port2 });
  const { transports } = await opening;
  expect(transports.names).toEqual(['local', 'relay', 'webrtc']);
  expect(transports.localScope).toBe('scope-1');
  port1.postMessage({ type: 'signal', transfer: 't', data: 'hello' });
  await expect.poll(() => sent).toEqual([{ type: 'signal', transfer: 't', data: 'hello' }]);
  transports.close();
  port1.close();
});

test('a broker that says nothing is none', async () => {
  const { port1, port2 } = new MessageChannel();
  const { opening, clock } = await opened({ openBroker: async () => port1 });
  // What hashes are made of is compiled before, which takes a while on a busy machine.
  await expect.poll(() => clock.pending).toBe(1);
  clock.advance(3000);
  expect((await opening).transports.names).toEqual(['relay']);
  port1.close();
  port2.close();
});

test('X15: a node of role agg opens nothing', async () => {
  const asked: string[] = [];
  const { opening } = await opened({
    query: '',
    openBroker: async () => {
      asked.push('broker');
      return null;
    },
  });
  expect((await opening).transports).toMatchObject({ role: 'agg', names: [] });
  expect(asked).toEqual([]);
});

test('transports are those of --kv-transfer-config, in its order', async () => {
  const config = { kv_connector: 'QuireConnector', kv_connector_extra_config: { transports: ['relay', 'local'] } };
  const query = `${QUERY}&kv-transfer-config=${encodeURIComponent(JSON.stringify(config))}`;
  const { opening } = await opened({ query, openBroker: async () => broker() });
  const { transports } = await opening;
  expect(transports.names).toEqual(['relay', 'local']);
  transports.close();
});
